"""The table of nodes agrees with itself, with the nodes' modules and with the packages that install them."""

from __future__ import annotations

import configparser
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from egowm_core.errors import ConfigError
from egowm_nodes.launching import node_table
from egowm_nodes.launching.node_table import MODES, NODES, plan

ROOT = Path(__file__).parents[2]
SRC = ROOT / "ros_ws" / "src"


@pytest.mark.parametrize("entry", NODES, ids=lambda entry: entry.name)
def test_every_node_has_its_module_executable_and_parameters(entry: node_table.NodeEntry) -> None:
    assert importlib.util.find_spec(entry.module) is not None
    setup = (SRC / entry.package / "setup.py").read_text()
    assert re.search(rf'"{entry.executable} = \{{PACKAGE\}}\.{entry.module.split(".")[-1]}:main"', setup)
    settings = configparser.ConfigParser()
    settings.read(SRC / entry.package / "setup.cfg")
    assert settings["install"]["install_scripts"] == f"$base/lib/{entry.package}"
    assert list(yaml.safe_load(entry.config_path.read_text())) == [f"/**/{entry.name}"]


def test_config_files_are_installed_by_colcon_and_by_pip() -> None:
    setup = (SRC / "egowm_nodes" / "setup.py").read_text()
    assert '"config").iterdir()' in setup and 'package_data={PACKAGE: ["config/*"]}' in setup
    assert all(path.is_file() for path in node_table.CONFIG_DIR.iterdir())  # folders would be left out


@pytest.mark.parametrize("mode", MODES)
def test_every_argument_sets_a_known_parameter_of_a_node_of_its_modes(mode: str) -> None:
    names = {entry.name for entry in node_table.nodes(mode)}
    arguments = node_table.arguments(mode)
    assert len({argument.name for argument in arguments}) == len(arguments)
    for argument in arguments:
        assert names & {*argument.nodes, argument.starts}
        for node, parameter in argument.parameters:
            entry = next(entry for entry in NODES if entry.name == node)
            known = yaml.safe_load(entry.config_path.read_text())[f"/**/{node}"]["ros__parameters"]
            assert parameter in known, f"{argument.name}: {node} has no parameter {parameter}"


@pytest.mark.parametrize("mode", sorted(node_table.MODE_CONFIGS))
def test_a_modes_own_file_sets_known_parameters_and_comes_between_defaults_and_the_users(
    mode: str, tmp_path: Path
) -> None:
    path = node_table.CONFIG_DIR / node_table.MODE_CONFIGS[mode]
    blocks = yaml.safe_load(path.read_text())
    for entry in node_table.nodes(mode):
        known = yaml.safe_load(entry.config_path.read_text())[f"/**/{entry.name}"]["ros__parameters"]
        assert set(blocks.pop(f"/**/{entry.name}", {}).get("ros__parameters", {})) <= set(known)
    assert not blocks
    mine = tmp_path / "mine.yaml"
    mine.write_text("{}")
    for run in plan(mode, {}, params_file=mine):
        assert run.parameter_files == (run.entry.config_path, path, mine)


def test_plan_converts_leaves_out_what_is_unset_and_keeps_remappings() -> None:
    runs = {
        run.entry.name: run for run in plan("sim", {"seed": "5", "checkpoint": "here", "device": "", "drive": None})
    }
    assert list(runs) == ["sim_robot", "world_model", "drift_monitor"]
    assert runs["sim_robot"].parameters == {"seed": 5}
    assert runs["world_model"].parameters == {"checkpoint": "here"}
    assert ("rollouts", "world_model/rollout") in runs["drift_monitor"].remappings


def test_a_robots_camera_comes_along_with_its_compressed_twin() -> None:
    runs = {run.entry.name: run for run in plan("base", {"image_topic": "/cam/image_raw", "odom_topic": "/wheels"})}
    assert set(runs) == {"world_model", "drift_monitor"}
    for run in runs.values():
        assert ("image", "/cam/image_raw") in run.remappings
        assert ("image/compressed", "/cam/image_raw/compressed") in run.remappings
    assert ("odom", "/wheels") in runs["world_model"].remappings


