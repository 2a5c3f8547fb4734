"""What was heard of the nodes, kept small, and one moment of it as plain values. Knows message fields, no node.

Everything is bounded, since anybody may publish diagnostics: the number of nodes, statuses and values, and the length
of each text; characters that steer a terminal are taken out.
"""

from __future__ import annotations

import math
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from egowm_core.files import without_nan

LEVELS = ("OK", "WARN", "ERROR", "STALE")
STATES = ("OK", "WARN", "ERROR", "STALE", "UNDEFINED")
SOURCES = ("planned", "held", "executed")
SILENT_S = 3.5  # diagnostics come once a second
FORGET_S = 60.0
_MOST_NODES, _MOST_STATUSES, _MOST_VALUES, _MOST_CHARS = 32, 16, 64, 400
_DROPPED = ("dropped", "skipped", "refused", "replaced", "failures", "plans_refused", "passed over")


@dataclass(frozen=True)
class StatusView:
    """One diagnostic status: ``level`` of LEVELS."""

    name: str
    level: str
    message: str
    values: dict[str, str]


@dataclass(frozen=True)
class NodeView:
    """A node: its lifecycle ``state`` (``silent`` when it says nothing any more, "" where it has none)."""

    name: str
    state: str
    age_s: float
    statuses: tuple[StatusView, ...]
    drops: int


@dataclass(frozen=True)
class Score:
    """SCS, usual SCS (0..100) and PSNR in dB at a horizon, NaN where unknown; ``ahead_s`` is the horizon in s."""

    horizon: int
    ahead_s: float
    scs: float
    usual: float
    structures: int
    psnr_db: float


@dataclass(frozen=True)
class DriftView:
    """The newest of one drift monitor; ``scores`` by source of the actions."""

    topic: str
    state: str
    cause: str
    reason: str
    alarm: float
    lag_s: float
    age_s: float
    strengths: dict[str, float]
    scores: dict[str, tuple[Score, ...]]


