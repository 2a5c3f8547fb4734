"""Windows straight from video: only what a step needs is decoded, ahead of it and in order; latents piece by piece."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egowm_core.data.normalize import normalize
from egowm_core.errors import DataError
from tests.training.dataset_fixtures import number_of, robot
from tests.training.fit_fixtures import configured, small_dataset, state_of, with_states
from training.config import DatasetEntry, TrainConfig
from training.dataset import reader
from training.fit import latents
from training.fit.autoencoder import load_autoencoder
from training.fit.draws import Draw, Share, StepDraws, in_latent_space
from training.fit.initial import initial_denoiser
from training.fit.latents import latent_stores, store_bytes, store_path
from training.fit.loader import READY, ahead, number_of_workers
from training.fit.mixture import Mixture, open_mixture
from training.train import train

WHOLE = Share()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a robot with states, and an autoencoder fitted to it."""
    root = tmp_path_factory.mktemp("windows")
    small_dataset(root / "data", embodiment=with_states(robot()))
    train(config(root, root / "autoencoder"), stage="autoencoder")
    return root


def config(root: Path, out: Path, **changes: Any) -> TrainConfig:
    return configured(root / "data", out, **changes)


def opened(root: Path, *, context: int = 1) -> Mixture:
    return open_mixture([DatasetEntry(str(root / "data"))], context=context, horizon=4, held_out=1)


def fitted(root: Path) -> Any:
    loaded = load_autoencoder(config(root, root / "autoencoder"), root / "autoencoder")
    assert loaded is not None
    return loaded[0]


def draws(root: Path, *, store: bool = False, share: Share = WHOLE, **changes: Any) -> StepDraws:
    run = config(root, root / "unused", **changes)
    denoiser = initial_denoiser(run, opened(root).sources[0].embodiment).config
    stores = latent_stores(fitted(root), opened(root).sources, root / "autoencoder") if store else [None]
    return StepDraws(opened(root), run.denoiser_run, denoiser, stores, seed=run.seed, share=share)


