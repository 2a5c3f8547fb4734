"""Exported graphs behind the world model's contracts, in the real onnxruntime."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from egowm_core.checkpoint import FILES, HASHES, load_checkpoint, recorded_hashes, save_checkpoint
from egowm_core.diffusion.denoiser import Context
from egowm_core.errors import CheckpointError, ConfigError, RolloutError
from egowm_core.export_onnx import main
from egowm_core.latent_rollout import LatentStream, SamplingPlan, sample_chunk
from egowm_core.loading import checkpoint_autoencoder, checkpoint_denoiser, load_world_model
from egowm_core.models.adapter import BackboneDenoiser, WorldDenoiser
from egowm_core.models.conditioning import encode_context
from egowm_core.models.onnx import DECODER, DENOISER, ENCODER, OnnxAutoencoder, OnnxDenoiser
from egowm_core.models.onnx_export import export_autoencoder, export_denoiser, random_call
from egowm_core.models.onnx_graph import PROVIDERS, Graph
from egowm_core.models.vae import FrameAutoencoder, VAEConfig
from egowm_core.streaming import FrameDecoder
from egowm_core.world_model import WorldModel
from tests.core.tiny import tiny, wake
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

HORIZON = 4
SMALL = {"block_out_channels": [128], "attention_levels": [True], "num_attention_heads": 2, "context_warp": True}
GRAPHS = (DENOISER, ENCODER, DECODER)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As if trained: nothing in it is zero any more."""
    directory = save_tiny_checkpoint(tmp_path_factory.mktemp("onnx") / "tiny", horizon=HORIZON, denoiser_fields=SMALL)
    loaded = load_checkpoint(directory)
    torch.manual_seed(0)
    denoiser, vae = wake(checkpoint_denoiser(loaded)), checkpoint_autoencoder(loaded)
    assert isinstance(vae, FrameAutoencoder)
    nn.init.normal_(vae.network.decoder.conv_out.weight, std=0.02)
    weights = {f"vae.{name}": value for name, value in vae.state_dict().items()}
    weights |= {f"denoiser.{name}": value for name, value in denoiser.state_dict().items()}
    save_checkpoint(directory, replace(loaded, weights=weights))
    return directory


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    """What the command wrote; its figures are in figures.json beside it."""
    out = checkpoint.with_name("exported")
    assert main([str(checkpoint), str(out), "--json", str(out.with_name("figures.json"))]) == 0
    return out


@pytest.fixture(scope="module")
def eager(checkpoint: Path) -> WorldModel:
    return load_world_model(checkpoint, bf16=False)


@pytest.fixture(scope="module")
def model(exported: Path) -> WorldModel:
    return load_world_model(exported, engine="onnx-cpu")


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> tuple[BackboneDenoiser, OnnxDenoiser]:
    """A causal transformer whose window of 6 frames a stream soon fills."""
    denoiser = tiny("cosmos-causal", window=6, num_layers=1)
    directory = tmp_path_factory.mktemp("causal")
    export_denoiser(denoiser, directory)
    return denoiser, OnnxDenoiser(denoiser.config, Graph(directory / DENOISER))


def pictures(count: int) -> np.ndarray:
    return np.stack([made_up_picture(96, 128, seed=seed)[None] for seed in range(count)])


def moves(batch_size: int, length: int, seed: int = 0) -> np.ndarray:
    limits = np.array([0.05, 0.05, 0.1])
    return np.random.default_rng(seed).uniform(-limits, limits, size=(batch_size, length, 3)).astype(np.float32)


def difference(left: Tensor, right: Tensor) -> float:
    assert left.shape == right.shape
    return float((left - right).abs().max())


def test_an_export_is_the_checkpoint_with_graphs_beside_it(checkpoint: Path, exported: Path) -> None:
    assert all((exported / name).read_bytes() == (checkpoint / name).read_bytes() for name in FILES)
    assert set(recorded_hashes(exported)) == {*FILES, *GRAPHS}
    assert {file.name for file in exported.parent.iterdir()} == {"tiny", "exported", "figures.json"}
    assert load_checkpoint(exported).config["name"] == "tiny"
    assert not any(b"site-packages" in (exported / name).read_bytes() for name in GRAPHS)  # of the exporting machine


