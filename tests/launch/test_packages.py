"""The packages: complete manifests, the same commands under colcon and pip, and everything on disk installed."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from egowm_nodes.launching import node_table

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML by itself")

ROOT = Path(__file__).parents[2]
SRC = ROOT / "ros_ws" / "src"
PACKAGES = ("egowm_bringup", "egowm_core", "egowm_msgs", "egowm_nodes", "egowm_sim")
PYTHON = ("egowm_core", "egowm_nodes", "egowm_sim")
SYSTEM_KEYS = {"cv2": "python3-opencv", "yaml": "python3-yaml", "PIL": "python3-pil", "tf2_ros": "tf2_ros_py"}
FALLBACKS = {"compression", "backports"}  # zstd: of the standard library from Python 3.14 on, of rosbags before
KEYS = yaml.safe_load((Path(__file__).parent / "rosdep_keys.yaml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def manifest(package: str) -> ElementTree.Element:
    return ElementTree.parse(SRC / package / "package.xml").getroot()


def depends(package: str) -> set[str]:
    return {str(tag.text) for tag in manifest(package) if tag.tag.endswith("depend")}


def from_pypi(package: str) -> set[str]:
    lines = re.findall(r"from PyPI[^:]*: ([\w ]+?)\s*(?:\n|-->)", (SRC / package / "package.xml").read_text())
    return {name for line in lines for name in line.split()}


def imported(package: str) -> set[str]:
    found: set[str] = set()
    for path in (SRC / package / package).resolve().rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {package} - FALLBACKS


def test_the_workspace_is_these_packages() -> None:
    assert {path.parent.name for path in SRC.glob("*/package.xml")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_manifests_are_whole(package: str) -> None:
    root = manifest(package)
    texts = {tag.tag: tag.text for tag in root}
    assert root.get("format") == "3"
    assert texts["name"] == package
    assert texts["license"] == PROJECT["project"]["license"] == "Apache-2.0"
    assert texts["version"] == PROJECT["project"]["version"]
    assert len(str(texts["description"])) > 30
    assert "@" in str(next(iter(root.iter("maintainer"))).get("email"))
    kind = root.findtext("export/build_type")
    assert kind == ("ament_python" if package in PYTHON else "ament_cmake")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_dependency_is_a_package_here_or_a_rosdep_key(package: str) -> None:
    unknown = depends(package) - set(PACKAGES) - set(KEYS["jazzy"]) - set(KEYS["ubuntu"])
    assert not unknown, f"{unknown}: look them up in ros/rosdistro and add them to rosdep_keys.yaml"


@pytest.mark.parametrize("package", PYTHON)
def test_every_import_is_in_the_manifest_and_nothing_else_is(package: str) -> None:
    declared, pypi = depends(package), from_pypi(package)
    missing = set()
    used = set()
    for module in imported(package):
        name = SYSTEM_KEYS.get(module, module if module in KEYS["jazzy"] or module in PACKAGES else f"python3-{module}")
        (used if name in declared or module in pypi else missing).add(name if name in declared else module)
    assert not missing, f"{package} imports {missing}: add them to its package.xml"
    # accelerate, peft and onnx are asked for by name at run time, not imported by a statement of their own
    assert declared | pypi <= used | {"accelerate", "onnx", "peft"}


def test_bringup_depends_on_every_package_that_its_launch_files_start() -> None:
    started = {entry.package for entry in node_table.NODES} | {"rviz2", "diagnostic_aggregator", "launch_ros"}
    assert started <= depends("egowm_bringup")


def _setup_scripts(package: str) -> dict[str, str]:
    found = re.findall(r'f"(\w+) = \{PACKAGE\}\.([\w.]+:main)"', (SRC / package / "setup.py").read_text())
    return {f"egowm-{name.replace('_', '-')}": f"{package}.{target}" for name, target in found}


@pytest.mark.parametrize("package", PYTHON)
def test_ros2_run_and_pip_know_the_same_commands(package: str) -> None:
    of_pip = {name: to for name, to in PROJECT["project"]["scripts"].items() if to.startswith(f"{package}.")}
    assert _setup_scripts(package) == of_pip


def test_pip_installs_every_package_on_disk() -> None:
    roots = {"egowm_core": ROOT, "training": ROOT, "egowm_nodes": SRC / "egowm_nodes", "egowm_sim": SRC / "egowm_sim"}
    on_disk = {
        ".".join(path.parent.relative_to(base).parts)
        for name, base in roots.items()
        for path in (base / name).rglob("__init__.py")
    }
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    # folders of data alone are packages without an __init__.py
    assert on_disk <= listed
    for name in listed - on_disk:
        base = roots[name.split(".")[0]]
        assert any((base / Path(*name.split("."))).iterdir()), name


def test_the_library_and_the_launch_files_reach_colcon_by_links_that_lead_somewhere() -> None:
    for link, target in (("egowm_core/egowm_core", "egowm_core"), ("egowm_bringup/launch", "launch")):
        assert (SRC / link).is_symlink()
        assert (SRC / link).resolve() == ROOT / target
    assert "REAL_PATH" in (SRC / "egowm_bringup" / "CMakeLists.txt").read_text()


def test_what_bringup_has_is_installed() -> None:
    cmake = (SRC / "egowm_bringup" / "CMakeLists.txt").read_text()
    installed = set(re.search(r"foreach\(_folder ([\w ]+)\)", cmake)[1].split()) | {"launch"}  # type: ignore[index]
    assert {path.name for path in (SRC / "egowm_bringup").iterdir() if path.is_dir()} <= installed
