"""Recorded rollouts against a recorded camera: paired by the times that they predict, not by their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egowm_core.errors import DataError
from tests.training import bag_fixtures as bags
from tests.training.score_fixtures import pan, rollout_bag
from training.score.pairs import Notes
from training.score.rollouts import is_bag, load_rollouts


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rollout_bag(tmp_path_factory.mktemp("bags") / "drive")


def test_a_bag_is_told_from_videos(drive: Path, tmp_path: Path):
    assert is_bag(drive) and is_bag(next(drive.glob("*.mcap")))
    assert not is_bag(tmp_path) and not is_bag(tmp_path / "video.mp4")


def test_frames_pair_by_stamp(drive: Path):
    """The camera runs at twice the model's rate: every second picture is the one that was predicted."""
    notes = Notes()
    clips = load_rollouts(drive, drive, notes, horizon=4)
    assert {next(iter(clip.predicted)) for clip in clips} == {"planned", "executed"}
    assert len(clips) == 2 * 16 and not notes.damage
    assert "not observed to frame 4" in notes.warnings[0]
    for clip in clips:
        (predicted,) = clip.predicted.values()
        np.testing.assert_array_equal(predicted, clip.observed)
        assert clip.rate_hz == 4.0
    np.testing.assert_array_equal(clips[0].context, pan(1)[0])


def test_only_some_are_taken_evenly(drive: Path):
    clips = load_rollouts(drive, drive, Notes(), horizon=2, count=3, sources=("executed",))
    assert [clip.start_s for clip in clips] == [0.0, 2.0, 4.25]


def test_pictures_are_seen_as_the_model_sees_them(tmp_path: Path):
    bag = rollout_bag(tmp_path / "large", ticks=6, camera_size=(192, 320))
    clips = load_rollouts(bag, bag, Notes(), horizon=2)
    assert clips[0].observed.shape == clips[0].predicted["planned"].shape == (2, 96, 128, 3)


def test_two_recordings(drive: Path, tmp_path: Path):
    silent = rollout_bag(tmp_path / "rollouts", ticks=8, camera=False, sources=(2,))
    assert len(load_rollouts(silent, drive, Notes(), horizon=4)) == 8
    with pytest.raises(DataError, match="image"):
        load_rollouts(silent, silent, Notes(), horizon=4)


def test_what_is_not_there_is_told(drive: Path, tmp_path: Path):
    other = bags.drive(tmp_path / "other", seconds=2.0)
    with pytest.raises(DataError, match="record the world model's rollout topic"):
        load_rollouts(other, other, Notes(), horizon=2)
    with pytest.raises(DataError, match="no rollouts on '/rollout'"):
        load_rollouts(drive, drive, Notes(), horizon=2, rollout_topic="/rollout")
    with pytest.raises(DataError, match=r"none of 40 rollouts .* predict fewer frames"):
        load_rollouts(drive, drive, Notes(), horizon=9)
    late = rollout_bag(tmp_path / "late", ticks=4, camera_hz=1.0)
    with pytest.raises(DataError, match="have no camera picture in time"):
        load_rollouts(late, late, Notes(), horizon=2)


def test_a_damaged_bag_gives_what_is_left_and_says_so(drive: Path, tmp_path: Path):
    (source,) = drive.glob("*.mcap")
    data = source.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError):
        load_rollouts(tmp_path / "none.mcap", drive, Notes(), horizon=2)
    notes = Notes()
    clips = load_rollouts(cut, drive, notes, horizon=2)
    assert 2 <= len(clips) < 34
    assert any("cut.mcap" in line for line in notes.damage)
