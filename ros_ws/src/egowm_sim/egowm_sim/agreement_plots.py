"""The two pictures of the validation: agreement with truth, and what the SCS sees. Matplotlib, no display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egowm_sim.agreement_figures import PAIRS, WITHIN, Judged, of_group, values_of

_COLOURS = {"action": "#1f6fb4", "degraded": "#d1495b", "combined": "#8a6fb0"}
_GROUP_WORDS = {"action": "wrong actions", "degraded": "worse pictures", "combined": "both"}
_PAIR_WORDS = {
    "tracked": ("true structures", "tracked SCS"),
    "automatic": ("proposed structures", "automatic SCS"),
    "automatic_other_structures": ("proposed against true structures", "automatic SCS"),
}
_METRIC_WORDS = {"scs": "SCS, automatic", "scs_tracked": "SCS, tracked", "psnr": "PSNR, dB", "ssim": "SSIM"}


def plot_agreement(file: Path, futures: Sequence[Judged], figures: Mapping[str, Any], *, horizon: int) -> None:
    """A scatter for each way of scoring: every future of every clip, truth across, estimate up."""
    figure, axes = _figure(1, len(_PAIR_WORDS), width=12.5, height=4.6)
    for axis, (pair, (title, label)) in zip(axes.flat, _PAIR_WORDS.items(), strict=True):
        estimate, truth = PAIRS[pair]
        axis.fill_between([0, 100], [-WITHIN, 100 - WITHIN], [WITHIN, 100 + WITHIN], color="#000000", alpha=0.08, lw=0)
        axis.plot([0, 100], [0, 100], color="#444444", lw=0.8)
        for group, colour in _COLOURS.items():
            members = of_group(futures, group)
            x, y = values_of(members, truth, horizon), values_of(members, estimate, horizon)
            axis.scatter(x, y, s=3, color=colour, alpha=0.3, lw=0, label=_GROUP_WORDS[group], rasterized=True)
        lines = []
        for group in ("action", "combined", "all"):
            found = figures["agreement"][pair][group][str(horizon)]
            if "pearson" in found:
                name = _GROUP_WORDS.get(group, "all")
                lines.append(f"{name}: {found['mean_difference']:.1f} points, r = {found['pearson']:.3f}")
        axis.text(0.98, 0.03, "\n".join(lines), transform=axis.transAxes, ha="right", va="bottom", fontsize=8)
        axis.set(xlim=(0, 101), ylim=(0, 101), aspect="equal", title=title, xlabel="true-mask SCS", ylabel=label)
    legend = axes.flat[0].legend(loc="upper left", fontsize=8, frameon=False, markerscale=3)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    _save(figure, file)


def plot_claim(file: Path, figures: Mapping[str, Any], *, horizon: int) -> None:
    """Above: each metric against the level of action error. Below: SCS against PSNR and SSIM, a point a condition."""
    metrics = ("scs", "psnr", "ssim")
    figure, axes = _figure(2, 3, width=12.5, height=8.0)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for error, by_metric in figures["order"].items():
            found = by_metric[metric]
            if found["clips"]:
                start = 0 if metric != "psnr" else 1  # identical pictures have no PSNR
                axis.plot(
                    found["levels"][start:], found["means"][start:], marker="o", ms=4, label=error.replace("_", " ")
                )
        axis.set(
            xlabel="level of action error (0: none)",
            ylabel=_METRIC_WORDS[metric],
            title="perfect pictures, wrong actions",
        )
    axes[0][0].set_ylim(0, 103)
    axes[0][0].legend(fontsize=8, frameon=False)
    rows = figures["rows"]
    wrong = [row for row in rows if row.split(":")[0] in figures["order"]]
    worse = [row for row in rows if row not in wrong and row not in ("identical", "combined")]
    grossest = {row.split(":")[0]: row.split(":")[1] for row in sorted(worse)}
    for axis, metric in zip(axes[1][:2], ("psnr", "ssim"), strict=True):
        for names, group in ((wrong, "action"), (worse, "degraded")):
            points = [(rows[row][metric][str(horizon)], rows[row]["scs"][str(horizon)]) for row in names]
            axis.scatter(*zip(*points, strict=True), s=22, color=_COLOURS[group], label=_GROUP_WORDS[group])
        for row in (row for row in worse if row.split(":")[1] == grossest[row.split(":")[0]]):
            axis.annotate(
                row.replace(":", " "), (rows[row][metric][str(horizon)], rows[row]["scs"][str(horizon)]), fontsize=7,
                xytext=(3, -5), textcoords="offset points", color="#666666",
            )  # fmt: skip
        axis.set(xlabel=_METRIC_WORDS[metric], ylabel=_METRIC_WORDS["scs"], ylim=(0, 103))
    axes[1][0].legend(loc="lower right", fontsize=8, frameon=False)
    kinds = list(next(iter(figures["separation"].values())))
    for index, metric in enumerate(metrics):
        heights = [figures["separation"][metric][kind] for kind in kinds]
        axes[1][2].bar(np.arange(len(kinds)) + 0.27 * (index - 1), heights, 0.25, label=_METRIC_WORDS[metric])
    axes[1][2].axhline(0.5, color="#444444", lw=0.8, ls=":")
    axes[1][2].set_xticks(np.arange(len(kinds)), kinds, rotation=30)
    axes[1][2].set(
        ylim=(0, 1.15), ylabel="P(right motion ranks above wrong)", title="worse picture against wrong motion"
    )
    axes[1][2].legend(loc="upper center", fontsize=8, ncol=3, frameon=False)
    _save(figure, file)


def _figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(10)
    return figure, axes


def _save(figure: Any, file: Path) -> None:
    partial = file.with_name(file.name + ".partial")
    figure.savefig(partial, dpi=90, format="png", pil_kwargs={"optimize": True})
    partial.replace(file)