def test_figures_say_how_exact_and_how_fast(exported: Path) -> None:
    rows = json.loads(exported.with_name("figures.json").read_text())["rows"]
    assert set(rows) == {"denoiser", "encoder", "decoder"}
    for name, row in rows.items():
        assert 0 < row["max_abs_error"] < 1e-3
        assert row["speedup"] == pytest.approx(row["eager_ms"] / row["onnxruntime_ms"])
        assert row["bytes"] == (exported / f"{name}.onnx").stat().st_size


@pytest.mark.parametrize("warp", ["none", "rotation", "floor"])
def test_rollouts_agree_with_pytorch_over_chunks(eager: WorldModel, model: WorldModel, warp: str) -> None:
    images, actions = pictures(2), moves(2, HORIZON + 2)
    expected, found = (each.predict(images, actions, seed=1, warp=warp).images for each in (eager, model))
    assert found.shape == (2, HORIZON + 2, 96, 128, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.abs(expected.astype(int) - images).max() > 10


@pytest.mark.parametrize("batch_size", [1, 3, 17])  # 17 * 4 frames: more than stock upsampling treats alike
def test_one_graph_serves_every_batch_size(eager: WorldModel, model: WorldModel, batch_size: int) -> None:
    images = torch.from_numpy(pictures(batch_size))
    actions = torch.from_numpy(moves(batch_size, HORIZON) / np.array([0.1, 0.1, 0.2], np.float32))
    plan, latents = SamplingPlan(num_denoising_steps=2), []
    with torch.inference_mode():
        for each in (eager, model):
            known = encode_context(each.vae, images, actions, embodiment=each.embodiment, warps=["floor"] * batch_size)
            noise = torch.randn(
                batch_size, HORIZON, *known.latents.shape[2:], generator=torch.Generator().manual_seed(2)
            )
            latents.append(sample_chunk(each.denoiser, known, actions, noise, plan))
    assert difference(*latents) < 1e-4


def test_every_frame_has_its_own_noise_level(eager: WorldModel, model: WorldModel) -> None:
    assert isinstance(eager.denoiser, BackboneDenoiser)
    noisy, sigma, context, action = random_call(eager.denoiser, batch_size=2)
    same = torch.full_like(sigma, 1.3)
    other = sigma.clone()
    other[:, -1] *= 3
    with torch.inference_mode():
        # PyTorch takes a shorter way for equal levels; the graph has only the general one.
        assert difference(*(each.denoiser.denoise(noisy, same, context, action) for each in (eager, model))) < 1e-5
        assert difference(*(each.denoiser.denoise(noisy, sigma, context, action) for each in (eager, model))) < 1e-4
        found, changed = (model.denoiser.denoise(noisy, level, context, action) for level in (sigma, other))
    assert difference(found[:, -1], changed[:, -1]) > 0.1


def test_actions_move_the_prediction_unless_dropped(eager: WorldModel, model: WorldModel) -> None:
    assert isinstance(eager.denoiser, BackboneDenoiser)
    noisy, sigma, context, action = random_call(eager.denoiser, batch_size=1)

    def denoise(context: Context, action: Tensor) -> Tensor:
        return model.denoiser.denoise(noisy, sigma, context, action)

    none_known = replace(context, action_known=torch.zeros(1, HORIZON, dtype=torch.bool))
    all_known = replace(context, action_known=None)
    assert difference(denoise(all_known, action), denoise(all_known, -action)) > 0.01
    assert torch.equal(denoise(none_known, action), denoise(none_known, -action))


def test_without_compensation_the_plain_context_stands_in(eager: WorldModel, model: WorldModel) -> None:
    assert isinstance(eager.denoiser, BackboneDenoiser)
    noisy, sigma, context, action = random_call(eager.denoiser, batch_size=2)
    plain = Context(context.latents)
    with torch.inference_mode():
        assert difference(*(each.denoiser.denoise(noisy, sigma, plain, action) for each in (eager, model))) < 1e-4


def test_what_does_not_fit_the_graph_is_refused(eager: WorldModel, model: WorldModel) -> None:
    assert isinstance(eager.denoiser, BackboneDenoiser)
    noisy, sigma, context, action = random_call(eager.denoiser, batch_size=2)
    with pytest.raises(RolloutError, match=r"noisy has shape \(2, 3, .* exported for"):
        model.denoiser.denoise(noisy[:, 1:], sigma[:, 1:], context, action[:, 1:])
    with pytest.raises(RolloutError, match=r"action\w* has shape \(1, 4"):
        model.denoiser.denoise(noisy, sigma, replace(context, action_known=None), action[:1])
    with pytest.raises(ConfigError, match="causal"):
        model.denoiser.start_stream(context)


@pytest.mark.parametrize(("provider", "package"), [("cuda", "onnxruntime-gpu"), ("tensorrt", "TensorRT")])
def test_a_provider_that_is_not_there_is_named(exported: Path, provider: str, package: str) -> None:
    if PROVIDERS[provider] in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {PROVIDERS[provider]}")
    with pytest.raises(CheckpointError, match=f"{PROVIDERS[provider]}, only .*CPUExecutionProvider.*{package}"):
        load_world_model(exported, engine=f"onnx-{provider}")


def test_engines_are_checked(exported: Path) -> None:
    with pytest.raises(ConfigError, match="onnx-cuda"):
        load_world_model(exported, engine="onnx-cudda")
    with pytest.raises(ConfigError, match="float32"):
        load_world_model(exported, engine="onnx-cpu", bf16=True)


def test_a_missing_runtime_is_named(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'egowm\[onnx\]'"):
        load_world_model(exported, engine="onnx-cpu")


def test_graphs_must_be_there_listed_and_whole(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no denoiser\.onnx.*egowm-export"):
        load_world_model(checkpoint, engine="onnx-cpu")
    altered = shutil.copytree(exported, tmp_path / "altered")
    with (altered / DECODER).open("ab") as file:
        file.write(b" ")
    for engine in ("torch", "onnx-cpu"):
        with pytest.raises(CheckpointError, match=r"decoder\.onnx: sha256"):
            load_world_model(altered, engine=engine)
    (altered / DECODER).unlink()
    with pytest.raises(CheckpointError, match=r"no decoder\.onnx.*egowm-export"):
        load_world_model(altered, engine="onnx-cpu")
    unlisted = shutil.copytree(exported, tmp_path / "unlisted")
    lines = (unlisted / HASHES).read_text().splitlines(keepends=True)
    (unlisted / HASHES).write_text("".join(line for line in lines if DENOISER not in line))
    with pytest.raises(CheckpointError, match=r"no denoiser\.onnx that SHA256SUMS lists"):
        load_world_model(unlisted, engine="onnx-cpu")


def test_the_command_says_what_is_wrong(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 1
    assert "no such directory" in capsys.readouterr().err
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    assert main([str(checkpoint), str(precious)]) == 1
    assert "no checkpoint" in capsys.readouterr().err
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_a_transformer_with_an_initial_state_agrees(tmp_path: Path) -> None:
    denoiser = tiny("cosmos", embodiment="humanoid_25dof", num_layers=1)
    export_denoiser(denoiser, tmp_path)
    exported = OnnxDenoiser(denoiser.config, Graph(tmp_path / DENOISER, threads=1))
    for batch_size in (1, 3):
        noisy, sigma, context, action = random_call(denoiser, batch_size=batch_size, seed=batch_size)
        assert context.state is not None
        with torch.inference_mode():
            expected, found = (each.denoise(noisy, sigma, context, action) for each in (denoiser, exported))
            elsewhere = exported.denoise(noisy, sigma, replace(context, state=-context.state), action)
        assert difference(expected, found) < 1e-4
        assert difference(found, elsewhere) > 0.01
    with pytest.raises(ConfigError, match="Z_s"):
        exported.denoise(noisy, sigma, replace(context, state=None), action)


@torch.inference_mode()
def test_causal_streams_agree_beyond_their_window(causal: tuple[BackboneDenoiser, OnnxDenoiser]) -> None:
    denoiser, exported = causal
    frames = 9
    _, _, context, action = random_call(denoiser, batch_size=2, frames=frames)
    noise = torch.randn(2, frames, *context.latents.shape[2:], generator=torch.Generator().manual_seed(1))
    plan = SamplingPlan(num_denoising_steps=2, guidance_scale=1.0)

    def stream(denoiser: WorldDenoiser) -> Tensor:
        latents = LatentStream(denoiser, replace(context, action_known=None), plan)
        steps = [latents.step(action[:, i : i + 1], noise[:, i : i + 1]) for i in range(frames)]
        return torch.cat(steps, dim=1)

    assert exported.can_cache
    assert difference(stream(denoiser), stream(exported)) < 1e-4


@torch.inference_mode()
def test_causal_sequences_agree_at_mixed_noise_levels(causal: tuple[BackboneDenoiser, OnnxDenoiser]) -> None:
    """The graph takes them frame by frame, each remembered at its own level, and forgets nothing of the caller's."""
    denoiser, exported = causal
    call = random_call(denoiser, batch_size=1, frames=6)
    assert difference(denoiser.denoise(*call), exported.denoise(*call)) < 1e-4
    noisy, sigma, context, action = call
    known = replace(context, action_known=None)
    cache = exported.start_stream(known)
    states = cache.states
    found = exported.denoise_next(noisy[:, :3], sigma[:, :3], known, action[:, :3], cache)
    expected = denoiser.denoise_next(noisy[:, :3], sigma[:, :3], known, action[:, :3], denoiser.start_stream(known))
    assert difference(found, expected) < 1e-4
    assert cache.num_frames == 2 and all(torch.equal(cache.states[name], states[name]) for name in states)


def test_causal_models_without_a_cache_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"causal WanDenoiser keeps no memory.*torch engine"):
        export_denoiser(tiny("wan-causal"), tmp_path)


@torch.inference_mode()
def test_a_causal_decoder_streams(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = FrameAutoencoder(
        VAEConfig(latent_channels=4, patch=2, block_out_channels=[32], linear_encoder=True, causal=True)
    ).eval()
    nn.init.normal_(vae.basis, std=0.3)
    nn.init.normal_(vae.network.decoder.conv_out.weight, std=0.1)
    assert export_autoencoder(vae, tmp_path, cells=(4, 6)) == (ENCODER, DECODER)
    exported = OnnxAutoencoder(vae, encoder=Graph(tmp_path / ENCODER), decoder=Graph(tmp_path / DECODER))
    latents = torch.randn(2, 6, 4, 4, 6)
    whole = vae.decode(latents)
    assert difference(exported.decode(latents), whole) < 1e-4
    assert difference(exported.encode(whole), vae.encode(whole)) < 1e-4
    cache = exported.start_stream()
    parts = [exported.decode_next(part, cache) for part in latents.split([2, 1, 1, 2], dim=1)]
    assert difference(torch.cat(parts, dim=1), whole) < 1e-4
    frames = FrameDecoder(exported, latents[:, :1])  # what world models stream by
    assert difference(torch.cat([frames.next(part) for part in latents[:, 1:].split(1, dim=1)], 1), whole[:, 1:]) < 1e-4
    assert difference(exported.decode(latents[:, 2:]), whole[:, 2:]) > 0.01  # the past counts


def test_a_window_that_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sees 3 frames cannot be exported, 6 are needed"):
        export_denoiser(tiny("cosmos-causal", window=3, num_layers=1), tmp_path)
