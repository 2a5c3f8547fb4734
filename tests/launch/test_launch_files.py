"""The launch files: their assembly always, and with launch_ros what they would start, in namespaces and included."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from egowm_nodes.launching import fastdds, node_table
from egowm_nodes.launching.node_table import MODES

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
BRINGUP = ROOT / "ros_ws" / "src" / "egowm_bringup"
TWO = "two_robots"
LIGHT = (
    "import sys, egowm_nodes.launching.node_table, egowm_nodes.launching.fastdds; "
    "print(sorted({'torch', 'numpy', 'cv2'} & set(sys.modules)))"
)


def test_there_is_one_launch_file_a_mode_and_no_package() -> None:
    files = {path.name for path in LAUNCH.iterdir() if path.suffix == ".py"}
    assert files == {f"{name}.launch.py" for name in (*MODES, TWO)}
    assert not (LAUNCH / "__init__.py").exists()  # it would shadow ROS's own launch


@pytest.mark.parametrize("mode", MODES)
def test_launch_files_name_their_mode(mode: str) -> None:
    tree = ast.parse((LAUNCH / f"{mode}.launch.py").read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [ast.literal_eval(argument) for call in calls for argument in call.args] == [mode]
    assert f"ros2 launch egowm_bringup {mode}.launch.py" in (ast.get_docstring(tree) or "")


def test_what_launch_files_import_is_light() -> None:
    """``ros2 launch`` runs under the system's Python, which has no torch."""
    told = subprocess.run([sys.executable, "-c", LIGHT], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"


def test_rviz_shows_topics_that_the_nodes_publish() -> None:
    layout = (BRINGUP / "rviz" / "base.rviz").read_text()
    for topic in ("world_model/predicted/strip", "drift_monitor/overlay", "drift_monitor/history"):
        assert topic in layout


def test_the_diagnostics_tree_has_every_node() -> None:
    tree = yaml.safe_load((BRINGUP / "config" / "diagnostics.yaml").read_text())["/**"]["ros__parameters"]
    names = [name for value in tree.values() if isinstance(value, dict) for name in value["contains"]]
    assert {name.split(":")[0] for name in names} == {entry.name for entry in node_table.NODES if entry.lifecycle}


def test_the_fast_dds_profile_fits_the_room_unless_one_is_set(tmp_path: Path) -> None:
    variables, remark = fastdds.profile({}, shared_memory=tmp_path)
    assert remark == "" and variables[fastdds.PROFILE_VARIABLE] == str(node_table.FASTDDS_PROFILE)
    variables, remark = fastdds.profile({fastdds.PROFILE_VARIABLE: "mine.xml"}, shared_memory=tmp_path)
    assert variables == {} and "mine.xml" in remark
    variables, remark = fastdds.profile({}, shared_memory=tmp_path / "none")
    assert variables[fastdds.PROFILE_VARIABLE] == str(node_table.FASTDDS_SMALL_PROFILE) and "--shm-size" in remark


def test_both_fast_dds_profiles_lease_longer_than_a_computer_sleeps_unnoticed() -> None:
    profiles = [ElementTree.parse(path) for path in (node_table.FASTDDS_PROFILE, node_table.FASTDDS_SMALL_PROFILE)]
    leases = [profile.findtext(".//{*}leaseDuration/{*}sec") for profile in profiles]
    assert leases == ["100", "100"]  # the standard's own; with 20 s a stalled node stays deaf, see egowm-stress stall
    segments = [profile.findtext(".//{*}segment_size") for profile in profiles]
    assert segments == ["20971520", None]


# ---- with ROS's own launch ------------------------------------------------------------------------------------------


@pytest.fixture(name="ros")
def _ros() -> Any:
    return pytest.importorskip("launch_ros", reason="the ROS launch system is not installed here")


def _describe(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{name}_launch", LAUNCH / f"{name}.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def _started(mode: str, **given: str) -> list[Any]:
    """The actions of a mode with these arguments; nothing is run."""
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    from launch import LaunchContext

    description, context = _describe(mode), LaunchContext()
    context.launch_configurations.update(given)
    for action in description.entities:
        if isinstance(action, DeclareLaunchArgument):
            action.execute(context)
    opaque = next(action for action in description.entities if isinstance(action, OpaqueFunction))
    return list(opaque.execute(context) or [])


def _nodes(mode: str, **given: str) -> dict[str, Any]:
    from launch_ros.actions import Node

    return {action.node_executable: action for action in _started(mode, **given) if isinstance(action, Node)}


def _command(node: Any) -> str:
    """The node's full name, its remappings and the contents of its parameter files."""
    from launch import LaunchContext

    node._perform_substitutions(LaunchContext())
    paths = [path for path, is_file in node._Node__expanded_parameter_arguments or [] if is_file]
    remappings = [f"{source}:={target}" for source, target in node.expanded_remapping_rules or []]
    return " ".join([node.node_name, *remappings, *(Path(path).read_text() for path in paths)])


@pytest.mark.parametrize("mode", MODES)
def test_launch_files_start_the_nodes_of_the_table(ros: Any, mode: str) -> None:
    from launch.actions import DeclareLaunchArgument
    from launch_ros.actions import LifecycleNode

    declared = [entity for entity in _describe(mode).entities if isinstance(entity, DeclareLaunchArgument)]
    assert {a.name for a in declared} >= {argument.name for argument in node_table.arguments(mode)}
    assert all(argument.description for argument in declared)
    nodes = _nodes(mode, planner="true") if mode in node_table.DRIVABLE else _nodes(mode)
    expected = node_table.nodes(mode)
    assert list(nodes) == [entry.executable for entry in expected]
    for entry in expected:
        assert nodes[entry.executable].node_package == entry.package
        assert isinstance(nodes[entry.executable], LifecycleNode) == entry.lifecycle
        assert ("auto_start: true" in _command(nodes[entry.executable])) == entry.lifecycle


@pytest.mark.parametrize("mode", MODES)
def test_every_node_comes_back_but_the_recording(ros: Any, mode: str) -> None:
    from launch.utilities.type_utils import perform_typed_substitution

    from launch import LaunchContext

    for name, node in _nodes(mode).items():
        respawn = perform_typed_substitution(LaunchContext(), node._ExecuteLocal__respawn, bool)
        assert respawn == (name != node_table.REPLAY)
    for node in _nodes(mode, respawn="false").values():
        assert not perform_typed_substitution(LaunchContext(), node._ExecuteLocal__respawn, bool)


def test_a_namespaced_robot_has_its_own_transforms_unless_told_otherwise(ros: Any) -> None:
    assert "/tf:=" not in _command(_nodes("sim")["sim_robot"])
    inside = _command(_nodes("sim", namespace="one")["sim_robot"])
    assert "/tf:=tf" in inside and "/tf_static:=tf_static" in inside and inside.startswith("/one/sim_robot ")
    assert "/tf:=" not in _command(_nodes("sim", namespace="one", private_tf="false")["sim_robot"])
    # a namespace that the including launch file pushed counts as well
    assert "/tf:=tf" in _command(_nodes("sim", ros_namespace="/fleet")["sim_robot"])


def test_nodes_get_enclaves_of_their_own_where_asked(ros: Any) -> None:
    def words(**given: str) -> list[str]:
        node = _nodes("base", **given)["world_model"]
        return [part.text for word in node.cmd for part in word if hasattr(part, "text")]

    assert "--enclave" not in words()
    said = words(enclaves="/egowm/")
    assert said[said.index("--enclave") + 1] == "/egowm/world_model"


def test_arguments_reach_the_nodes(ros: Any) -> None:
    nodes = _nodes("base", checkpoint="7", image_topic="/cam/image_raw", autostart="false", use_sim_time="true")
    said = _command(nodes["world_model"])
    assert "checkpoint: '7'" in said and "auto_start: false" in said and "use_sim_time: true" in said
    assert "image/compressed:=/cam/image_raw/compressed" in said
    assert list(_nodes("base", drift_monitor="false")) == ["world_model"]


def test_the_planner_comes_on_request_alone_and_then_drives_the_simulated_robot(ros: Any) -> None:
    assert "planner" not in _nodes("sim") and "planner" not in _nodes("base")
    nodes = _nodes("sim", planner="true", goal_file="7")
    assert list(nodes)[-1] == "planner" and "goal_file: '7'" in _command(nodes["planner"])
    assert "drive: cmd_vel" in _command(nodes["sim_robot"]).splitlines()[-1]
    base = _nodes("base", planner="true", cmd_vel_topic="/wheels/cmd_vel", image_topic="/cam/image_raw")["planner"]
    assert "cmd_vel:=/wheels/cmd_vel" in _command(base) and "image:=/cam/image_raw" in _command(base)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"respawn": "perhaps"}, "respawn is 'perhaps'; expected true or false"),
        ({"respawn_delay_s": "soon"}, "respawn_delay_s is 'soon'"),
        ({"log_level": "loud"}, "log_level is 'loud'; expected one of debug"),
        ({"seed": "many"}, "seed is 'many'; expected a whole number"),
        ({"params_file": "nowhere.yaml"}, "nowhere.yaml does not exist"),
        ({"planner": "maybe"}, "planner is 'maybe'; expected true or false"),
        ({"planner": "true", "drive": "auto"}, "contradict each other; leave one out, or give drive:=cmd_vel"),
        ({"goal_file": "goal.png"}, "give planner:=true, too"),
    ],
)
def test_wrong_arguments_are_refused(ros: Any, given: dict[str, str], told: str) -> None:
    from egowm_core.errors import ConfigError

    with pytest.raises(ConfigError, match=told):
        _started("sim", **given)


