"""``egowm-stress`` itself: its figures, its hostile messages, its respawner and its options. No node is started."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_msgs.msg import ActionSequence, Rollout
from geometry_msgs.msg import PoseStamped, Twist
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError
from egowm_nodes.launching.node_table import NodeEntry, NodeRun
from egowm_nodes.prediction.quick_start import lean_imports
from egowm_nodes.runtime.process_figures import MEGABYTE, Footprint, footprint
from egowm_nodes.stress import cli, figures
from egowm_nodes.stress.hostile import Hostile
from egowm_nodes.stress.system import System, planned
from egowm_nodes.stress.wild import LARGEST

KINDS = (Image, CompressedImage, Odometry, JointState, ActionSequence, PathMsg, JointTrajectory, Twist, CameraInfo,
         Rollout, PoseStamped)  # fmt: skip


def test_memory_that_grows_is_told_from_memory_that_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    log = figures.MemoryLog()
    for second in range(100):
        course = {"grows": 100 + second, "settles": 100 + min(second, 20)}
        for name, megabytes in course.items():
            monkeypatch.setattr(figures, "footprint", lambda _, m=megabytes: Footprint(m * MEGABYTE, 5, 9))
            log.sample(name, 1, float(second))
    grows, settles = (log.row(name, settle_s=25.0) for name in ("grows", "settles"))
    assert grows["memory_growth_percent"] > 40.0 and grows["memory_slope_mb_per_min"] == pytest.approx(60.0)
    assert settles["memory_growth_percent"] == 0.0 and settles["memory_peak_mb"] == 120.0


def test_the_footprint_of_a_process_that_is_gone_is_none() -> None:
    here = footprint()
    assert here is not None and here.rss > MEGABYTE and here.threads >= 1 and here.files >= 3
    assert footprint(2**22 + 1) is None


def test_an_outcome_names_what_did_not_hold() -> None:
    outcome = figures.Outcome("kill", rows={"node": {"max_s": float("inf"), "killed": 2}})
    outcome.check("all is well", True)
    outcome.check("soon", False)
    assert outcome.failed == ["soon"] and "BROKEN soon" in outcome.text()
    assert outcome.as_json()["rows"]["node"] == {"max_s": None, "killed": 2}


@pytest.mark.parametrize("robot", ["base_3dof", "humanoid_25dof"])
def test_hostile_messages_are_seeded_many_and_can_be_sent(robot: str) -> None:
    def some(seed: int) -> list[bytes]:
        hostile = Hostile(seed, load_embodiment(robot))
        made = []
        for kind in KINDS * 4:
            made.append(serialize_message(hostile.message(kind)))
            made.append(hostile.raw(kind))
        return made

    first, again, other = some(1), some(1), some(2)
    assert [len(data) for data in first] == [len(data) for data in again] != [len(data) for data in other]
    assert len(set(first)) > 0.6 * len(first)
    assert max(map(len, first)) < 3 * LARGEST  # tens of megabytes at most, or a run never ends


def test_the_largest_message_has_its_size_or_there_is_none() -> None:
    hostile = Hostile(1, load_embodiment("base_3dof"))
    for kind in (Image, CompressedImage, Rollout):
        assert LARGEST <= len(serialize_message(hostile.largest(kind))) < LARGEST + 1000
    assert hostile.largest(Odometry) is None and hostile.largest(ActionSequence) is None


def test_what_ends_is_started_again_and_how_it_ended_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(name, "")
    entry = NodeEntry(
        name="brief", package="egowm_nodes", executable="brief", module="timeit", lifecycle=False, config="", modes=()
    )  # refuses the options of a node: ends with status 2
    with System(tmp_path, domain_id=1, respawn=True) as system:
        process = system.start(NodeRun(entry=entry, parameter_files=()), namespace="robot")
        assert system.wait_ending("robot/brief", 3, timeout_s=120.0) == 2
    assert process.endings[:3] == [2, 2, 2] and process.popen.poll() is not None
    assert process.words[-2:] == ["-r", "__ns:=/robot"]


def test_a_node_on_request_runs_where_it_is_named() -> None:
    assert "planner" not in [run.entry.name for run in planned("sim")]
    runs = {run.entry.name: run for run in planned("sim", nodes=["planner"])}
    assert set(runs) == {"sim_robot", "world_model", "drift_monitor", "planner"}
    assert runs["sim_robot"].parameters["drive"] == "cmd_vel"
    with pytest.raises(ConfigError, match="--nodes planer: not a node of sim; expected some of sim_robot"):
        planned("sim", nodes=["planer"])


@pytest.mark.parametrize(
    "options, words",
    [
        (["overhead", "--size", "640"], "WIDTHxHEIGHT"),
        (["flood", "--rate-hz", "0"], "not positive"),
        (["kill", "--times", "0"], "not at least 1"),
        (["robots", "--robots", "ada=boat"], "NAMESPACE=MODE"),
        (["dance"], "invalid choice"),
    ],
)
def test_wrong_options_end_with_status_2(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(options)
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_packages_are_hidden_within_and_back_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_thing.py").write_text("weight = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with lean_imports(("heavy_thing", "json")):
        assert importlib.util.find_spec("heavy_thing") is None
        assert sys.modules["json"] is not None  # imported before: stays
        with pytest.raises(ImportError):
            importlib.import_module("heavy_thing")
    assert importlib.import_module("heavy_thing").weight == 1
