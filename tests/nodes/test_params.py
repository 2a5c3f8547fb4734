"""Parameters: declared with ranges, equal to the YAML files, refused with a reason."""
# ruff: noqa: E402  (the imports below need what importorskip looks for)

from __future__ import annotations

import dataclasses

import pytest
import yaml

rclpy = pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from egowm_core.errors import ConfigError, ScoreError
from egowm_nodes.drift.params import DriftMonitorParams
from egowm_nodes.launching.node_table import CONFIG_DIR
from egowm_nodes.prediction.params import WorldModelParams
from egowm_nodes.runtime import params

KINDS = {"world_model": WorldModelParams, "drift_monitor": DriftMonitorParams}
CONFIG = CONFIG_DIR


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context, args=[], domain_id=97, signal_handler_options=SignalHandlerOptions.NO)
    made = Node("declares", context=context)
    yield made
    made.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize("name", KINDS)
def test_the_yaml_file_states_every_parameter_and_its_default(name):
    text = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())
    stated = text[f"/**/{name}"]["ros__parameters"]
    defaults = {item.name: item.default for item in dataclasses.fields(KINDS[name])}
    assert stated == {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    assert {key: type(value) for key, value in stated.items() if not isinstance(value, list)} == {
        key: type(value) for key, value in defaults.items() if not isinstance(value, tuple)
    }


@pytest.mark.parametrize("name", KINDS)
def test_all_are_declared_with_a_description_and_numbers_with_a_range(node, name):
    values = params.declare(node, KINDS[name])
    assert values == KINDS[name]()
    for item in dataclasses.fields(KINDS[name]):
        descriptor = node.describe_parameter(item.name)
        assert descriptor.description and descriptor.additional_constraints
        if isinstance(item.default, (int, float)) and not isinstance(item.default, bool):
            assert descriptor.integer_range or descriptor.floating_point_range, item.name


def test_a_choice_a_contradiction_and_bad_horizons_are_refused(node):
    params.declare(node, WorldModelParams)
    with pytest.raises(ConfigError, match="image_transport is 'theora'; expected one of both, raw, compressed"):
        params.read(node, WorldModelParams, {"image_transport": "theora"})
    with pytest.raises(ScoreError, match=r"error_below 50.0 must not exceed warn_below 30.0"):
        DriftMonitorParams(warn_below=30.0, error_below=50.0)
    for horizons in ((), (4, 2), (0, 2), (2, 2)):
        with pytest.raises(ConfigError, match="ascending"):
            DriftMonitorParams(horizons=horizons)


def test_some_may_change_only_in_some_states():
    assert params.locked(WorldModelParams, ["checkpoint"], "unconfigured") is None
    assert "clean up first" in params.locked(WorldModelParams, ["checkpoint"], "inactive")
    assert params.locked(WorldModelParams, ["image_lag_s"], "inactive") is None
    assert "deactivate first" in params.locked(WorldModelParams, ["image_lag_s"], "active")
    assert params.locked(WorldModelParams, ["seed"], "active") is None


def test_a_typo_gets_the_nearest_name():
    (sentence,) = params.unknown(WorldModelParams, ["chekpoint", "use_sim_time", "qos_overrides./tf.depth", "seed"])
    assert sentence == "parameter chekpoint is unknown and has no effect; did you mean checkpoint?"
