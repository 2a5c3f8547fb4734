"""A snapshot drawn with rich: a line per node, its statuses, and drift with scores as bars. Knows no ROS.

All text is put in as plain text, never as markup.
"""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from egowm_nodes.dashboard.board import DriftView, NodeView, Score, Snapshot, StatusView

COLORS = {
    "OK": "green", "WARN": "yellow", "ERROR": "red", "STALE": "magenta", "UNDEFINED": "bright_black",
    "active": "green", "inactive": "yellow", "unconfigured": "yellow", "finalized": "red", "silent": "magenta",
}  # fmt: skip
FIGURES = {  # of each status, in this order, where it has them
    "inputs": ("images_hz", "odometry_hz", "joints_hz", "ticks_hz", "rollouts_hz", "transport", "buffered"),
    "inference": (
        "rollouts_hz", "hindsight_hz", "latency_ms p50 / p99", "model_ms p50 / p99", "num_denoising_steps", "device",
    ),
    "plan": ("source", "origin", "extended_rows", "age_s", "plans_taken"),
    "sampling": ("executed share judged", "executed judged_hz", "scoring_ms p50 / p99", "cpu_share of one core"),
    "drift": ("baseline",),
}  # fmt: skip
_BAR = 20  # cells


def render(snapshot: Snapshot) -> RenderableType:
    """The whole board."""
    title = Text.assemble("egowm  ", (snapshot.namespace, "bold"), "  ", _tag(snapshot.worst()))
    if not snapshot.nodes and not snapshot.drifts:
        return Panel(Text("no diagnostics heard yet"), title=title, title_align="left")
    parts: list[RenderableType] = [part for node in snapshot.nodes for part in _node_parts(node)]
    parts += [_drift_panel(drift) for drift in snapshot.drifts]
    return Panel(Group(*parts), title=title, title_align="left")


def text_of(snapshot: Snapshot, *, width: int) -> str:
    """The board as plain text, ``width`` cells wide."""
    console = Console(width=width, no_color=True, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(render(snapshot))
    return captured.get()


def figures(status: StatusView) -> str:
    """The chosen figures of a status in one line; a status nobody chose any for (guards, ...) shows its first ones."""
    keys = FIGURES.get(status.name, tuple(status.values)[:6])
    pairs = [f"{key} {status.values[key]}" for key in keys if status.values.get(key)]
    lost = {key: value for key, value in status.values.items() if key.startswith(("dropped", "skipped"))}
    pairs += [f"{key} {value}" for key, value in lost.items() if value != "0"]
    return "  ".join(pairs)


def _node_parts(node: NodeView) -> list[RenderableType]:
    """A heading and a line for each status; a lifecycle that went well is in the heading alone."""
    heading = Text.assemble((node.name, "bold"), "  ", _state(node), (f"  drops {node.drops}", "dim"))
    table = Table.grid(padding=(0, 2), expand=True)
    for ratio in (0, 0, 4, 5):
        table.add_column(ratio=ratio or None, overflow="fold", no_wrap=not ratio)
    for status in node.statuses:
        if status.name != "lifecycle" or status.level != "OK":
            figured = Text(figures(status), "dim")
            table.add_row(Text(f"  {status.name}"), _tag(status.level), Text(status.message), figured)
    return [heading, table]


def _drift_panel(drift: DriftView) -> Panel:
    head = Text.assemble(_tag(drift.state), f"  alarm {_figure(drift.alarm, 2)}", f"  {drift.age_s:.1f} s ago")
    if drift.cause not in ("", "none"):
        head.append(f"  {drift.cause}", "bold")
    if math.isfinite(drift.lag_s):
        head.append(f"  pictures late by {drift.lag_s:.2f} s")
    lines: list[RenderableType] = [head]
    if drift.reason:
        lines.append(Text(drift.reason))
    if drift.scores:
        lines.append(_score_table(drift))
    strong = sorted(drift.strengths.items(), key=lambda item: -item[1])[:4]
    if strong:
        lines.append(Text("  ".join(f"{name} {strength:.2f}" for name, strength in strong), "dim"))
    return Panel(Group(*lines), title=Text(drift.topic), title_align="left")


def _score_table(drift: DriftView) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("actions", "horizon", "SCS", "", "usual", "structures", "PSNR"):
        table.add_column(heading, no_wrap=True)
    for source, scores in sorted(drift.scores.items()):
        for score in scores:
            ahead = f"{score.horizon}" if math.isnan(score.ahead_s) else f"{score.horizon} ({score.ahead_s:.2g} s)"
            table.add_row(
                source, ahead, Text(_figure(score.scs), "bold"), bar(score), _figure(score.usual),
                str(score.structures), f"{_figure(score.psnr_db)} dB",
            )  # fmt: skip
    return table


def bar(score: Score) -> Text:
    """SCS 0..100 as a bar; ``|`` marks what is usual."""
    if math.isnan(score.scs):
        return Text("." * _BAR, "dim")
    filled = round(_BAR * min(max(score.scs, 0.0), 100.0) / 100.0)
    cells = ["#"] * filled + ["."] * (_BAR - filled)
    if math.isfinite(score.usual):
        cells[min(_BAR - 1, max(0, round(_BAR * score.usual / 100.0) - 1))] = "|"
    return Text("".join(cells))


def _state(node: NodeView) -> Text:
    words = node.state or "runs"
    return Text(f"{words} {node.age_s:.0f} s" if node.state == "silent" else words, COLORS.get(node.state, ""))


def _tag(level: str) -> Text:
    return Text(level, COLORS.get(level, ""))


def _figure(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