@pytest.mark.parametrize(
    ("mode", "values", "told"),
    [
        ("fly", {}, "base, humanoid, sim, sim_humanoid, replay"),
        ("sim", {"sed": 1}, "seed"),
        ("sim", {"seed": "many"}, "whole number"),
        ("replay", {"loop": "perhaps"}, "true or false"),
        ("replay", {"rate": "fast"}, "a number"),
        ("sim", {"planner": "maybe"}, "true or false"),
        ("sim", {"planner": "true", "drive": "auto"}, "planner:=true and drive:=auto .* give drive:=cmd_vel"),
        ("sim", {"goal_file": "goal.png"}, "goal_file .* planner:=true"),
        ("base", {"goal_file": "goal.png", "planner": "false"}, "planner:=true"),
        ("sim_humanoid", {"planner": "true"}, "no argument of sim_humanoid"),
    ],
)
def test_wrong_arguments_are_refused(mode: str, values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan(mode, values)


def test_a_missing_params_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        plan("sim", {}, params_file="nowhere.yaml")


def test_a_monitor_alone_takes_the_rollouts_from_where_they_are() -> None:
    (run,) = plan("monitor_only", {"rollouts_topic": "/gpu/world_model/rollout", "embodiment": "base_3dof"})
    assert run.remappings == (("rollouts", "/gpu/world_model/rollout"),)
    assert run.parameters == {"embodiment": "base_3dof"}
    assert [run.entry.name for run in plan("base", {}, without=("drift_monitor",))] == ["world_model"]


def test_the_planner_runs_on_request_and_then_the_simulated_robot_obeys() -> None:
    for off in ({}, {"planner": "false"}, {"planner": False}, {"planner": ""}):
        assert "planner" not in {run.entry.name for run in plan("sim", off)}
        assert plan("sim", off)[0].parameters == {}
    for values in ({"planner": "true", "goal_file": "goal.png"}, {"planner": True, "goal_file": "goal.png",
                                                                  "drive": "cmd_vel"}):  # fmt: skip
        runs = {run.entry.name: run for run in plan("sim", values)}
        assert list(runs) == ["sim_robot", "world_model", "drift_monitor", "planner"]
        assert runs["sim_robot"].parameters == {"drive": "cmd_vel"}
        assert runs["planner"].parameters == {"goal_file": "goal.png"}
    assert "planner" not in {run.entry.name for run in plan("sim", {"planner": True}, without=("planner",))}


def test_a_planner_on_a_robot_shares_its_topics_and_its_rate() -> None:
    values = {"planner": "true", "image_topic": "/cam/image_raw", "cmd_vel_topic": "/wheels", "tick_rate_hz": "3"}
    runs = {run.entry.name: run for run in plan("base", values)}
    assert list(runs) == ["world_model", "drift_monitor", "planner"]
    assert runs["planner"].remappings == (
        ("image", "/cam/image_raw"), ("image/compressed", "/cam/image_raw/compressed"), ("cmd_vel", "/wheels"),
    )  # fmt: skip
    assert runs["planner"].parameters == runs["world_model"].parameters == {"tick_rate_hz": 3.0}


def test_where_the_planner_runs_others_get_its_file_under_the_users(tmp_path: Path) -> None:
    path = node_table.CONFIG_DIR / "planning.yaml"
    for node, block in yaml.safe_load(path.read_text()).items():
        entry = next(entry for entry in NODES if f"/**/{entry.name}" == node)
        known = yaml.safe_load(entry.config_path.read_text())[node]["ros__parameters"]
        assert set(block["ros__parameters"]) <= set(known)
    mine = tmp_path / "mine.yaml"
    mine.write_text("{}")
    for run in plan("sim", {"planner": True}, params_file=mine):
        assert run.parameter_files == (run.entry.config_path, path, mine)
    assert all(path not in run.parameter_files for run in plan("sim", {}))


def test_an_unset_argument_says_what_then_holds() -> None:
    said = {argument.name: argument.unset for argument in node_table.arguments("base")}
    assert said["checkpoint"] == "as the parameter file says"
    assert said["odom_topic"] == "odom, in the namespace"
