"""Made-up recordings, the report of them and its pages as read back, for tests of what those say."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from training.report.page import write_report

T0 = 1_700_000_000_123_456_789
VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """Elements with their attributes, the text outside style and script, and a check that tags are balanced."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data.replace("\u00a0", " ")
        if self._open and self._open[-1] in ("td", "th"):
            self.text += " "

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def span(start_s: float, end_s: float) -> dict[str, int]:
    return {"start_ns": T0 + round(start_s * 1e9), "end_ns": T0 + round(end_s * 1e9)}


def make_lag(frames: int, *, corrected: bool = False, confidence: float = 0.95) -> dict[str, Any]:
    offsets = [round(k / 3, 6) for k in range(-2, 6)]
    curve = [round(confidence * np.exp(-((o - frames / 3) ** 2) * 9), 4) for o in offsets]
    return {
        "frames": frames,
        "seconds": frames / 3,
        "confidence": confidence,
        "interval_s": 1 / 3,
        "offsets_s": offsets,
        "correlations": curve,
        "corrected_s": frames / 3 if corrected else 0.0,
        "correlation_before": curve[2],
        "correlation_after": confidence,
        "method": "sideways shift of the picture against yaw rate",
    }


def make_entry(name: str = "hall_1", **changes: Any) -> dict[str, Any]:
    """A recording of 100 s with nothing wrong."""
    edges = [-0.25, -0.2, -0.1, 0.0, 0.1, 0.2, 0.25]
    entry = {
        "recording": name,
        "kind": "mcap",
        "duration_s": 100.0,
        "image_topic": "/camera/image",
        "motion_topic": "/odom",
        "task": "drive",
        "frames_in": 410,
        "ticks": 400,
        "kept": 380,
        "dropped": 20,
        "segments": 2,
        "episodes": 2,
        "first_episode": 4,
        "reasons": {"image duplicate stamp": 3, "segment too short": 17, "image gap (break)": 1},
        "exclusions": [],
        "tick_rate_hz": 4.0,
        "start_ns": T0,
        "topics": [
            {"name": "/odom", "type": "nav_msgs/msg/Odometry", "count": 5000, "rate_hz": 50.0, "median_ms": 20.0,
             "p99_ms": 23.4, "longest_gap_ms": 61.0},
            {"name": "/camera/image", "type": "sensor_msgs/msg/Image", "count": 410, "rate_hz": 4.1, "median_ms": 250.0,
             "p99_ms": 263.0, "longest_gap_ms": 480.0},
        ],
        "timeline": {"bin_s": 1.0, "topics": {"/odom": [50] * 100, "/camera/image": [4] * 100}, "kept": [4] * 95},
        "gaps": [],
        "lag": make_lag(0),
        "histograms": {
            "dx": {"edges": edges, "counts": [0, 10, 90, 200, 80, 0], "limits": [-0.2, 0.2], "unit": "m"},
            "dyaw": {"edges": edges, "counts": [0, 40, 130, 150, 60, 0], "limits": [-0.2, 0.2], "unit": "rad"},
        },
        "largest_action": {"dx": 0.15, "dyaw": 0.19},
        "quality": [{"episode": 4, "motion": 0.31, "sharpness": 210.5, "brightness": 0.44}, {"episode": 5}],
        "faces_blurred": 0,
        "strip": None,
        "warnings": [],
    }  # fmt: skip
    return {**entry, **changes}


def report(dataset: Path, *entries: dict[str, Any], **failed: str) -> Page:
    return Page(write_report(dataset, list(entries), failed).read_text(encoding="utf-8"))


def only_page(dataset: Path) -> Page:
    [path] = (dataset / "report" / "recordings").glob("*.html")
    return Page(path.read_text(encoding="utf-8"))
