"""A camera that lags the motion is found by egowm-convert, told, and corrected on request, made up and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from tests.training import bag_fixtures as bags
from tests.training.convert_fixtures import BASE, OPTIONS, SHARED, episodes_of, needs_shared, options
from training.convert.options import ConvertOptions
from training.convert.run import convert


def turning_bag(path: Path, *, late_frames: int) -> Path:
    """A camera that pans over a texture as the robot swings, its picture ``late_frames`` old."""
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 256, (12, 120), np.uint8), np.ones((5, 5), np.uint8))
    texture = np.dstack([texture] * 3)
    yaws = [0.8 * np.sin(i / 5) + 0.3 * np.sin(i / 1.7) for i in range(160)]
    messages = []
    for i, yaw in enumerate(yaws):
        stamp = bags.START_NS + i * 250_000_000
        at = 250 - round(80 * yaws[max(0, i - late_frames)])  # turning left shows what is further left
        messages.append((stamp, "/image/compressed", bags.jpeg(stamp, texture[:, at : at + 80])))
        messages.append((stamp, "/odom", bags.odometry(stamp, (0.1 * i, 0, yaw))))
    return bags.write_bag(path, messages)


@pytest.mark.parametrize("late_frames", [0, 2])
def test_a_late_camera_is_found_told_and_on_request_corrected(tmp_path, late_frames):
    bag = turning_bag(tmp_path / "run", late_frames=late_frames)
    row = convert([bag], tmp_path / "out", OPTIONS)["rows"]["run"]
    lag = row["lag"]
    assert (lag["frames"], lag["corrected_s"]) == (late_frames, 0.0)
    assert lag["confidence"] > 0.7
    assert any("LAG NOT CORRECTED" in warning for warning in row["warnings"]) == bool(late_frames)

    lag = convert([bag], tmp_path / "fixed", options(lag="correct"))["rows"]["run"]["lag"]
    assert lag["corrected_s"] == pytest.approx(0.25 * late_frames)
    assert lag["correlation_after"] >= lag["correlation_before"] + (0.2 if late_frames else 0)


def test_the_actions_of_a_late_camera_are_those_of_its_pictures(tmp_path):
    wide = load_embodiment("base_3dof").to_dict()
    wide["channels"][2]["limits"] = [-1.0, 1.0]
    robot = type(BASE).from_dict(wide)
    datasets = []
    for late in (0, 2):
        bag = turning_bag(tmp_path / f"late{late}", late_frames=late)
        convert([bag], tmp_path / f"out{late}", options(embodiment=robot, lag="correct"))
        (episode,) = episodes_of(tmp_path / f"out{late}")
        datasets.append(episode)
    np.testing.assert_allclose(datasets[1].actions, datasets[0].actions[: len(datasets[1].actions)], atol=1e-6)


@needs_shared
@pytest.mark.parametrize("name", ["gostanford_no1vc_7_1", "gostanford_no1vc_9_1"])
def test_a_real_robot_converts_and_its_lag_is_found(tmp_path, name):
    robot = BASE.with_rate(3.0)
    row = convert([SHARED / name], tmp_path / "out", ConvertOptions(embodiment=robot, lag="correct"))["rows"][name]
    lag = row["lag"]
    assert lag["frames"] == 2
    assert lag["correlation_before"] < 0.5
    assert lag["correlation_after"] > 0.9
    assert row["kept"] > 0.9 * row["frames_in"]
    assert row["tick_rate_hz"] == pytest.approx(3.0, abs=0.01)
    for episode in episodes_of(tmp_path / "out"):
        robot.validate_actions(episode.actions)
        assert episode.frames().std() > 10
