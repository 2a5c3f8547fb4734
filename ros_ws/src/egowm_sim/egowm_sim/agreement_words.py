"""Figures of the validation in words: a summary for the terminal and tables in Markdown. Computes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from egowm_sim.agreement_figures import PAIRS

_WAYS = {
    "tracked": "true structures, tracked in both videos",
    "half_tracked": "true structures, tracked in the predicted video alone",
    "automatic": "proposed structures, tracked; truth of the same structures",
    "automatic_other_structures": "proposed structures, tracked; truth of the simulator's structures",
    "truth_other_structures": "no tracking: truth of proposed and of the simulator's structures",
}
_GROUPS = {"action": "wrong actions", "degraded": "worse pictures", "combined": "both", "all": "all"}
_COMPANIONS = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS", "dreamsim": "DreamSim"}


def summary(figures: Mapping[str, Any], *, horizon: int) -> str:
    """The headline figures as lines of text."""
    last = str(horizon)
    counts = figures["counts"]
    lines = [f"{counts['futures']} futures of {counts['clips']} clips in {counts['rooms']} rooms, frames 1..{last}"]
    for pair in ("tracked", "automatic", "automatic_other_structures"):
        for group in ("action", "combined", "all"):
            found = figures["agreement"][pair][group][last]
            if "pearson" in found:
                lines.append(
                    f"{_WAYS[pair]}, {_GROUPS[group]}: off by {found['mean_difference']:.2f} points "
                    f"(bias {found['bias']:+.2f}), r {number(found['pearson'], 3)}, "
                    f"rho {number(found['spearman'], 3)}, within 5 points {found['within_5']:.0%}"
                )
    for error, by_metric in figures["order"].items():
        found = by_metric["scs"]
        if found["clips"]:
            means = " ".join(f"{mean:.1f}" for mean in found["means"])
            lines.append(f"{error}: SCS {means}; steps in order {found['steps_in_order']:.0%}")
    for metric in ("scs", *(name for name in _COMPANIONS if name in figures["separation"])):
        found = figures["separation"][metric]
        values = ", ".join(f"{kind} {number(value, 3)}" for kind, value in found.items())
        lines.append(f"right motion ranks above wrong by {metric}: {values}")
    return "\n".join(lines)


def tables(figures: Mapping[str, Any], *, horizon: int) -> str:
    """All tables in Markdown, over frames 1..horizon."""
    parts = [
        ("Agreement with true masks", _agreement(figures, horizon)),
        ("Perfect pictures, wrong actions", _order(figures)),
        ("Right actions, worse pictures", _degraded(figures, horizon)),
        ("Right motion in a worse picture ranks above wrong motion", _separation(figures)),
        ("Where tracking is off, single structures", _structures(figures)),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts)


def _agreement(figures: Mapping[str, Any], horizon: int) -> str:
    rows = []
    for pair in (pair for pair in PAIRS if pair in _WAYS):
        for group, words in _GROUPS.items():
            found = figures["agreement"][pair][group][str(horizon)]
            if "pearson" in found:
                low, high = found.get("pearson_interval", (math.nan, math.nan))
                between = f" ({low:.3f} to {high:.3f})" if math.isfinite(low) else ""
                rows.append([
                    _WAYS[pair], words, str(found["futures"]), number(found["mean_difference"], 2),
                    number(found["bias"], 2), number(found["pearson"], 3) + between, number(found["spearman"], 3),
                    f"{found['within_5']:.0%}",
                ])  # fmt: skip
    return _table(["structures and masks", "futures", "number", "off by", "bias", "r", "rho", "within 5"], rows)


def _order(figures: Mapping[str, Any]) -> str:
    rows = []
    for error, by_metric in figures["order"].items():
        for metric in ("scs_masks", "scs_tracked", "scs", *_COMPANIONS):
            found = by_metric.get(metric, {"clips": 0})
            if found["clips"]:
                digits = 1 if metric.startswith("scs") or metric == "psnr" else 2
                means = " / ".join(number(mean, digits) for mean in found["means"])
                rows.append([
                    error.replace("_", " "), metric, means, f"{found['steps_in_order']:.0%}",
                    f"{found['clips_in_order']:.0%}", number(found["kendall"], 2), str(found["clips"]),
                ])  # fmt: skip
    header = ["error", "metric", "mean at level 0 / 1 / ... / 5", "steps in order", "clips in order", "tau", "clips"]
    return _table(header, rows)


def _degraded(figures: Mapping[str, Any], horizon: int) -> str:
    table = figures["rows"]
    kinds = [kind for kind in next(iter(figures["separation"].values())) if kind != "all"]
    companions = [metric for metric in _COMPANIONS if metric in table["identical"]]
    rows = []
    for row in ("identical", *(row for row in table if row.split(":")[0] in kinds)):
        values = [number(table[row][metric][str(horizon)], 1) for metric in ("scs", "scs_tracked")]
        values += [number(table[row][metric][str(horizon)], 1 if metric == "psnr" else 2) for metric in companions]
        rows.append([row.replace(":", " "), *values])
    return _table(["pictures", "SCS", "SCS, true structures", *(_COMPANIONS[metric] for metric in companions)], rows)


def _separation(figures: Mapping[str, Any]) -> str:
    found = figures["separation"]
    kinds = list(next(iter(found.values())))
    metrics = [metric for metric in ("scs", "scs_tracked", *_COMPANIONS) if metric in found]
    return _table(
        ["metric", *kinds], [[metric, *(number(found[metric][kind], 2) for kind in kinds)] for metric in metrics]
    )


def _structures(figures: Mapping[str, Any]) -> str:
    words = {
        "area": "share of the picture",
        "border": "outline on its border",
        "revealed": "hidden at first, seen later",
    }
    rows = [
        [
            words[name],
            f"{bin_['from']:.3g} to {min(bin_['to'], 1):.3g}",
            str(bin_["structures"]),
            number(bin_["mean_difference"], 1),
        ]
        for name, bins in figures["structures"].items()
        for bin_ in bins
    ]
    return _table(["of a structure", "from", "structures", "off by"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number(value: float, digits: int) -> str:
    """With so many digits after the point; a dash where it is undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
