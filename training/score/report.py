"""A report of scored clips: ``index.html`` to look at, ``report.json`` to read, strips, and all clips as mp4.

Pages hold their own style and drawings, pictures and videos are files beside them; no network is needed. Draws what
was measured and measures nothing itself, but follows the structures of the clips it shows once more. Knows no command.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from egowm_core.files import without_nan, write_text
from egowm_core.metrics import LOWER_IS_BETTER
from training.report import words
from training.score.charts import colour, draw_curves
from training.score.clip import Clip
from training.score.measure import ClipScore, Measured, Measures, follow
from training.score.page import environment
from training.score.saved import address, save_clip
from training.score.strips import save_strip
from training.score.summary import LEVEL, Intervals, Table, curves, value_at

TITLES = {
    "scs": "SCS",
    "scs_at": "SCS of that frame",
    "scs_true": "SCS, true masks",
    "scs_true_at": "SCS of that frame, true masks",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "dreamsim": "DreamSim",
    "fid": "FID",
    "fvd": "FVD",
    "spatial_iou": "spatial IoU",
    "spatiotemporal_iou": "spatiotemporal IoU",
    "weighted_spatial_iou": "weighted spatial IoU",
    "mse": "MSE",
}
_LISTED, _SHOWN_ROWS = 400, 4
_DIGITS = {"mse": 4, "ssim": 3, "lpips": 3, "dreamsim": 3}


@dataclass(frozen=True)
class Report:
    """What a report is made of. ``title`` and ``settings`` are for readers; ``warnings`` come first."""

    title: str
    settings: dict[str, Any]
    clips: Sequence[Clip]
    measured: Measured
    measures: Measures
    table: Table
    intervals: Intervals
    warnings: Sequence[str] = field(default_factory=tuple)

    @property
    def ranking(self) -> str:
        """The metric by which clips are best and worst."""
        return "scs" if self.measures.tracked or not self._has("scs_true") else "scs_true"

    def _has(self, metric: str) -> bool:
        return any(metric in row for row in self.table.values())


def write_report(folder: Path, report: Report) -> Path:
    """Write a report into ``folder``; strips and clips of an older one there are removed. Returns the page's path.

    Raises:
        DataError, ConfigError: a clip cannot be written as video.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("clips", "strips"):
        shutil.rmtree(folder / name, ignore_errors=True)
    files = [
        save_clip(folder / "clips", number, clip)
        for number, clip in enumerate(
            tqdm(report.clips, desc="saving clips", unit="clip", disable=len(report.clips) < 2), start=1
        )
    ]
    strips = _save_strips(folder, report)
    drawn = curves(report.measured)
    write_text(folder / "report.json", json.dumps(without_nan(_figures(report, files, strips, drawn)), indent=1))
    page = environment().get_template("report.html.j2")
    index = folder / "index.html"
    write_text(index, page.render(_page(report, files, strips, drawn)))
    return index


