"""The launch files: their assembly always, and with launch_ros what they would start."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from egowm_nodes import node_table
from egowm_nodes.node_table import MODES

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
BRINGUP = ROOT / "ros_ws" / "src" / "egowm_bringup"


def test_there_is_one_launch_file_a_mode_and_no_package() -> None:
    assert {path.name for path in LAUNCH.iterdir() if path.suffix == ".py"} == {f"{m}.launch.py" for m in MODES}
    assert not (LAUNCH / "__init__.py").exists()  # it would shadow ROS's own launch


@pytest.mark.parametrize("mode", MODES)
def test_launch_files_name_their_mode(mode: str) -> None:
    tree = ast.parse((LAUNCH / f"{mode}.launch.py").read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [ast.literal_eval(argument) for call in calls for argument in call.args] == [mode]


def test_bringup_links_to_the_launch_files_and_installs_what_they_resolve_to() -> None:
    link = BRINGUP / "launch"
    assert link.is_symlink()
    assert link.resolve() == LAUNCH
    assert "REAL_PATH" in (BRINGUP / "CMakeLists.txt").read_text()
    manifest = (BRINGUP / "package.xml").read_text()
    for package in {entry.package for entry in node_table.NODES} | {"egowm_msgs", "launch_ros", "lifecycle_msgs"}:
        assert f"<exec_depend>{package}</exec_depend>" in manifest


def test_rviz_shows_topics_that_the_nodes_publish() -> None:
    layout = (BRINGUP / "rviz" / "base.rviz").read_text()
    for topic in ("image/compressed", "world_model/predicted/image_raw", "world_model/predicted/strip",
                  "drift_monitor/overlay", "drift_monitor/history"):  # fmt: skip
        assert f"Value: {topic}," in layout


def _describe(mode: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{mode}_launch", LAUNCH / f"{mode}.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


@pytest.mark.parametrize("mode", MODES)
def test_launch_files_start_the_nodes_of_the_table(mode: str) -> None:
    pytest.importorskip("launch_ros", reason="the ROS launch system is not installed here")
    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    from launch_ros.actions import LifecycleNode, Node

    from launch import LaunchContext

    description, context = _describe(mode), LaunchContext()
    declared = [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]
    assert {a.name for a in declared} >= {argument.name for argument in node_table.arguments(mode)}
    assert all(argument.description for argument in declared)
    for argument in declared:
        argument.execute(context)
    opaque = next(entity for entity in description.entities if isinstance(entity, OpaqueFunction))
    nodes = [action for action in opaque.execute(context) if isinstance(action, Node)]
    expected = node_table.nodes(mode)
    assert [node.node_package for node in nodes] == [entry.package for entry in expected]
    assert [isinstance(node, LifecycleNode) for node in nodes] == [entry.lifecycle for entry in expected]