@dataclass(frozen=True)
class Snapshot:
    """One moment of the nodes and drift monitors under ``namespace``."""

    namespace: str
    nodes: tuple[NodeView, ...]
    drifts: tuple[DriftView, ...]
    left_out: int = 0  # messages that did not fit or could not be taken

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, null for what is unknown."""
        return dict(without_nan(asdict(self)))

    def worst(self) -> str:
        """The worst level of all statuses and drift states; STALE where a node is silent."""
        found = {status.level for node in self.nodes for status in node.statuses}
        found |= {drift.state for drift in self.drifts}
        found |= {"STALE" for node in self.nodes if node.state == "silent"}
        return next((level for level in ("ERROR", "STALE", "WARN") if level in found), "OK")


@dataclass
class _Node:
    heard_s: float
    statuses: OrderedDict[str, StatusView] = field(default_factory=OrderedDict)


class Board:
    """Takes messages, makes snapshots. ``clock`` is steady, in s; ``namespace`` "" takes every robot."""

    def __init__(self, clock: Callable[[], float], *, namespace: str = "") -> None:
        self._clock = clock
        self.namespace = namespace.strip("/")
        self._nodes: OrderedDict[str, _Node] = OrderedDict()
        self._drifts: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._scores: dict[str, dict[str, tuple[Score, ...]]] = {}
        self._left_out = 0

    def leave_out(self) -> None:
        """Something came that cannot be shown; it is counted."""
        self._left_out += 1

    def within(self, name: str) -> bool:
        """Whether a node or topic belongs to the namespace."""
        return not self.namespace or name.lstrip("/").startswith(f"{self.namespace}/")

    def hear_diagnostics(self, message: Any) -> None:
        """Take a DiagnosticArray whose statuses are named ``NODE: STATUS``; others are passed over."""
        now_s = self._clock()
        for status in message.status[: _MOST_NODES * _MOST_STATUSES]:
            name, colon, what = clean(status.name).partition(":")
            if not colon or not self.within(name):
                continue
            node = self._nodes.get(name)
            if node is None:
                if len(self._nodes) >= _MOST_NODES:
                    self.leave_out()
                    continue
                node = self._nodes[name] = _Node(now_s)
            node.heard_s = now_s
            what = what.strip()
            if what in node.statuses or len(node.statuses) < _MOST_STATUSES:
                values = {clean(pair.key): clean(pair.value) for pair in status.values[:_MOST_VALUES]}
                level = LEVELS[min(int.from_bytes(status.level, "little"), len(LEVELS) - 1)]
                node.statuses[what] = StatusView(what, level, clean(status.message), values)

    def hear_drift(self, topic: str, message: Any) -> None:
        """Take an egowm_msgs/Drift."""
        if topic not in self._drifts and len(self._drifts) >= _MOST_NODES:
            self.leave_out()
            return
        self._drifts[topic] = self._clock(), message
        scores = _scores(message)
        if scores:
            self._scores.setdefault(topic, {})[_word(SOURCES, message.source)] = scores

    def snapshot(self) -> Snapshot:
        """What is known now; what has said nothing for ``FORGET_S`` is forgotten."""
        now_s = self._clock()
        for name in [name for name, node in self._nodes.items() if now_s - node.heard_s > FORGET_S]:
            del self._nodes[name]
        for topic in [topic for topic, (heard_s, _) in self._drifts.items() if now_s - heard_s > FORGET_S]:
            del self._drifts[topic]
            self._scores.pop(topic, None)
        nodes = tuple(_node_view(name, self._nodes[name], now_s) for name in sorted(self._nodes))
        drifts = tuple(self._drift_view(topic, now_s) for topic in sorted(self._drifts))
        return Snapshot(f"/{self.namespace}", nodes, drifts, self._left_out)

    def _drift_view(self, topic: str, now_s: float) -> DriftView:
        heard_s, message = self._drifts[topic]
        strengths = zip(message.channels[:_MOST_VALUES], message.strengths, strict=False)
        return DriftView(
            topic=topic,
            state=_word(STATES, message.state),
            cause=clean(message.cause),
            reason=clean(message.reason),
            alarm=float(message.alarm),
            lag_s=float(message.lag_s),
            age_s=now_s - heard_s,
            strengths={clean(name): float(strength) for name, strength in strengths},
            scores=dict(self._scores.get(topic, {})),
        )


def clean(text: object) -> str:
    """Text fit for a terminal: no control characters, no markup that steers it, of bounded length."""
    shown = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in str(text)[: _MOST_CHARS + 1])
    return shown if len(shown) <= _MOST_CHARS else f"{shown[: _MOST_CHARS - 3]}..."


def _node_view(name: str, node: _Node, now_s: float) -> NodeView:
    age_s = now_s - node.heard_s
    lifecycle = node.statuses.get("lifecycle")
    state = "" if lifecycle is None else lifecycle.values.get("state", "")
    drops = sum(
        int(value)
        for status in node.statuses.values()
        for key, value in status.values.items()
        if value.isdecimal() and any(word in key for word in _DROPPED)
    )
    return NodeView(name, "silent" if age_s > SILENT_S else state, age_s, tuple(node.statuses.values()), drops)


def _scores(message: Any) -> tuple[Score, ...]:
    horizons = [int(horizon) for horizon in message.horizons[:_MOST_VALUES]]
    span_s = _seconds(message.header.stamp) - _seconds(message.context_stamp)
    tick_s = span_s / max(horizons) if horizons and 0 < span_s < 3600 else math.nan
    rows = zip(
        horizons, message.scs, message.baseline_scs, message.structures, message.psnr, strict=False
    )  # a hostile message may have columns of unequal length
    return tuple(
        Score(horizon, horizon * tick_s, float(scs), float(usual), int(structures), float(psnr))
        for horizon, scs, usual, structures, psnr in rows
    )


def _seconds(stamp: Any) -> float:
    return float(stamp.sec) + float(stamp.nanosec) * 1e-9


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)
