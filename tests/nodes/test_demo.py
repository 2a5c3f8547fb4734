"""The demo for real: simulator, a tiny checkpoint, monitor, recorder; and what it says when it cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
av = pytest.importorskip("av")

from rosbags.highlevel import AnyReader  # noqa: E402

from egowm_nodes.demo import report  # noqa: E402
from egowm_nodes.demo.session import read_session  # noqa: E402
from egowm_sim.bag import RobotBag  # noqa: E402
from egowm_sim.robot import Odometry  # noqa: E402
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint  # noqa: E402

DOMAIN = str(1 + (os.getpid() + 50) % 100)
LIMIT_S = 200


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


def _demo(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "egowm_nodes.demo", "--domain-id", DOMAIN, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.fixture(scope="module")
def simulated(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Output folder and what was said, of six simulated seconds."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = _demo("--checkpoint", checkpoint, "--seconds", "6", "--seed", "7", "--out", out, "--json", out / "copy.json")
    logs = "\n".join(f"{log.name}: {log.read_text()}" for log in (out / "logs").iterdir())
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert "Traceback" not in done.stdout + done.stderr + logs
    return out, done.stdout


def test_the_artefacts_open(simulated: tuple[Path, str]) -> None:
    out, said = simulated
    with av.open(str(out / report.VIDEO)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 1548, 348)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(pictures) >= 10
    panels = pictures[-1][26:314].reshape(288, 1548, 3)[:, : 4 * 387 - 3]
    for number, name in enumerate(("observed", "1 s earlier", "2 s earlier", "overlay")):
        assert panels[:, number * 388 : number * 388 + 384].std() > 15, name  # a picture, not the empty page
    strip = cv2.imread(str(out / report.STRIP))
    assert strip is not None and strip.shape[1] > 1000
    page = (out / report.REPORT).read_text()
    assert "<svg" in page and "data:image/png;base64" in page and report.VIDEO in page
    assert json.loads((out / "copy.json").read_text()) == json.loads((out / report.STATUS).read_text())
    assert "rollouts" in said


def test_the_figures_are_those_of_the_run(simulated: tuple[Path, str]) -> None:
    found = json.loads((simulated[0] / report.STATUS).read_text())
    assert found["rollouts"] > 5 and found["drift_scored"] > 0
    assert set(found["rollouts_by_source"]) == {"held", "executed"}
    assert 0 < found["camera_to_rollout_s"]["p50"] < 5
    assert list(found["rows"]["model"]["scs"]) == ["2", "4", "8"]
    assert found["run"]["exit_statuses"] == {"sim_robot": 0, "world_model": 0, "drift_monitor": 0}
    assert found["run"]["settings"]["seed"] == 7
    assert any("replaced" in name for name in found["drops"])


def test_the_bag_holds_all_topics_with_their_definitions(simulated: tuple[Path, str]) -> None:
    wanted = {
        "/image/compressed": "sensor_msgs/msg/CompressedImage",
        "/camera_info": "sensor_msgs/msg/CameraInfo",
        "/odom": "nav_msgs/msg/Odometry",
        "/cmd_vel": "geometry_msgs/msg/Twist",
        "/world_model/rollout": "egowm_msgs/msg/Rollout",
        "/world_model/predicted/image_raw": "sensor_msgs/msg/Image",
        "/world_model/predicted/strip": "sensor_msgs/msg/Image",
        "/drift_monitor/drift": "egowm_msgs/msg/Drift",
        "/drift_monitor/overlay": "sensor_msgs/msg/Image",
        "/drift_monitor/history": "sensor_msgs/msg/Image",
        "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    }
    with AnyReader([simulated[0] / report.BAG]) as reader:  # no type store given: the bag explains itself
        found = {connection.topic: connection.msgtype for connection in reader.connections}
        assert found.items() >= wanted.items()
        for connection, _, raw in reader.messages():
            reader.deserialize(raw, connection.msgtype)


def test_what_is_read_back_is_consistent(simulated: tuple[Path, str]) -> None:
    session = read_session(simulated[0] / report.BAG)
    assert not session.undecodable
    stamps = {picture.stamp_ns for picture in session.observed}
    for prediction in session.predictions:
        assert prediction.frames.shape == (8, 96, 128, 3)
        assert prediction.actions.shape == (8, 3)
        assert (np.diff(prediction.stamps_ns) > 0).all()
        if prediction.source == "executed":  # hindsight frames are those of pictures that were taken
            assert prediction.context_ns in stamps


def test_the_report_is_made_again_from_the_bag(simulated: tuple[Path, str]) -> None:
    out = simulated[0]
    before = (out / report.STATUS).read_text()
    for name in (report.VIDEO, report.STRIP, report.REPORT, report.STATUS):
        (out / name).unlink()
    done = _demo("--report-only", out)
    assert done.returncode == 0, done.stderr
    assert (out / report.STATUS).read_text() == before
    assert (out / report.VIDEO).stat().st_size > 10_000


def test_a_recording_too_slow_for_the_model_sets_the_tick_rate(checkpoint: Path, tmp_path: Path) -> None:
    path, step_ns = tmp_path / "slow", 1_000_000_000 // 3
    with RobotBag(path, height=96, width=128, truth=False) as bag:
        for number in range(18):
            at_ns = 10**18 + number * step_ns
            bag.odometry(Odometry(x=0.1 * number, y=0.0, yaw=0.0, v=0.3, w=0.0, stamp_ns=at_ns))
            bag.image(at_ns, made_up_picture(96, 128, seed=0))
    done = _demo("--bag", path, "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / report.STATUS).read_text())
    assert found["run"]["settings"]["tick_rate_hz"] == pytest.approx(3.0, abs=0.01)
    assert any("3 images a second" in remark for remark in found["run"]["remarks"])
    session = read_session(tmp_path / "out" / report.BAG)
    assert np.diff(session.predictions[0].stamps_ns) * 1e-9 == pytest.approx(1 / 3, abs=0.01)


def test_a_node_that_cannot_run_is_named_with_its_reason(tmp_path: Path) -> None:
    done = _demo("--checkpoint", tmp_path / "nowhere", "--seconds", "3", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "world_model" in done.stderr and "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out" / report.RUN).read_text())["exit_statuses"]["drift_monitor"] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--bag", "nowhere.mcap"), "nowhere.mcap does not exist"),
        (("--seconds", "-1"), "must be positive"),
        (("--embodiment", "base_3dog", "--bag", "nowhere.mcap"), "base_3dof"),
        (("--params-file", "nowhere.yaml"), "nowhere.yaml does not exist"),
    ],
)
def test_wrong_options_end_it_with_2_before_anything_starts(
    tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    done = _demo(*options, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()