def cases(report: Report, row: str) -> dict[str, ClipScore]:
    """The worst, the median and the best clip of a row by its score over the longest horizon that has one."""
    metric = report.ranking
    for horizon in sorted(report.measures.horizons, reverse=True):
        ranked = [(value_at(score, metric, horizon), score) for score in report.measured.of(row)]
        ranked = sorted((item for item in ranked if math.isfinite(item[0])), key=lambda item: item[0])
        if ranked:
            found = {"worst": ranked[0][1], "median": ranked[len(ranked) // 2][1], "best": ranked[-1][1]}
            return {word: score for i, (word, score) in enumerate(found.items()) if score not in [*found.values()][:i]}
    scores = report.measured.of(row)  # nothing can be judged: show one clip, so that it is seen why
    return {"not judged": scores[0]} if scores else {}


def _save_strips(folder: Path, report: Report) -> list[dict[str, Any]]:
    found = []
    for number, row in enumerate(report.measured.rows[:_SHOWN_ROWS]):
        for word, score in cases(report, row).items():
            clip = report.clips[score.clip]
            name = f"{number}_{word.replace(' ', '_')}.png"
            save_strip(folder / "strips" / name, clip, row, *follow(clip, row, report.measures))
            found.append(
                {"row": row, "case": word, "clip": score.clip + 1, "name": clip.name, "file": f"strips/{name}"}
            )
    return found


def _figures(
    report: Report, files: list[dict[str, str]], strips: list[dict[str, Any]], drawn: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "settings": report.settings,
        "rows": report.table,
        "intervals": report.intervals,
        "level": LEVEL,
        "unavailable": report.measured.unavailable,
        "warnings": [*report.warnings, *report.measured.warnings],
        "curves": {
            metric: {row: points[:, 0].tolist() for row, points in rows.items()} for metric, rows in drawn.items()
        },
        "strips": strips,
        "clips": [
            {
                "number": number,
                "name": clip.name,
                "rate_hz": clip.rate_hz,
                "frames": len(clip),
                "files": {what: f"clips/{name}" for what, name in files[number - 1].items()},
                "scores": {
                    score.row: _clip_figures(score) for score in report.measured.scores if score.clip == number - 1
                },
            }
            for number, clip in enumerate(report.clips, start=1)
        ],
    }


def _clip_figures(score: ClipScore) -> dict[str, Any]:
    return {
        "scs": {kind: {str(h): value for h, value in means.items()} for kind, means in score.scs.items()},
        "structures": score.num_structures,
        "iou": {kind: [[round(float(v), 4) for v in line] for line in iou] for kind, iou in score.iou.items()},
        "series": {name: [round(float(v), 4) for v in values] for name, values in score.series.items()},
        "means": {name: {str(h): value for h, value in means.items()} for name, means in score.means.items()},
        "excluded": [
            {"structure": e.index, "reason": e.reason.value, "value": float(e.value), "limit": float(e.limit)}
            for e in score.excluded
        ],
    }


def _page(
    report: Report, files: list[dict[str, str]], strips: list[dict[str, Any]], drawn: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    rows, horizons = list(report.table), [str(h) for h in report.measures.horizons]
    colours = {row: colour(i) for i, row in enumerate(rows)}
    metrics = [name for name in TITLES if any(name in report.table[row] for row in rows)]
    last, ranking = max(report.measures.horizons), report.ranking
    ranked = sorted(report.measured.scores, key=lambda s: (not math.isfinite(v := value_at(s, ranking, last)), v))
    excluded = [
        {"clip": s.clip + 1, "name": report.clips[s.clip].name, "what": e}
        for s in {score.clip: score for score in report.measured.scores}.values()
        for e in s.excluded
    ]
    return {
        "title": report.title,
        "settings": [(key.replace("_", " "), words_of(value)) for key, value in report.settings.items()],
        "warnings": [*report.warnings, *report.measured.warnings],
        "unavailable": {TITLES.get(name, name): why for name, why in report.measured.unavailable.items()},
        "horizons": horizons,
        "tables": [
            {
                "title": TITLES[metric],
                "lower": metric in LOWER_IS_BETTER,
                "rows": [(row, [_cell(report, row, metric, h) for h in horizons]) for row in rows],
            }
            for metric in metrics
        ],
        "colours": colours,
        "curves": [
            (TITLES.get(name, name), draw_curves(name, drawn[name], colours)) for name in TITLES if name in drawn
        ],
        "strips": [{**strip, "address": address(strip["file"])} for strip in strips],
        "ranking": TITLES[ranking],
        "last": last,
        "clips": [
            {
                "number": score.clip + 1,
                "name": report.clips[score.clip].name,
                "row": score.row,
                "structures": score.num_structures,
                "scs": [_shown(ranking, value_at(score, ranking, h)) for h in report.measures.horizons],
                "sort": [value_at(score, ranking, h) for h in report.measures.horizons],
                "psnr": words.figure(value_at(score, "psnr", last)),
                "observed": address("clips", files[score.clip]["observed"]),
                "predicted": address("clips", files[score.clip][score.row]),
            }
            for score in ranked[:_LISTED]
        ],
        "clip_count": len(report.measured.scores),
        "excluded": excluded[:_LISTED],
        "excluded_count": len(excluded),
        "level": f"{LEVEL:.0%}",
    }


def _cell(report: Report, row: str, metric: str, horizon: str) -> dict[str, str]:
    mean = report.table[row].get(metric, {}).get(horizon, math.nan)
    around = report.intervals.get(row, {}).get(metric, {}).get(horizon)
    if around is None or not math.isfinite(around["low"]):
        return {"mean": _shown(metric, mean), "range": ""}
    return {
        "mean": _shown(metric, mean),
        "range": f"{_shown(metric, around['low'])} to {_shown(metric, around['high'])}",
    }


def _shown(metric: str, value: float) -> str:
    digits = 3 if metric.endswith("_iou") else _DIGITS.get(metric, 1)
    return f"{value:.{digits}f}" if math.isfinite(value) else words.DASH


def words_of(value: Any) -> str:
    """A setting as readers have it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(words_of(item) for item in value)
    return "yes" if value is True else "no" if value is False else words.DASH if value is None else str(value)
