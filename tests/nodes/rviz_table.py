"""Reads out of RViz's own sources which classes a configuration may name, and which properties of which kind they have.

    git clone --branch jazzy https://github.com/ros2/rviz && python -m tests.nodes.rviz_table rviz

writes ``rviz_jazzy.yaml`` beside this file, which the test of the configurations reads. It finds constructor calls of
properties by pattern, which serves for the few classes named here; it is no C++ parser.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("rviz_jazzy.yaml")
_PLUGINS = "rviz_default_plugins/plugins_description.xml"
_DISPLAYS = "rviz_default_plugins/src/rviz_default_plugins/displays"
_VIEWS = "rviz_default_plugins/src/rviz_default_plugins/view_controllers"
_COMMON = "rviz_common/src/rviz_common"
_TOPIC = ("rviz_common/include/rviz_common/ros_topic_display.hpp", f"{_COMMON}/properties/qos_profile_property.cpp")
_FILTER = (*_TOPIC, "rviz_common/include/rviz_common/message_filter_display.hpp")
SOURCES = {  # which files make the properties of a class, those of what it inherits first
    "rviz_default_plugins/Grid": (f"{_DISPLAYS}/grid/grid_display.cpp",),
    "rviz_default_plugins/Image": (*_TOPIC, f"{_DISPLAYS}/image/image_display.cpp"),
    "rviz_default_plugins/MarkerArray": (*_TOPIC, f"{_DISPLAYS}/marker/marker_common.cpp"),
    "rviz_default_plugins/Odometry": (*_FILTER, f"{_DISPLAYS}/odometry/odometry_display.cpp"),
    "rviz_default_plugins/TF": (f"{_DISPLAYS}/tf/tf_display.cpp",),
    "rviz_default_plugins/Orbit": (
        f"{_COMMON}/view_controller.cpp",
        f"{_COMMON}/frame_position_tracking_view_controller.cpp",
        f"{_VIEWS}/orbit/orbit_view_controller.cpp",
    ),
    "Global Options": (f"{_COMMON}/visualization_manager.cpp",),
}
_CALL = re.compile(r"(?:(\w+(?:->\w+)?)\s*=\s*)?new\s+(?:\w+::)*(\w*)Property\(")
_OPTION = re.compile(r'(\w+)->addOption(?:Std)?\(\s*"([^"]+)"')
_PARENT = re.compile(r"(this|display_|\w+_property_?|\w+_category_|global_options_|root_display_group_)")
_POLICY = re.compile(r'\{RMW_QOS_POLICY_(HISTORY|RELIABILITY|DURABILITY)_\w+, "([^"]+)"\}')


def arguments_at(text: str, start: int) -> list[str]:
    """The arguments of a call, split at top-level commas; ``start`` is just behind the opening bracket."""
    depth, quoted, parts, current = 0, False, [], ""
    for i in range(start, len(text)):
        char = text[i]
        if char == '"' and text[i - 1] != "\\":
            quoted = not quoted
        if not quoted:
            if char in ")}]" and depth == 0:
                return [*parts, current.strip()]
            depth += (char in "({[") - (char in ")}]")
            if char == "," and depth == 0:
                parts, current = [*parts, current.strip()], ""
                continue
        current += char
    raise ValueError("a call does not end")


def properties_in(text: str) -> dict[str, Any]:
    """The properties that a file makes, nested as RViz saves them: name to kind, options and children."""
    made: dict[str, dict[str, Any]] = {}  # by variable
    top: dict[str, Any] = {}
    for call in _CALL.finditer(text):
        arguments = arguments_at(text, call.end())
        if not re.fullmatch(r'"[^"]*"', arguments[0]) or "->" in (call[1] or ""):
            continue  # made at run time, one for each frame
        entry: dict[str, Any] = {"kind": call[2] or "Group"}
        options = [option for variable, option in _OPTION.findall(text) if variable == call[1]]
        if options:
            entry["options"] = options
        parents = [argument for argument in arguments[1:] if _PARENT.fullmatch(argument)]
        parent = made.get(parents[0]) if parents else None
        siblings = top if parent is None else parent.setdefault("children", {})
        siblings[arguments[0].strip('"')] = entry
        if call[1]:
            made[call[1]] = entry
    return top


def read(root: Path) -> dict[str, Any]:
    """The whole table of a checkout."""
    xml = (root / _PLUGINS).read_text(encoding="utf-8")
    plugins: dict[str, list[str]] = {}
    for name, kind in re.findall(r'name="(rviz_default_plugins/\w+)"[^>]*?base_class_type="([\w:]+)"', xml, re.DOTALL):
        plugins.setdefault(name, []).append(kind)
    panels = re.findall(
        r'"rviz_common", "([\w ]+)"', (root / _COMMON / "panel_factory.cpp").read_text(encoding="utf-8")
    )
    asked = ["git", "-C", str(root), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=True)
    table: dict[str, Any] = {
        "commit": commit.stdout.strip(),
        "plugins": dict(sorted(plugins.items())),
        "panels": sorted(f"rviz_common/{name}" for name in panels),
        "properties": {},
    }
    for name, files in SOURCES.items():
        found: dict[str, Any] = {}
        for file in files:
            made = properties_in((root / file).read_text(encoding="utf-8"))
            if file in _TOPIC[1:] or file == _FILTER[-1]:  # what these make hangs below the topic
                for policy, option in _POLICY.findall((root / file).read_text(encoding="utf-8")):
                    made[f"{policy.capitalize()} Policy"].setdefault("options", []).append(option)
                found["Topic"].setdefault("children", {}).update(made)
            else:
                found.update(made)
        table["properties"][name] = found
    return table


def main() -> int:
    """Write the table."""
    header = "# Made by rviz_table.py from the sources of ros2/rviz, branch jazzy.\n"
    TABLE.write_text(header + yaml.safe_dump(read(Path(sys.argv[1])), sort_keys=False, width=120), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
