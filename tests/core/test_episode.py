"""Episodes on disk, normalisation and its statistics: exact round trips, whole or not at all, no pickle."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egowm_core.data.episode import Episode, EpisodeData, list_episodes, write_episode
from egowm_core.data.normalize import NormStats, denormalize, normalize
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import DataError, EmbodimentError
from egowm_core.files import write_text

FACTS = {"embodiment": "base_3dof", "rate_hz": 4.0, "recording": "somewhere", "channels": ("dx", "dy", "dyaw")}


def data(length: int = 12, *, truth: bool = False) -> EpisodeData:
    rng = np.random.default_rng(length)
    return EpisodeData(
        frames=rng.integers(0, 256, (length, 6, 8, 3), np.uint8),
        stamps_ns=np.arange(length, dtype=np.int64) * 250_000_000 + 1_700_000_000_000_000_000,
        actions=rng.normal(0, 0.05, (length - 1, 3)).astype(np.float32),
        segmentation=rng.integers(0, 60_000, (length, 6, 8), np.uint16) if truth else None,
        structures={"1": {"name": "door", "static": True}} if truth else None,
    )


@pytest.mark.parametrize("truth", [False, True])
def test_round_trip(tmp_path, truth):
    wrote = data(truth=truth)
    episode = Episode(write_episode(tmp_path / "episode_000000", wrote, **FACTS))
    assert len(episode) == 12
    for name in ("frames", "stamps_ns", "actions", "segmentation"):
        np.testing.assert_array_equal(getattr(episode, name), getattr(wrote, name))
    assert episode.structures == wrote.structures
    assert (episode.info.rate_hz, episode.info.recording, episode.info.has_truth) == (4.0, "somewhere", truth)
    assert episode.info.channels == ("dx", "dy", "dyaw")
    assert isinstance(episode.frames, np.memmap)
    assert not episode.frames.flags.writeable
    assert not list(tmp_path.glob("*.partial"))


def test_samples_are_copies_of_the_right_rows(tmp_path):
    wrote = data(12)
    episode = Episode(write_episode(tmp_path / "episode_000000", wrote, **FACTS))
    assert episode.windows(2, 4, 3).tolist() == [0, 3, 6]
    sample = episode.sample(3, context=2, horizon=4)
    np.testing.assert_array_equal(sample.context_images, wrote.frames[3:5])
    np.testing.assert_array_equal(sample.actions, wrote.actions[4:8])
    np.testing.assert_array_equal(sample.future_images, wrote.frames[5:9])
    assert sample.future_images.flags.writeable


def test_an_existing_episode_is_never_overwritten(tmp_path):
    path = write_episode(tmp_path / "episode_000000", data(), **FACTS)
    with pytest.raises(DataError, match="exists already"):
        write_episode(path, data(20), **FACTS)
    assert len(Episode(path)) == 12


def test_a_torn_write_is_invisible_and_does_not_block(tmp_path):
    partial = tmp_path / "episode_000000.partial"
    partial.mkdir()
    (partial / "frames.npy").write_bytes(b"half")
    with pytest.raises(DataError, match="no episodes"):
        list_episodes(tmp_path)
    path = write_episode(tmp_path / "episode_000000", data(), **FACTS)
    assert list_episodes(tmp_path) == [path]


def test_list_is_in_order_of_number(tmp_path):
    for number in (2, 0, 10, 1):
        write_episode(tmp_path / f"episode_{number:06d}", data(), **FACTS)
    (tmp_path / "episode_000099").mkdir()  # no episode.json: not one
    assert [p.name for p in list_episodes(tmp_path)] == [f"episode_{n:06d}" for n in (0, 1, 2, 10)]
    with pytest.raises(DataError, match="does not exist"):
        list_episodes(tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((12, 6, 8), np.uint8)}, "uint8"),
        ({"frames": np.zeros((1, 6, 8, 3), np.uint8)}, "2 or more"),
        ({"stamps_ns": np.zeros(12, np.int64)}, "increasing"),
        ({"actions": np.zeros((12, 3), np.float32)}, r"\(11,D\)"),
        ({"segmentation": np.zeros((12, 3, 3), np.uint16)}, "segmentation"),
    ],
)
def test_arrays_that_disagree_are_refused(change, message):
    good = data()
    with pytest.raises(DataError, match=message):
        EpisodeData(**{"frames": good.frames, "stamps_ns": good.stamps_ns, "actions": good.actions, **change})


def test_channels_must_match_the_columns(tmp_path):
    with pytest.raises(DataError, match="3 action columns"):
        write_episode(tmp_path / "e", data(), **{**FACTS, "channels": ("dx",)})


def test_damaged_episodes_are_refused(tmp_path):
    path = write_episode(tmp_path / "episode_000000", data(), **FACTS)
    info = json.loads((path / "episode.json").read_text())
    write_text(path / "episode.json", json.dumps({**info, "version": 99}))
    with pytest.raises(DataError, match="version 99"):
        Episode(path)
    write_text(path / "episode.json", json.dumps({k: v for k, v in info.items() if k != "recording"}))
    with pytest.raises(DataError, match="incomplete"):
        Episode(path)
    write_text(path / "episode.json", json.dumps({**info, "num_frames": 5}))
    with pytest.raises(DataError, match="has 12 frames"):
        _ = Episode(path).frames
    write_text(path / "episode.json", json.dumps(info))
    (path / "frames.npy").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"frames\.npy"):
        _ = Episode(path).frames


def test_pickled_arrays_are_never_loaded(tmp_path):
    path = write_episode(tmp_path / "episode_000000", data(), **FACTS)
    np.save(path / "actions.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"actions\.npy"):
        _ = Episode(path).actions


def test_normalize_divides_by_the_scales():
    base = load_embodiment("base_3dof")
    np.testing.assert_allclose(normalize([[0.15, -0.075, 0.3]], base), [[1, -0.5, 2]], rtol=1e-6)
    values = np.random.default_rng(0).normal(0, 0.1, (2, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(denormalize(normalize(values, base), base), values, rtol=1e-6)
    assert normalize(values, base).dtype == np.float32
    with pytest.raises(EmbodimentError, match="3 channels"):
        normalize(np.zeros((2, 4)), base)


def test_stats_are_the_arrays_own_and_survive_json():
    values = np.random.default_rng(0).normal(0.1, 0.2, (1000, 3)).astype(np.float32)
    stats = NormStats.from_actions(values, ("dx", "dy", "dyaw"))
    assert NormStats.from_json(stats.to_json()) == stats
    assert stats.count == 1000
    dy = stats.channels["dy"]
    assert dy.mean == pytest.approx(values[:, 1].mean(dtype=np.float64))
    assert dy.std == pytest.approx(values[:, 1].std(dtype=np.float64))
    assert dy.min < dy.q01 < dy.mean < dy.q99 < dy.max
    with pytest.raises(DataError, match="T > 0"):
        NormStats.from_actions(np.zeros((0, 3)), ("dx", "dy", "dyaw"))
    with pytest.raises(DataError, match="finite"):
        NormStats.from_actions([[np.nan]], ("dx",))
    with pytest.raises(DataError, match="not readable"):
        NormStats.from_json("{}")
