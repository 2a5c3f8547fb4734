"""The images: pinned, without root, with a health check, from files that are there. hadolint itself where it is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML by itself")

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"robot": ("sim", "demo"), "training": ("train", "pretrained", "sim", "demo", "onnx")}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word]


def pins(name: str) -> dict[str, str]:
    rows = [row for row in (DOCKER / f"{name}.txt").read_text().splitlines() if row and not row.startswith("#")]
    return dict(row.split("==") for row in rows)


def compose(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / name).read_text()))


def test_there_are_two_images() -> None:
    assert [path.name for path in DOCKERFILES] == ["robot.Dockerfile", "training.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_images_run_without_root_from_a_tagged_base_and_say_how_they_are(path: Path) -> None:
    steps = instructions(path)
    bases = dict(rest.split("=", 1) for word, rest in steps if word == "ARG" and rest.startswith("BASE="))
    assert re.fullmatch(r"[a-z]+:[\w.-]+", bases["BASE"]) and "latest" not in bases["BASE"]
    stages = [rest.split()[0] for word, rest in steps if word == "FROM"]
    named = {rest.split()[-1] for word, rest in steps if word == "FROM"}
    assert set(stages) <= {"${BASE}"} | named
    assert [rest for word, rest in steps if word == "USER"] == ["10001"]
    assert [word for word, _ in steps].count("HEALTHCHECK") == 1
    assert not [rest for word, rest in steps if word == "ADD"]
    shells = " ".join(rest for word, rest in steps if word == "RUN")
    assert not re.search(r"curl|wget|sudo|--break-system-packages|chmod 777", shells)
    for run in (rest for word, rest in steps if word == "RUN" and "apt-get install" in rest):
        assert "--no-install-recommends" in run and "rm -rf /var/lib/apt/lists/*" in run


def test_the_robot_image_is_stopped_by_the_signal_on_which_launch_stops_its_nodes() -> None:
    steps = dict(instructions(DOCKER / "robot.Dockerfile"))
    assert steps["STOPSIGNAL"] == "SIGINT" and "--noninteractive" in steps["CMD"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_is_copied_is_there_and_gets_to_the_builder(path: Path) -> None:
    kept = {row[1:] for row in (ROOT / ".dockerignore").read_text().splitlines() if row.startswith("!")}
    copied = set()
    for word, rest in instructions(path):
        if word == "COPY" and "--from=" not in rest:
            copied |= {name for name in rest.split()[:-1] if not name.startswith("--")}
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name.split("/")[0] in kept, f"{name} is in .dockerignore"
    if "ros_ws" in copied and "colcon" in path.read_text():
        assert {"launch", "egowm_core"} <= copied, "ros_ws reaches them by links, which would dangle"


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_pins_fit_what_the_project_asks_for(name: str) -> None:
    pinned = pins(name)
    wanted = [Requirement(row) for row in PROJECT["dependencies"]]
    wanted += [Requirement(row) for extra in EXTRAS[name] for row in PROJECT["optional-dependencies"][extra]]
    for requirement in wanted:
        assert requirement.name in pinned, f"{requirement.name} is missing from docker/{name}.txt"
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
    assert "triton" not in pinned and not [each for each in pinned if each.startswith("nvidia")]  # torch's own matter


def test_the_robots_numpy_is_the_one_that_jazzys_messages_are_built_against() -> None:
    assert pins("robot")["numpy"].startswith("1.26.")


def test_everything_from_pypi_that_the_manifests_name_is_pinned_for_robots() -> None:
    named: set[str] = set()
    for package in ("egowm_core", "egowm_nodes", "egowm_sim"):
        text = (ROOT / "ros_ws" / "src" / package / "package.xml").read_text()
        named |= set(re.search(r"from PyPI: ([\w ]+)", text)[1].split())  # type: ignore[index]
    assert {each.replace("_", "-") for each in named} <= set(pins("robot"))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.humanoid.yaml", "compose.gpu.yaml"])
def test_compose_files_describe_the_same_services(name: str) -> None:
    assert set(compose(name)["services"]) == {"sim", "suite"}


def test_services_are_bounded_and_cannot_become_more_than_they_are() -> None:
    for service in compose("compose.yaml")["services"].values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"mem_limit", "pids_limit", "restart"} <= set(service)
        assert not {"privileged", "ports", "volumes"} & set(service)
        assert service["environment"]["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_services_run_commands_that_are_installed() -> None:
    setups = {p: (ROOT / "ros_ws/src" / p / "setup.py").read_text() for p in ("egowm_nodes", "egowm_sim")}
    for name in ("compose.yaml", "compose.humanoid.yaml"):
        for service in compose(name)["services"].values():
            ros2, verb, package, target = [word for word in service["command"] if word != "--noninteractive"][:4]
            assert ros2 == "ros2"
            if verb == "run":
                assert f'f"{target} = ' in setups[package]
            else:
                assert (ROOT / "launch" / target).is_file()
                assert "--noninteractive" in service["command"]  # it stops its nodes itself, then


def test_hadolint_and_shellcheck_are_content() -> None:
    hadolint, shellcheck = shutil.which("hadolint"), shutil.which("shellcheck")
    if not hadolint or not shellcheck:
        pytest.skip("hadolint and shellcheck are not installed here")
    scripts = [DOCKER / "entrypoint.sh", *sorted((ROOT / "scripts").glob("*.sh"))]
    subprocess.run([hadolint, *map(str, DOCKERFILES)], check=True)
    subprocess.run([shellcheck, *map(str, scripts)], check=True)