@pytest.fixture()
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each read decoded for its caller."""
    spans: list[int] = []
    original = reader.read_frames

    def read(path: Path, start: int, stop: int) -> Any:
        spans.append(stop - start)
        return original(path, start, stop)

    monkeypatch.setattr(reader, "read_frames", read)
    return spans


def equal(one: Draw, other: Draw) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in Draw.__dataclass_fields__]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_a_step_decodes_its_windows_and_nothing_else(root: Path, decoded: list[int]) -> None:
    (draw,) = draws(root)[3]
    assert draw.images.shape == (4, 5, 32, 48, 3) and decoded == [5] * 4
    decoded.clear()
    (stored,) = draws(root, store=True)[3]
    decoded.clear()
    (stored,) = draws(root, store=True)[3]
    assert stored.images.shape[1] == 0 and decoded == [] and stored.latents is not None
    assert torch.equal(stored.actions, draw.actions) and torch.equal(stored.noise, draw.noise)


def test_actions_state_and_frames_of_a_clip_belong_together(root: Path) -> None:
    """Frames show their number in the dataset, so that a shift by one would be seen."""
    data = opened(root, context=2).sources[0].training
    numbers = np.arange(len(data))
    batch = data.batch(numbers)
    assert batch.state is not None
    for row, (episode, start) in enumerate(data.index):
        source = data.episodes[episode]
        first = number_of(source.frames(0, 1)[0]) + start
        assert [number_of(frame) for frame in batch.images[row].numpy()] == list(range(first, first + 6))
        assert np.array_equal(batch.actions[row], normalize(source.actions[start + 1 : start + 5], data.embodiment))
        assert np.allclose(batch.state[row], source.states[start + 1] / 3.0)  # at the last context frame


def test_workers_change_nothing(root: Path) -> None:
    alone = [draws(root)[step] for step in range(2, 9)]
    ahead_of_time = list(ahead(draws(root), 2, 9, workers=2))
    assert all(equal(a, b) for (a,), (b,) in zip(alone, ahead_of_time, strict=True))
    assert not multiprocessing.active_children()


def test_processes_and_passes_take_the_whole_batch_apart(root: Path) -> None:
    """Clips and noise alike, once each, whoever takes them."""
    changes: dict[str, Any] = {"denoiser_run": {"action_dropout": 0.5, "diffusion_forcing": True}}
    (whole,) = draws(root, **changes)[5]
    shares = [draws(root, share=Share(process, 2, 2), **changes)[5] for process in range(2)]
    parts = [shares[0][0], shares[1][0], shares[0][1], shares[1][1]]
    for name in ("images", "actions", "state", "action_known", "sigma", "noise"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
    assert whole.sigma.shape == (4, 4) and len({part.noise.sum().item() for part in parts}) == 4


def test_the_state_reaches_the_model_and_teaches_it(root: Path, tmp_path: Path) -> None:
    (draw,) = draws(root)[0]
    context, _ = in_latent_space(draw, fitted(root), opened(root).sources[0].embodiment, horizon=4)
    assert context.state is not None and torch.equal(context.state, draw.state)  # type: ignore[arg-type]
    train(config(root, tmp_path / "run"))
    assert state_of(tmp_path / "run")["module.state_encoder.mlp.4.weight"].any()
    train(config(root, tmp_path / "without", denoiser={"action": {"state_dim": 0}}))
    assert not any(name.startswith("module.state_encoder") for name in state_of(tmp_path / "without"))


class Steps:
    """Items that leave a trace when they are made."""

    def __init__(self, folder: Path, *, fail_at: int = -1) -> None:
        self._folder, self._fail_at = folder, fail_at

    def __getitem__(self, step: int) -> int:
        (self._folder / str(step)).touch()
        if step == self._fail_at:
            raise DataError("frame 7 of file.mp4 cannot be decoded; convert again")
        return step

    def made(self) -> int:
        return len(list(self._folder.iterdir()))


def test_workers_hurry_only_so_far(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    items = ahead(steps, 0, 1000, workers=2)
    for taken in range(1, 20):
        assert next(items) == taken - 1
        assert steps.made() <= taken + 2 * READY
    items.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_one_line(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DataError) as raised:
        list(ahead(Steps(tmp_path, fail_at=3), 0, 8, workers=workers))
    assert str(raised.value) == "frame 7 of file.mp4 cannot be decoded; convert again"


def test_the_global_generator_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    list(ahead(Steps(tmp_path), 0, 4, workers=1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_workers_are_for_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert number_of_workers(-1, decoding=False) == 0 and number_of_workers(-1, decoding=True) == 4
    assert number_of_workers(-1, decoding=True, local_processes=8) == 1
    assert number_of_workers(3, decoding=False) == 3


def test_stored_latents_are_those_of_the_frames(root: Path, tmp_path: Path, decoded: list[int]) -> None:
    """Encoded in pieces, never a whole episode; once for these weights and this dataset."""
    vae, sources = fitted(root), opened(root).sources
    (store,) = latent_stores(vae, sources, tmp_path, chunk=4)
    assert max(decoded) == 4
    decoded.clear()
    data = sources[0].training
    assert store.nbytes == store_bytes(vae, data) and len(store) == data.num_frames
    for episode, start in zip(data.episodes, data.offsets, strict=False):
        frames = torch.from_numpy(episode.frames()).movedim(-1, -3).float() / 127.5 - 1
        with torch.no_grad():
            wanted = vae.encode(frames[None])[0]
        assert torch.allclose(torch.tensor(store[start : start + len(episode)]).float(), wanted, atol=2e-3)
    decoded.clear()
    latent_stores(vae, sources, tmp_path)
    assert decoded == []
    with torch.no_grad():
        vae.network.decoder.conv_in.weight.add_(1.0)  # does not encode
        assert store_path(vae, sources[0], tmp_path).exists()
        vae.basis.mul_(2.0)
    first = store_path(fitted(root), sources[0], tmp_path)
    again = latent_stores(vae, sources, tmp_path)[0]
    assert not first.exists() and len(list(tmp_path.glob("latents_*"))) == 1
    assert np.allclose(again.astype(np.float32), 2 * store.astype(np.float32), atol=1e-2)


def test_an_interrupted_encoding_goes_on_where_it_was(
    root: Path, tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, sources = fitted(root), opened(root).sources
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    (whole,) = latent_stores(vae, sources, tmp_path / "whole", chunk=4)
    pieces = len(decoded)
    monkeypatch.setattr(latents, "_NOTED_EVERY_S", 0.0)
    original, calls = vae.encode, []

    def fail_in_the_middle(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(vae, "encode", fail_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        latent_stores(vae, sources, tmp_path / "broken", chunk=4)
    assert not list((tmp_path / "broken").glob("*.npy"))
    monkeypatch.setattr(vae, "encode", original)
    decoded.clear()
    (resumed,) = latent_stores(vae, sources, tmp_path / "broken", chunk=4)
    assert len(decoded) == pieces - 4
    assert np.array_equal(resumed, whole)
    assert [path.suffix for path in (tmp_path / "broken").iterdir()] == [".npy"]


def test_a_damaged_store_says_so(root: Path, tmp_path: Path) -> None:
    vae, sources = fitted(root), opened(root).sources
    latent_stores(vae, sources, tmp_path)
    store_path(vae, sources[0], tmp_path).write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="remove it, it is made again"):
        latent_stores(vae, sources, tmp_path)


def test_clips_on_the_way_train_what_stored_latents_train(root: Path, tmp_path: Path) -> None:
    """The same draws; the store rounds latents to float16."""
    run = {"denoiser_run": {"adam_epsilon": 1e-3}, "autoencoder_from": str(root / "autoencoder")}
    train(config(root, tmp_path / "stored", **run))
    train(config(root, tmp_path / "decoded", **run, store_latents=False, workers=2))
    one, other = state_of(tmp_path / "stored"), state_of(tmp_path / "decoded")
    assert not list((tmp_path / "decoded").glob("latents_*"))
    assert max(float((value - other[name]).abs().max()) for name, value in one.items()) < 1e-3