def test_the_aggregator_sorts_one_robots_diagnostics(ros: Any) -> None:
    from egowm_core.errors import ConfigError
    from egowm_nodes.launching.extras import aggregator_parameters

    config = BRINGUP / "config" / "diagnostics.yaml"
    alone, one = aggregator_parameters(config, ""), aggregator_parameters(config, "fleet/one")
    assert alone["path"] == "egowm" and one["path"] == "egowm/fleet/one"
    assert alone["world_model"]["startswith"] == ["world_model: "]
    assert one["world_model"]["startswith"] == ["fleet/one/world_model: "]
    assert "contains" not in one["world_model"]
    with pytest.raises(ConfigError, match="no configuration"):
        aggregator_parameters(BRINGUP / "package.xml", "")


def test_two_robots_are_two_included_files_in_groups_of_their_own(ros: Any) -> None:
    from launch.actions import GroupAction, IncludeLaunchDescription

    groups = [entity for entity in _describe(TWO).entities if isinstance(entity, GroupAction)]
    inner = [each for group in groups for each in group.get_sub_entities()]
    included = [each for each in inner if isinstance(each, IncludeLaunchDescription)]
    assert len(groups) == len(included) == 2
    given = [dict(each.launch_arguments) for each in included]
    assert all(set(each) == {"namespace", "dashboard"} for each in given)
