"""A real ROS graph of both nodes, with a scripted robot: started once for a file of tests, stopped after it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType, ParameterValue

from egowm_core.embodiment import load_embodiment
from egowm_nodes import conversions
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.nodes.rig import Rig, start_node

ROBOT = load_embodiment("base_3dof")
INPUTS, PLAN, LIFECYCLE = "world_model: inputs", "world_model: plan", "world_model: lifecycle"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def broken_checkpoint(checkpoint: Path) -> Path:
    """One byte of the weights differs."""
    broken = Path(shutil.copytree(checkpoint, checkpoint.with_name("broken")))
    weights = bytearray((broken / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "weights.safetensors").write_bytes(bytes(weights))
    return broken


def set_text(rig: Rig, name: str, value: object) -> None:
    text = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(value))
    assert rig.set_parameter("world_model", name, text).successful


def refusal(rig: Rig, words: str) -> SimpleNamespace:
    """What the world model says when it can't be configured, and the state it is left in."""
    rig.until(lambda: words in rig.said(LIFECYCLE), words)
    status = rig.diagnostics[LIFECYCLE]
    return SimpleNamespace(level=status.level, message=status.message, state=rig.state("world_model"))


@pytest.fixture(scope="module")
def graph(
    checkpoint: Path, broken_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """Rig and processes of both nodes. The world model is first given what it must refuse, then what works."""
    processes: dict[str, Popen[bytes]] = {}
    logs = tmp_path_factory.mktemp("logs")
    slower = logs / "slower.yaml"
    slower.write_text(replace(ROBOT, rate_hz=5.0).to_yaml())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.setenv("OMP_NUM_THREADS", "1")
        rig = Rig()
        try:
            processes["world_model"] = start_node(
                "egowm_nodes.world_model_node",
                name="world_model",
                log=logs / "world_model",
                parameters={"auto_start": "true", "checkpoint": str(broken_checkpoint)},
            )
            processes["drift_monitor"] = start_node(
                "egowm_nodes.drift_monitor_node",
                name="drift_monitor",
                log=logs / "drift_monitor",
                parameters={"auto_start": "true", "learn_ticks": "48", "planned_period_s": "1.0"},
                remap=("rollouts:=world_model/rollout",),
            )
            refusals = {"hash": refusal(rig, "sha256")}
            set_text(rig, "checkpoint", checkpoint)
            set_text(rig, "embodiment", slower)
            assert not rig.change_state("world_model", Transition.TRANSITION_CONFIGURE)
            refusals["embodiment"] = refusal(rig, "not for the robot")
            set_text(rig, "embodiment", "base_3dof")
            assert rig.change_state("world_model", Transition.TRANSITION_CONFIGURE)
            assert rig.change_state("world_model", Transition.TRANSITION_ACTIVATE)
            rig.robot.start()
            yield SimpleNamespace(rig=rig, processes=processes, logs=logs, refusals=refusals)
        finally:
            rig.close()
            for process in processes.values():
                process.kill()
                process.wait()


@pytest.fixture
def rig(graph: SimpleNamespace) -> Iterator[Rig]:
    yield graph.rig
    graph.rig.robot.behave()
    assert graph.processes["world_model"].poll() is None and graph.processes["drift_monitor"].poll() is None


def source_is(source: int) -> Any:
    return lambda rollout: rollout.actions.source == source


def stamps_of(rollout: Any) -> tuple[int, list[int]]:
    return conversions.time_ns(rollout.header.stamp), [conversions.time_ns(stamp) for stamp in rollout.stamps]
