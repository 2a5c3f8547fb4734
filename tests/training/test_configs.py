"""The configurations that are shipped: each parses, and its denoiser is one that can be built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from training.fit_denoiser import learning_rates
from training.initial import initial_denoiser, merged_denoiser_config

from egowm_core import load_embodiment
from egowm_core.adapt import adapt_backbone
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.registry import build_denoiser, denoiser_config
from egowm_core.saving import save_world_model
from tests.fixtures.tiny_pipelines import save_tiny_pipeline
from training.config import TrainConfig, load_train_config, read_yaml
from training.variants import load_comparison

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
RUNS = sorted(path.name for path in CONFIGS.glob("*.yaml") if "variants" not in read_yaml(path))
COMPARISONS = sorted(path.name for path in CONFIGS.glob("*.yaml") if "variants" in read_yaml(path))
PAPER = {"svd_base_3dof.yaml": ("svd", (32, 48), 8, 1e-5), "cosmos_base_3dof.yaml": ("cosmos", (32, 48), 16, 1e-6)}


def resolves(config: TrainConfig) -> AdapterConfig:
    return denoiser_config(merged_denoiser_config(config))[1]


def test_there_are_configurations_of_both_kinds() -> None:
    assert {*PAPER, "base_3dof.yaml"} <= set(RUNS) and COMPARISONS


@pytest.mark.parametrize("name", [name for name in RUNS if name not in PAPER])
def test_runs_parse_and_their_denoiser_can_be_built(name: str) -> None:
    config = load_train_config(CONFIGS / name)
    fields = resolves(config)
    assert build_denoiser(config.denoiser, load_embodiment("base_3dof")).config == fields


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_variant_of_a_comparison_resolves(name: str) -> None:
    comparison = load_comparison(CONFIGS / name)
    assert {row.variant for row in comparison.rows} <= set(comparison.variants)
    for config in comparison.variants.values():
        fields = denoiser_config(config.denoiser)[1]  # a parent's section is merged already; its checkpoint isn't here
        assert (fields.latent_channels, fields.latent_height) == (64, 6)


@pytest.mark.parametrize("name", PAPER)
def test_fine_tuning_starts_from_an_adapted_backbone_at_the_published_settings(name: str, tmp_path: Path) -> None:
    """With a tiny backbone in place of the released one; sizes and lengths come from the checkpoint."""
    backbone, size, horizon, rate = PAPER[name]
    robot = load_embodiment("base_3dof").with_camera_size(*size)
    source = save_tiny_pipeline(tmp_path / "tiny", backbone)
    model = adapt_backbone(backbone, robot, source=source, text="zeros", horizon=horizon)
    save_world_model(model, tmp_path / "adapted", card="")
    config = load_train_config(CONFIGS / name)
    assert config.bf16 and config.denoiser_run.gradient_checkpointing
    assert (config.sampling.sigma_min, config.sampling.sigma_max) == (model.plan.sigma_min, model.plan.sigma_max)
    assert config.sampling.num_denoising_steps == model.plan.num_denoising_steps
    config = replace(config, denoiser_run=replace(config.denoiser_run, init_from=str(tmp_path / "adapted")))
    assert resolves(config) == model.denoiser.config
    denoiser = initial_denoiser(config, robot)
    assert denoiser.config.horizon * denoiser.config.temporal_factor == horizon
    groups = learning_rates(denoiser, config.denoiser_run)
    assert [group["lr"] for group in groups] == pytest.approx([rate, 10 * rate])
