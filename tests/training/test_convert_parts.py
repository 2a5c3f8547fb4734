"""The parts of a conversion by themselves: timelines, histograms, sampling, engines, one writer at a time."""

from __future__ import annotations

import fcntl
import os

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, DataError
from tests.training import bag_fixtures as bags
from training.convert.engines import UNEXPECTED, Job, run
from training.convert.entry import RecordingReport, judge
from training.convert.facts import ActionHistogram, FrameSampler, Timeline
from training.convert.options import ConvertOptions
from training.convert.run import convert
from training.convert.staging import DatasetDir
from training.curation.config import load_curation
from training.dataset.reader import Dataset
from training.dataset.video import VideoCodec

BASE = load_embodiment("base_3dof")
OPTIONS = ConvertOptions(embodiment=BASE, curation=load_curation("none"), codec=VideoCodec("lossless"))
SECOND = 1_000_000_000


def test_a_timeline_counts_every_message_however_long_it_gets() -> None:
    timeline = Timeline(["image", "kept"])
    stamps = np.arange(5000) * SECOND // 7 + 10**18
    for stamp in stamps:
        timeline.add("image", int(stamp))
    timeline.add("kept", int(stamps[2500]))
    facts = timeline.facts(kept="kept")
    counts = facts["topics"]["image"]
    assert sum(counts) == 5000 and len(counts) == len(facts["kept"]) <= 240
    assert len(counts) * facts["bin_s"] >= (stamps[-1] - stamps[0]) / SECOND
    assert facts["kept"].index(1) == pytest.approx(len(counts) * 0.5, abs=1 + 0.02 * len(counts))
    assert max(counts[:-1]) - min(counts[:-1]) <= 1


def test_a_timeline_survives_a_clock_that_jumps() -> None:
    timeline = Timeline(["image", "kept"])
    for stamp in (10**18, 0, 10**18 + 1, 2**62):
        timeline.add("image", stamp)
    assert sum(timeline.facts(kept="kept")["topics"]["image"]) == 4


def test_a_histogram_shows_what_lies_beyond_the_limits() -> None:
    histogram = ActionHistogram(BASE)
    for dyaw in (-9.0, -0.1, 0.0, 0.1, 0.21, 9.0):
        histogram.add(np.array([0.0, 0.0, dyaw], np.float32))
    facts = histogram.facts()["dyaw"]
    low, high = facts["limits"]
    centres = (np.array(facts["edges"])[1:] + np.array(facts["edges"])[:-1]) / 2
    counts = np.array(facts["counts"])
    assert counts.sum() == 6 and counts[0] == counts[-1] == 1
    assert counts[centres > high].sum() == 2 and counts[centres < low].sum() == 1


@pytest.mark.parametrize("length", [1, 4, 5, 37, 1000])
def test_a_sampler_spreads_its_frames(length: int) -> None:
    sampler = FrameSampler(4)
    for number in range(length):
        sampler.add(np.full((2, 2, 3), number % 256, np.uint8))
        assert len(sampler._frames) <= 8
    found = sampler.frames()
    assert len(found) == min(4, length)
    if length == 37:
        numbers = [int(frame[0, 0, 0]) for frame in found]
        assert numbers[0] == 0 and numbers[-1] >= 28 and min(np.diff(numbers)) >= 8


def test_what_was_beyond_the_limits_is_in_the_report(tmp_path) -> None:
    messages = []
    for i in range(80):
        stamp = bags.START_NS + i * SECOND // 8
        x = 0.05 * i + (2.0 if i >= 40 else 0.0)  # a jump of 2 m
        messages.append((stamp, "/image", bags.image(stamp, bags.scene(i))))
        messages.append((stamp, "/odom", bags.odometry(stamp, (x, 0, 0))))
    row = convert([bags.write_bag(tmp_path / "run", messages)], tmp_path / "out", OPTIONS)["rows"]["run"]
    assert row["histograms"]["dx"]["counts"][-1] == 1
    assert row["largest_action"]["dx"] == pytest.approx(2.1, abs=0.01)
    assert (row["reasons"], row["episodes"]) == ({"outside limits (break)": 1}, 2)
    assert sum(row["timeline"]["kept"]) == row["kept"] == 40


def square(number: int) -> int:
    if number == 3:
        os._exit(9)  # as the kernel does to a process that takes too much memory
    if number == 4:
        raise DataError("four is refused")
    if number == 5:
        raise ZeroDivisionError("a defect")
    return number * number


@pytest.mark.parametrize("workers", [2, 3])
def test_a_worker_that_dies_takes_no_other_job_along(workers: int) -> None:
    jobs = [Job(f"job {number}", square, (number,)) for number in range(8)]
    outcomes = list(run(jobs, engine="local", workers=workers))
    assert [outcome.result for outcome in outcomes] == [0, 1, 4, None, None, None, 36, 49]
    assert "process died" in outcomes[3].error
    assert outcomes[4].error == "four is refused"
    assert UNEXPECTED in outcomes[5].error and "test_convert_parts.py" in outcomes[5].error


def test_engines_refuse_nonsense() -> None:
    with pytest.raises(ConfigError, match="engine 'spark' is not one of local, ray"):
        run([], engine="spark", workers=1)
    with pytest.raises(ConfigError, match="0 workers"):
        run([], engine="local", workers=0)


def test_one_writer_at_a_time(tmp_path) -> None:
    with DatasetDir.open(tmp_path / "out", OPTIONS):
        with (tmp_path / "out" / ".lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (
            pytest.raises(DataError, match="another egowm-convert is writing"),
            DatasetDir.open(tmp_path / "out", OPTIONS),
        ):
            pass


def test_the_same_drive_twice_is_kept_once(tmp_path) -> None:
    bags.moving_bag(tmp_path / "bags" / "a", length=80, seed=1)
    bags.moving_bag(tmp_path / "bags" / "again", length=80, seed=1)
    bags.moving_bag(tmp_path / "bags" / "other", length=80, seed=2)
    options = ConvertOptions(embodiment=BASE)
    result = convert([tmp_path / "bags"], tmp_path / "out", options)
    rows = result["rows"]
    assert {name: row["episodes"] for name, row in rows.items()} == {"a": 1, "again": 0, "other": 1}
    (excluded,) = rows["again"]["exclusions"]
    assert "near-duplicate of episode 0 (a)" in excluded["reason"] and excluded["value"] > excluded["limit"]
    assert (rows["again"]["kept"], rows["again"]["excluded_frames"]) == (0, excluded["frames"])
    dataset = Dataset(tmp_path / "out")
    dataset.check()
    assert [episode.recording for episode in dataset.episodes] == ["a", "other"]
    bags.moving_bag(tmp_path / "bags" / "third", length=80, seed=2)  # known from an earlier run
    assert convert([tmp_path / "bags"], tmp_path / "out", options)["rows"]["third"]["episodes"] == 0


def test_states_are_kept_with_the_frames(tmp_path) -> None:
    convert([bags.drive(tmp_path / "run")], tmp_path / "out", OPTIONS)
    (episode,) = Dataset(tmp_path / "out").episodes
    expected = [bags.known_pose(i / 4) for i in range(24)]
    np.testing.assert_allclose(episode.states, expected, atol=1e-6)


def test_a_report_that_keeps_nothing_says_why() -> None:
    report = RecordingReport(recording="run", frames_in=40, ticks=20, segments=1, reasons={"no odom": 3})
    report.exclusions = [{"reason": "pause", "frames": 17}]
    with pytest.raises(DataError, match=r"40 images gave 20 ticks in 1 segments \(no odom 3, pause 17\)"):
        judge(report, BASE, min_length=9)
