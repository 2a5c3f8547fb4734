"""The configurations that are shipped: each parses, fits its robot and its autoencoder, and says how to be started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from egowm_core import load_embodiment
from egowm_core.adapt import adapt_backbone
from egowm_core.checkpoint import load_checkpoint
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.registry import build_denoiser, denoiser_config
from egowm_core.models.vae import FrameAutoencoder, vae_config_from_dict
from egowm_core.saving import save_world_model
from tests.fixtures.tiny_pipelines import save_tiny_pipeline
from training.config import TrainConfig, load_train_config, read_yaml
from training.fit.denoiser import learning_rates
from training.fit.initial import initial_denoiser, merged_denoiser_config
from training.fit.objective import Objective
from training.variants import load_comparison

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
COMPARISONS = sorted(path.name for path in CONFIGS.glob("*.yaml") if "variants" in read_yaml(path))
RUNS = sorted(path.name for path in CONFIGS.glob("*.yaml") if "denoiser_run" in read_yaml(path))
SMALL = {"base_3dof.yaml": "base_3dof", "small_base_3dof.yaml": "base_3dof", "small_humanoid_g1.yaml": "unitree_g1_26"}
SVD, COSMOS = ("svd", (32, 48), 8, 1e-5), ("cosmos", (32, 48), 16, 1e-6)
EMBEDDED = "humanoid_25dof.yaml"  # from the embedded mobile base's weights
STUDENT = "student_base_3dof.yaml"  # of the embedded mobile base
PAPER = {
    "svd_base_3dof.yaml": ("base_3dof", *SVD),
    "svd_humanoid_25dof.yaml": ("humanoid_25dof", *SVD),
    "cosmos_base_3dof.yaml": ("base_3dof", *COSMOS),
    "cosmos_humanoid_25dof.yaml": ("humanoid_25dof", *COSMOS),
}


def resolves(config: TrainConfig) -> AdapterConfig:
    return denoiser_config(merged_denoiser_config(config))[1]


def test_every_run_is_known_here() -> None:
    assert set(RUNS) == {*PAPER, *SMALL, EMBEDDED, STUDENT} and COMPARISONS


@pytest.mark.parametrize("name", RUNS)
def test_what_a_configuration_says_of_itself_is_so(name: str) -> None:
    config, text = load_train_config(CONFIGS / name), (CONFIGS / name).read_text()
    assert config.name == Path(name).stem and config.out == f"runs/{config.name}"
    assert config.denoiser_run.batch_size % config.gradient_accumulation == 0
    if name != "base_3dof.yaml":
        assert f"egowm-train training/configs/{name}" in text and "egowm-convert" in text


@pytest.mark.parametrize("name", SMALL)
def test_small_runs_fit_their_robot(name: str) -> None:
    config, robot = load_train_config(CONFIGS / name), load_embodiment(SMALL[name])
    fields = resolves(config)
    denoiser = build_denoiser(config.denoiser, robot)
    assert denoiser.config == fields
    assert (denoiser.state_encoder is not None) is bool(robot.states)
    vae, camera = FrameAutoencoder(vae_config_from_dict(config.vae)), robot.camera()
    made = (vae.latent_channels, camera.height // vae.downscale, camera.width // vae.downscale)
    assert made == (fields.latent_channels, fields.latent_height, fields.latent_width)


def test_the_humanoid_keeps_the_embedded_backbone_and_gets_an_action_path_of_its_own() -> None:
    config, robot = load_train_config(CONFIGS / EMBEDDED), load_embodiment("humanoid_25dof")
    assert not config.vae and config.denoiser_run.init_from == "embedded:base_3dof"
    base = load_checkpoint("embedded:base_3dof")
    denoiser = initial_denoiser(config, robot)
    assert denoiser.state_encoder is not None
    kept = {f"denoiser.{name}": value for name, value in denoiser.state_dict().items()}
    shared = [name for name in base.weights if name.startswith("denoiser.unet.")]
    assert shared and all(torch.equal(kept[name], base.weights[name].float()) for name in shared)


def test_the_student_is_the_embedded_model_but_for_its_sampling() -> None:
    config, base = load_train_config(CONFIGS / STUDENT), load_checkpoint("embedded:base_3dof")
    assert config.student is not None and config.student.teacher == "embedded:base_3dof" and not config.vae
    assert resolves(config) == denoiser_config(base.config["denoiser"])[1]
    trained, own = load_train_config(CONFIGS / "base_3dof.yaml"), config.sampling
    assert (own.sigma_max, own.warp) == (trained.sampling.sigma_max, trained.sampling.warp)
    assert config.denoiser_run.warp_shares == trained.denoiser_run.warp_shares


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
    embodiment, backbone, size, horizon, rate = PAPER[name]
    robot = load_embodiment(embodiment).with_camera_size(*size)
    source = save_tiny_pipeline(tmp_path / "tiny", backbone)
    model = adapt_backbone(backbone, robot, source=source, text="zeros", horizon=horizon)
    save_world_model(model, tmp_path / "adapted", card="")
    config = load_train_config(CONFIGS / name)
    assert config.bf16 and config.denoiser_run.gradient_checkpointing
    assert (config.sampling.sigma_min, config.sampling.sigma_max) == (model.plan.sigma_min, model.plan.sigma_max)
    assert config.sampling.num_denoising_steps == model.plan.num_denoising_steps
    text = (CONFIGS / name).read_text()
    assert f"--embodiment {embodiment}" in text and config.denoiser_run.init_from in text and config.dataset in text
    config = replace(config, denoiser_run=replace(config.denoiser_run, init_from=str(tmp_path / "adapted")))
    assert resolves(config) == model.denoiser.config
    denoiser = initial_denoiser(config, robot)
    assert denoiser.config.horizon * denoiser.config.temporal_factor == horizon
    assert (denoiser.state_encoder is not None) is (embodiment == "humanoid_25dof")
    groups = learning_rates(Objective(denoiser), config.denoiser_run)
    assert [group["lr"] for group in groups] == pytest.approx([rate, 10 * rate])


def test_configurations_of_accelerate_deal_out_the_published_batch() -> None:
    launches = {path.stem: yaml.safe_load(path.read_text()) for path in (CONFIGS / "accelerate").glob("*.yaml")}
    assert set(launches) == {"ddp", "fsdp", "ddp_cpu"}
    for name in PAPER:
        batch_size = load_train_config(CONFIGS / name).denoiser_run.batch_size
        assert all(batch_size % launch["num_processes"] == 0 for launch in launches.values())
    assert launches["fsdp"]["fsdp_config"]["fsdp_version"] == 2
