"""Runs of the planning bench from above: the room, the ways of each planner, and one plan's candidates by their cost.

Knows episodes as JSON and floor maps; no planner and no simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egowm_sim.layout import RESOLUTION_M
from egowm_sim.rooms import generate_room

COLORS = {
    "model": "tab:blue",
    "geometry": "tab:orange",
    "oracle": "tab:green",
    "straight": "tab:gray",
    "random": "pink",
}
MARGIN_M, ARROW_M = 0.8, 0.35
_COLUMNS = 3


def draw_runs(episodes: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, *, rooms: int = 6) -> None:
    """Write a PNG of the first ``rooms`` tasks; ``episodes`` by planner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    by_seed: dict[int, dict[str, Mapping[str, Any]]] = {}
    for name, group in episodes.items():
        for one in group:
            by_seed.setdefault(int(one["seed"]), {})[name] = one
    chosen = sorted(by_seed)[:rooms]
    if not chosen:
        return
    height = -(-len(chosen) // _COLUMNS)
    figure = Figure(figsize=(4.4 * _COLUMNS, 4.4 * height + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(height, _COLUMNS)).ravel()
    for axis in axes[len(chosen) :]:
        axis.axis("off")
    plans = {seed: plan for seed in chosen if (plan := _shown_plan(by_seed[seed])) is not None}
    costs = np.array([cost for _, plan in plans.values() for cost in plan["costs"] if cost is not None])
    scale = Normalize(*np.percentile(costs, [0, 95])) if len(costs) else Normalize(0, 1)  # one for all rooms
    for axis, seed in zip(axes, chosen, strict=False):
        _draw_task(axis, seed, by_seed[seed], plans.get(seed), scale)
    known = [name for name in COLORS if name in episodes]
    lines = [Line2D([], [], color=COLORS[name], label=name) for name in known]
    lines += [
        Line2D([], [], color="black", ls=":", label="as the robot went"),
        Line2D([], [], color="red", label="goal"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
    if plans:
        scale_bar = ScalarMappable(scale, "viridis")
        figure.colorbar(
            scale_bar, ax=axes.tolist(), label="cost of a candidate in one plan (dark: near the goal)", shrink=0.6
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial.png")
    figure.savefig(partial, dpi=110)
    partial.replace(path)


def _shown_plan(runs: Mapping[str, Mapping[str, Any]]) -> tuple[list[float], Mapping[str, Any]] | None:
    """Where one plan of the model (or else of another) was made, and its candidates; None where nobody planned."""
    run = next(
        (runs[name] for name in ("model", "oracle", "geometry", "random") if name in runs and runs[name]["plans"]), None
    )
    if run is None:
        return None
    plan = run["plans"][min(1, len(run["plans"]) - 1)]
    return run["path"][plan["tick"]][:2], plan


def _draw_task(
    axis: Any,
    seed: int,
    runs: Mapping[str, Mapping[str, Any]],
    shown: tuple[list[float], Mapping[str, Any]] | None,
    scale: Any,
) -> None:
    from matplotlib.collections import LineCollection

    floor = generate_room(seed).floor_map
    (left, bottom), (rows, columns) = floor.origin, floor.blocked.shape
    extent = (left, left + columns * RESOLUTION_M, bottom, bottom + rows * RESOLUTION_M)
    axis.imshow(floor.blocked, origin="lower", extent=extent, cmap="Greys", vmin=0, vmax=2.5)
    any_run = next(iter(runs.values()))
    if shown is not None:
        start, plan = shown
        ways = [np.array([start, *way]) for way in plan["ways"]]
        costs = np.array([np.nan if cost is None else cost for cost in plan["costs"]])
        axis.add_collection(LineCollection(ways, array=costs, norm=scale, cmap="viridis", lw=0.9, alpha=0.8))
    axis.plot(*np.array(any_run["way"]).T, color="black", ls=":", lw=1.2)
    for name, run in runs.items():
        way = np.array(run["path"])
        axis.plot(way[:, 0], way[:, 1], color=COLORS.get(name, "black"), lw=1.8)
        axis.plot(*way[-1, :2], "o" if run["success"] else "x", color=COLORS.get(name, "black"), ms=6)
    begin, goal = np.array(any_run["path"][0]), np.array(any_run["goal"])
    for pose, color in ((begin, "black"), (goal, "red")):
        axis.annotate(
            "",
            pose[:2] + ARROW_M * np.array([np.cos(pose[2]), np.sin(pose[2])]),
            pose[:2],
            arrowprops={"arrowstyle": "->", "color": color, "lw": 2},
        )
    points = np.concatenate([np.array(run["path"])[:, :2] for run in runs.values()] + [np.array(any_run["way"])])
    low, high = points.min(axis=0) - MARGIN_M, points.max(axis=0) + MARGIN_M
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[], title=f"room {seed}", aspect="equal")
