"""Checkpoints and rollouts, on a small checkpoint of the real classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egowm_core import ActionSequence, ActionSource, Frames, load_world_model
from egowm_core.checkpoint import load_checkpoint, save_checkpoint
from egowm_core.errors import CheckpointError, EmbodimentError, RolloutError
from egowm_core.models.vae import FrameAutoencoder, VAEConfig, to_uint8, to_unit_range
from egowm_core.world_model import WorldModel
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", horizon=4)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> WorldModel:
    return load_world_model(checkpoint, bf16=False)


def context(stamp_ns: int = 10_000_000_000) -> Frames:
    return Frames(made_up_picture(96, 128, seed=9)[None], np.array([stamp_ns], dtype=np.int64))


def actions(length: int, value: float = 0.05) -> ActionSequence:
    return ActionSequence(np.full((length, 3), value, dtype=np.float32), ActionSource.PLANNED)


def test_rollout_has_one_frame_an_action_stamped_with_the_future(model: WorldModel) -> None:
    rollout = model.rollout(context(), actions(6), seed=3)
    assert rollout.frames.images.shape == (6, 96, 128, 3)
    assert rollout.frames.stamps_ns.tolist() == [10_000_000_000 + 250_000_000 * i for i in range(1, 7)]
    assert rollout.context_stamp_ns == 10_000_000_000
    assert set(rollout.timings_s) == {"encode", "denoise", "decode", "total"}


def test_rollouts_repeat_by_seed(model: WorldModel) -> None:
    first, again, other = (model.rollout(context(), actions(4), seed=seed).frames.images for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_first_chunk_does_not_depend_on_later_actions(model: WorldModel) -> None:
    """Chunked autoregression: with a horizon of 4, frames 1 to 4 know nothing of the second chunk's actions."""
    straight, turning = actions(8).values.copy(), actions(8).values.copy()
    turning[4:, 2] = 0.2
    predicted = [
        model.predict(context().images[None], values[None], seed=0).images[0] for values in (straight, turning)
    ]
    assert np.array_equal(predicted[0][:4], predicted[1][:4])


def test_the_second_chunk_starts_from_the_first_one_s_prediction(model: WorldModel) -> None:
    long = model.predict(context().images[None], actions(8).values[None], seed=0).images[0]
    assert long.shape[0] == 8
    assert not np.array_equal(long[3], long[7])


def test_a_part_of_a_chunk_is_as_the_whole_chunk(model: WorldModel) -> None:
    padded = np.concatenate([actions(2).values, np.zeros((2, 3), np.float32)])
    short = model.predict(context().images[None], actions(2).values[None], seed=0).images
    whole = model.predict(context().images[None], padded[None], seed=0).images
    assert short.shape[1] == 2 and np.array_equal(short, whole[:, :2])


def test_rollout_refuses_what_does_not_fit(model: WorldModel) -> None:
    with pytest.raises(EmbodimentError, match="dyaw"):
        model.rollout(context(), ActionSequence(np.array([[0, 0, 3.0]], np.float32)))
    with pytest.raises(EmbodimentError):
        model.rollout(context(), ActionSequence(np.array([[0, np.nan, 0]], np.float32)))
    with pytest.raises(RolloutError, match="preprocess"):
        model.predict(np.zeros((1, 1, 48, 64, 3), np.uint8), np.zeros((1, 4, 3)))
    with pytest.raises(RolloutError, match="T >= 1"):
        model.predict(context().images[None], np.zeros((1, 0, 3)))
    with pytest.raises(RolloutError, match="warp"):
        model.predict(context().images[None], np.zeros((1, 4, 3)), warp="floor")


def test_checkpoint_round_trip_is_exact(checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(tmp_path / "copy", loaded)
    again = load_checkpoint(tmp_path / "copy")
    assert loaded.config == again.config and loaded.embodiment == again.embodiment
    assert all(torch.equal(value, again.weights[name]) for name, value in loaded.weights.items())


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "config.yaml", "embodiment.yaml", "norm_stats.json", "README.md"]
)
def test_an_altered_file_is_refused_by_name(checkpoint: Path, tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path / "altered", load_checkpoint(checkpoint))
    with (tmp_path / "altered" / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(CheckpointError, match=rf"{name}.*sha256"):
        load_checkpoint(tmp_path / "altered")
    (tmp_path / "altered" / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        load_checkpoint(tmp_path / "altered")


def test_unknown_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no embedded checkpoint"):
        load_checkpoint("embedded:no_such_robot")
    with pytest.raises(CheckpointError, match="no embedded checkpoint"):
        load_checkpoint("embedded:../embodiments")
    with pytest.raises(CheckpointError, match="no such directory"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path)


def test_autoencoder_basis_reconstructs_and_the_network_starts_from_it() -> None:
    pictures = np.stack([made_up_picture(96, 128, seed=i) for i in range(8)])
    frames = to_unit_range(torch.from_numpy(pictures))
    for linear in (True, False):
        vae = FrameAutoencoder(VAEConfig(latent_channels=48, block_out_channels=[32, 32], linear_encoder=linear)).eval()
        kept = vae.fit_basis(frames)
        with torch.no_grad():
            latents = vae.encode(frames[None])
            decoded = vae.decode(latents)[0]
        error = (decoded - frames).square().mean() / frames.var()
        assert latents.shape == (1, 8, 48, 12, 16)
        assert error.item() == pytest.approx(1 - kept, abs=0.02)
    assert np.array_equal(to_uint8(frames).numpy(), pictures)
