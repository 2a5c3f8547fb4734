"""The layouts for RViz and Foxglove: only classes and properties that these programs have, only topics that exist.

RViz's side is a table read from its sources (``rviz_table.py``, ``rviz_jazzy.yaml``); Foxglove's are the names of panel
settings in its layout API and in the open-source desktop program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_msgs.msg import Drift

from egowm_nodes.drift.markers import FRAMES, PATH, STATE
from egowm_nodes.pictures import STATE_COLORS
from egowm_nodes.planning.markers import BEST, CANDIDATES
from egowm_nodes.prediction.ahead import moment_name
from egowm_nodes.prediction.params import WorldModelParams
from tests.nodes.rviz_table import TABLE, properties_in

BRINGUP = Path(__file__).parents[2] / "ros_ws" / "src" / "egowm_bringup"
CONFIGS = sorted((BRINGUP / "rviz").glob("*.rviz"))
KNOWN = yaml.safe_load(TABLE.read_text())
FOXGLOVE = json.loads((BRINGUP / "foxglove" / "egowm.json").read_text())

MOMENTS = [f"world_model/predicted/{moment_name(s)}" for s in WorldModelParams().shown_ahead_s]
IMAGES = {
    "image/compressed", "world_model/predicted/image_raw", "world_model/predicted/strip", "drift_monitor/overlay",
    "drift_monitor/history", "dashboard/image", *(f"{moment}/image_raw" for moment in MOMENTS),
}  # fmt: skip
NAMESPACES = {"drift_monitor/markers": {PATH, FRAMES, STATE}, "planner/candidates": {CANDIDATES, BEST}}
TOPICS = IMAGES | {
    "camera_info", "odom", "diagnostics", "drift_monitor/drift", *NAMESPACES,
    *(f"{moment}/camera_info" for moment in MOMENTS),
}  # fmt: skip
RELIABLE = {"odom", *NAMESPACES}  # what the others publish is sensor data: a reliable reader gets nothing
OF_DISPLAYS = {"Class", "Name", "Enabled", "Value"}

RENDERER = {"scene", "transforms", "layers", "topics", "synchronize", "followMode", "cameraState", "followTf"}
PANELS = {  # by type: the settings that it has
    "Image": RENDERER | {"imageMode"},
    "3D": RENDERER,
    "Plot": {
        "paths", "minYValue", "maxYValue", "yAxisLabel", "showLegend", "legendDisplay", "showPlotValuesInLegend",
        "showXAxisLabels", "showYAxisLabels", "isSynced", "xAxisVal", "followingViewWidth", "sidebarDimension",
    },
    "StateTransitions": {"paths", "isSynced", "showPoints"},
    "Indicator": {"path", "style", "fallbackColor", "fallbackLabel", "rules"},
    "DiagnosticSummary": {
        "topicToRender", "minLevel", "pinnedIds", "hardwareIdFilter", "sortByLevel", "secondsUntilStale",
    },
    "DiagnosticStatusPanel": {"topicToRender", "selectedName", "splitFraction", "secondsUntilStale"},
}  # fmt: skip
SERIES = {"value", "label", "color", "enabled", "timestampMethod", "lineSize"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def faults(where: str, given: Any, known: dict[str, Any]) -> list[str]:
    """What of ``given`` RViz would silently pass over, or take for something else."""
    found = []
    for name, value in given.items():
        entry = known.get(name)
        if entry is None:
            found.append(f"{where} has no property {name}")
        elif isinstance(value, dict) and entry["kind"] not in ("Vector", "Covariance"):
            own = {} if name == "Namespaces" else {key: child for key, child in value.items() if key != "Value"}
            found += faults(f"{where}/{name}", own, entry.get("children", {}))
            if "Value" in value and not fits(value["Value"], entry):
                found.append(f"{where}/{name} is {value['Value']!r}, a {entry['kind']}")
        elif not fits(value, entry):
            found.append(f"{where}/{name} is {value!r}, a {entry['kind']}")
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


FITS: dict[str, Callable[[Any], bool]] = {
    "Bool": lambda value: isinstance(value, bool),
    "Int": lambda value: isinstance(value, int) and is_number(value),
    "Float": is_number,
    "Color": lambda value: bool(re.fullmatch(r"\d{1,3}; \d{1,3}; \d{1,3}", str(value))),
    "Vector": lambda value: set(value) == {"X", "Y", "Z"} and all(map(is_number, value.values())),
    "Covariance": lambda value: set(value) == {"Value"} and isinstance(value["Value"], bool),
    "RosTopic": lambda value: isinstance(value, str) and bool(value),
    "TfFrame": lambda value: isinstance(value, str) and bool(value),
}


def fits(value: Any, entry: dict[str, Any]) -> bool:
    return value in entry["options"] if "options" in entry else FITS[entry["kind"]](value)


def test_the_table_reader_finds_nesting_kinds_and_options():
    found = properties_in(
        'shape_property_ = new a::EnumProperty(\n "Shape", "Arrow", "Text, with (a comma)", this, SLOT(f()));\n'
        'shape_property_->addOption("Arrow", A);\nshape_property_->addOption("Axes", B);\n'
        'new FloatProperty("Alpha", 1, "How much.", shape_property_, SLOT(g()), this);\n'
        'info->x_ = new BoolProperty("Made later", true, "", this);'
    )
    alpha = {"kind": "Float"}
    assert found == {"Shape": {"kind": "Enum", "options": ["Arrow", "Axes"], "children": {"Alpha": alpha}}}


def test_what_rviz_does_not_know_is_found():
    known = KNOWN["properties"]["rviz_default_plugins/Odometry"]
    wrong = {"Topics": "odom", "Keep": 1.5, "Shape": {"Value": "Sphere", "Colour": "1; 2; 3"}, "Topic": {"Depth": "5"}}
    assert len(faults("Odometry", wrong, known)) == 5
    assert not faults("Odometry", {"Keep": 5, "Shape": {"Value": "Axes", "Color": "1; 2; 3"}}, known)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_displays_views_tools_and_panels_are_rvizs_own_and_so_is_every_property(path):
    manager, found = load(path)["Visualization Manager"], []
    for display in manager["Displays"]:
        assert "rviz_common::Display" in KNOWN["plugins"][display["Class"]]
        given = {name: value for name, value in display.items() if name not in OF_DISPLAYS}
        found += faults(display["Name"], given, KNOWN["properties"][display["Class"]])
        assert display["Enabled"] is display["Value"] is True
    view = manager["Views"]["Current"]
    assert "rviz_common::ViewController" in KNOWN["plugins"][view["Class"]]
    given = {name: value for name, value in view.items() if name not in ("Class", "Name", "Value")}
    found += faults("view", given, KNOWN["properties"][view["Class"]])
    found += faults("global", manager["Global Options"], KNOWN["properties"]["Global Options"])
    assert not found
    assert all("rviz_common::Tool" in KNOWN["plugins"][tool["Class"]] for tool in manager["Tools"])
    transformer = manager["Transformation"]["Current"]["Class"]
    assert "rviz_common::transformation::FrameTransformer" in KNOWN["plugins"][transformer]
    assert {panel["Class"] for panel in load(path)["Panels"]} <= set(KNOWN["panels"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_topics_exist_are_relative_and_are_read_as_they_are_published(path):
    shown = {}
    for display in load(path)["Visualization Manager"]["Displays"]:
        if (topic := display.get("Topic")) is None:
            continue
        name = shown[display["Name"]] = topic["Value"]
        assert topic["Reliability Policy"] == ("Reliable" if name in RELIABLE else "Best Effort"), name
        assert (name in IMAGES) == (display["Class"] == "rviz_default_plugins/Image")
        if "Namespaces" in display:
            assert set(display["Namespaces"]) == NAMESPACES[name]
    assert set(shown.values()) <= TOPICS
    wanted = {"Camera", "Predicted now", "Predicted +1 s", "Predicted +2 s", "Predicted strip", "Drift overlay",
              "Drift history", "Path and drift", "Odometry", "Dashboard"}  # fmt: skip
    assert set(shown) == wanted | ({"Candidates"} if path.stem == "base" else set())  # the planner drives bases


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_picture_has_its_dock_and_its_place_in_the_window(path):
    config = load(path)
    window, state = config["Window Geometry"], bytes.fromhex(config["Window Geometry"]["QMainWindow State"])
    displays = config["Visualization Manager"]["Displays"]
    docks = [d["Name"] for d in displays if d["Class"] == "rviz_default_plugins/Image"]
    for dock in [*docks, *(panel["Name"] for panel in config["Panels"])]:
        assert window[dock] == {"collapsed": False} and dock.encode("utf-16-be") in state
    assert window["Hide Left Dock"] is window["Hide Right Dock"] is False  # RViz reads memory at random without them


# ---- Foxglove ---------------------------------------------------------------------------------------------------


def panels_of(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    assert set(node) == {"direction", "splitPercentage", "first", "second"} and 0 < node["splitPercentage"] < 100
    assert node["direction"] in ("row", "column")
    return panels_of(node["first"]) + panels_of(node["second"])


def topics_in(value: Any) -> set[str]:
    """Every text that is a topic or begins with one."""
    if isinstance(value, dict):
        return topics_in([*value, *value.values()])
    if isinstance(value, list):
        return set().union(*map(topics_in, value)) if value else set()
    found = re.match(r"/([a-z0-9_/]+)", value) if isinstance(value, str) else None
    return {found[1]} if found else set()


def test_foxglove_panels_are_of_known_types_with_settings_they_have_and_all_are_laid_out():
    assert set(FOXGLOVE) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    laid_out = panels_of(FOXGLOVE["layout"])
    assert sorted(laid_out) == sorted(FOXGLOVE["configById"])
    for name, config in FOXGLOVE["configById"].items():
        kind = name.partition("!")[0]
        assert set(config) - {"foxglovePanelTitle"} <= PANELS[kind], name
        for series in config.get("paths", ()):
            assert set(series) <= SERIES and series["timestampMethod"] == "headerStamp"


def test_foxglove_topics_and_fields_exist_and_states_have_the_nodes_colours():
    assert topics_in(FOXGLOVE["configById"]) <= TOPICS
    assert {"drift_monitor/drift", *NAMESPACES} | {f"{m}/image_raw" for m in MOMENTS} <= topics_in(
        FOXGLOVE["configById"]
    )
    fields = Drift.get_fields_and_field_types()
    paths = re.findall(r'"/drift_monitor/drift(?:\{(\w+)==2\})?\.(\w+)', json.dumps(FOXGLOVE))
    assert len(paths) >= 7 and all(name in fields and (not key or key in fields) for key, name in paths)
    rules = {rule["label"]: rule for rule in FOXGLOVE["configById"]["Indicator!state"]["rules"]}
    for label, (red, green, blue) in STATE_COLORS.items():
        assert rules[label]["color"] == f"#{red:02x}{green:02x}{blue:02x}"
        assert int(rules[label]["rawValue"]) == getattr(Drift, label)
