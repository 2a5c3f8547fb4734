"""Configurations, robots and actions that make no action embedding are refused, with the value and the remedy."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch

from egowm_core.errors import ConfigError, EmbodimentError
from egowm_core.models.action_encoder import ActionEncoder, ActionEncoderConfig
from egowm_core.schema import read_fields
from tests.core.action_encoders import actions, encoder


def test_continuous_actions_are_checked_to_be_finite() -> None:
    action = actions()
    encoder().check_actions(action * 100)  # limits are the embodiment's business
    action[0, 0, 0] = math.inf
    with pytest.raises(EmbodimentError, match="not finite"):
        encoder().check_actions(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "sinusoids"}, "'sinusoids'.*did you mean 'sinusoid'"),
        ({"motion": "ticks"}, "'ticks'.*did you mean 'tick'"),
        ({"num_frequencies": 0}, "num_frequencies 0"),
        ({"hidden_dim": 0}, "hidden_dim 0"),
        ({"state_dim": -1}, "state_dim -1"),
        ({"input_scale": 0.0}, "input_scale 0"),
        ({"input_scale": math.nan}, "input_scale nan"),
        ({"temporal_downsample": 3}, "temporal_downsample 3.*power of two"),
        ({"temporal_downsample": 0}, "temporal_downsample 0"),
        ({"num_actions": 4}, "num_actions 4.*'table'"),
        ({"features": "table", "motion": "tick"}, "num_actions of at least 2"),
        ({"features": "table", "num_actions": 4}, "motion 'tick', got 'composed'"),
        ({"features": "table", "num_actions": 4, "motion": "tick", "input_scale": 2.0}, "input_scale"),
    ],
)
def test_config_errors_name_value_and_remedy(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ActionEncoderConfig(**options)


def test_config_reads_from_a_mapping() -> None:
    values = {"features": "sinusoid", "input_scale": 100, "temporal_downsample": 4}
    config = ActionEncoderConfig(**read_fields(ActionEncoderConfig, values, "action"))
    assert (config.input_scale, config.temporal_downsample, config.motion) == (100.0, 4, "composed")
    with pytest.raises(ConfigError, match="did you mean 'hidden_dim'"):
        read_fields(ActionEncoderConfig, {"hiden_dim": 4}, "action")
    assert read_fields(ActionEncoderConfig, {f.name: f.default for f in fields(ActionEncoderConfig)}, "action")


@pytest.mark.parametrize(
    ("kind", "channels", "options", "message"),
    [
        ("se33", 6, {}, "'se33'.*did you mean 'se3'"),
        ("se3", 7, {}, "se3 needs 6 channels, got 7"),
        ("se2", 6, {}, "se2 needs 3 channels, got 6"),
        ("sum", 2, {"features": "table", "motion": "tick", "num_actions": 4}, "one action channel, got 2"),
    ],
)
def test_encoders_that_cannot_fit_the_robot(kind: str, channels: int, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(kind, channels, **options)


def test_one_scale_per_channel_is_needed() -> None:
    with pytest.raises(ConfigError, match="2 values for 3"):
        ActionEncoder(action_dim=3, embedding_dim=4, scale=[1.0, 1.0], integrate_kind="se2", horizon=8)


def test_wrong_shapes_are_refused() -> None:
    model = encoder(temporal_downsample=4)
    with pytest.raises(EmbodimentError, match=r"\(B,T,3\), got \(2, 8, 4\)"):
        model(actions(4))
    with pytest.raises(EmbodimentError, match=r"6 ticks.*multiple of 4"):
        model(actions(ticks=6))
    with pytest.raises(EmbodimentError, match=r"known.*\(2, 8\).*\(2, 2\), got \(2, 4\)"):
        model(actions(), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(EmbodimentError, match="known must be bool"):
        model(actions(), torch.ones(2, 8))
