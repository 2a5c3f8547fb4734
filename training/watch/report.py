"""Pages of a watch: ``index.html`` over all recordings and a page for each, with the same figures as JSON beside.

Draws what was measured and measures nothing itself. Pages hold their own style and drawings, strips are files beside
them, no network is needed. The same watch gives the same bytes: no clock, no machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from egowm_core.drift import DriftState
from egowm_core.errors import ConfigError
from egowm_core.files import without_nan, write_text
from training.report import words
from training.report.places import page_names
from training.score.page import script_hash
from training.watch.figures import ALL, BLOCK_S, LEVEL, Alarm, Span, Watched, mean_scs, summary, table_row
from training.watch.timeline import STATE_WORDS, draw_watch

_MAX_SPANS = 500
_PAGES, _FIGURES = "pages", "watch.json"


def strips_folder(out: Path, names: Sequence[str], name: str) -> Path:
    """Where the strips of the recording ``name`` of ``names`` go."""
    return out / "strips" / dict(zip(names, page_names(names), strict=True))[name]


def make_room(out: Path) -> None:
    """Make ``out``, or remove what an older watch left in it: its pages, JSON and strips, nothing else.

    Raises:
        ConfigError: something else is in it.
        OSError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (out / _FIGURES).is_file() and any(out.iterdir()):
        raise ConfigError(f"{out} holds other files and no {_FIGURES} of an older watch; give a new directory")
    _write_json(out / _FIGURES, {"complete": False})
    old = [out / "index.html", *(out / _PAGES).glob("*.html"), *(out / _PAGES).glob("*.json")]
    for file in [*old, *(out / "strips").glob("*/*.png")]:
        file.unlink(missing_ok=True)


def figures(
    recordings: Sequence[Watched], failed: Mapping[str, str], settings: Mapping[str, Any], *, seed: int = 0
) -> dict[str, Any]:
    """Everything as plain data: a row a recording and one of all, intervals of SCS, summaries and alarms."""
    groups = {recording.name: [recording] for recording in recordings}
    if len(groups) > 1:
        groups[f"{ALL} together" if ALL in groups else ALL] = list(recordings)
    horizons = sorted({h for recording in recordings for h in recording.horizons})
    rows = {name: table_row(group, horizons) for name, group in groups.items()}
    intervals = {
        name: {"scs": {str(h): asdict(mean_scs(group, h, seed=seed)) for h in horizons}}
        for name, group in groups.items()
    }
    return {
        "settings": dict(settings),
        "rows": rows,
        "intervals": intervals,
        "level": LEVEL,
        "recordings": {name: {**summary(group), **_details(group)} for name, group in groups.items()},
        "failed": dict(failed),
        "complete": True,
    }


def write_report(
    out: Path, recordings: Sequence[Watched], names: Sequence[str], found: Mapping[str, Any], *, error_at: float
) -> Path:
    """Write all pages and JSON into ``out``; strips are there already. Returns the index's path.

    ``names`` are those of all recordings that were given, ``found`` what ``figures`` gave.

    Raises:
        OSError: the folder cannot be written.
    """
    (out / _PAGES).mkdir(parents=True, exist_ok=True)
    pages = dict(zip(names, page_names(names), strict=True))
    environment = _environment()
    template = environment.get_template("watched.html.j2")
    for recording in recordings:
        page = pages[recording.name]
        _write_json(out / _PAGES / f"{page}.json", _timeline(recording))
        write_text(out / _PAGES / f"{page}.html", template.render(_page(recording, page, found, error_at)))
    _write_json(out / _FIGURES, found)
    index = out / "index.html"
    write_text(index, environment.get_template("watch.html.j2").render(_index(recordings, pages, found)))
    return index


def _details(group: Sequence[Watched]) -> dict[str, Any]:
    if len(group) != 1:
        return {}
    return {"warnings": list(group[0].warnings), "alarm_list": [_alarm(alarm) for alarm in group[0].alarms()]}


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        **asdict(alarm), "state": alarm.state.value, "cause": alarm.cause.value, "start_s": round(alarm.start_s, 3),
        "end_s": round(alarm.end_s, 3), "strength": round(alarm.strength, 4),
    }  # fmt: skip


def _timeline(recording: Watched) -> dict[str, Any]:
    """Every comparison of a recording, for other tools."""
    return {
        "name": recording.name,
        "start_ns": recording.start_ns,
        "horizons": list(recording.horizons),
        "comparisons": [
            {
                "stamp_ns": seen.stamp_ns,
                "at_s": round(recording.seconds(number), 3),
                "state": seen.report.state.value,
                "cause": seen.report.cause.value,
                "reason": seen.report.reason,
                "alarm": round(seen.report.alarm, 4),
                "lag_s": seen.report.lag_s,
                "channels": {name: round(value, 4) for name, value in seen.report.channels.items()},
                "scs": {str(h): round(value, 3) for h, value in seen.report.scs.items()},
                "usual_scs": {str(h): round(value, 3) for h, value in seen.report.baseline_scs.items()},
                "psnr": {str(h): round(value, 3) for h, value in seen.psnr.items()},
                "structures": {str(h): count for h, count in seen.structures.items()},
            }
            for number, seen in enumerate(recording.seen)
        ],
        "strips": [{"case": case, "comparison": number, "file": name} for case, number, name in recording.strips],
    }


def _index(recordings: Sequence[Watched], pages: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, Any]:
    horizons = sorted({h for recording in recordings for h in recording.horizons})
    return {
        "horizons": horizons,
        "rows": [
            {
                "name": name,
                "page": quote(f"{_PAGES}/{pages[name]}.html") if name in pages else None,
                "scs": [_interval(found["intervals"][name]["scs"][str(h)]) for h in horizons],
                "usual": [_shown(found["rows"][name]["usual_scs"][str(h)]) for h in horizons],
                **found["recordings"][name],
            }
            for name in found["rows"]
        ],
        "failed": found["failed"],
        "settings": _settings(found),
        "block_s": BLOCK_S,
        "level": f"{LEVEL:.0%}",
    }


def _page(recording: Watched, page: str, found: Mapping[str, Any], error_at: float) -> dict[str, Any]:
    alarms, spans = recording.alarms(), recording.spans()
    onsets = {number: name for case, number, name in recording.strips if case == "alarm"}
    name = recording.name
    return {
        "name": name,
        "facts": found["recordings"][name],
        "timeline": draw_watch(recording, error_at=error_at),
        "states": [(state.value, STATE_WORDS[state], found["recordings"][name]["states"][state.value])
                   for state in DriftState],
        "error_at": error_at,
        "table": [
            (h, _interval(found["intervals"][name]["scs"][str(h)]), _shown(found["rows"][name]["usual_scs"][str(h)]),
             _shown(found["rows"][name]["psnr"][str(h)]))
            for h in recording.horizons
        ],
        "alarms": [
            {
                "alarm": alarm,
                "channels": _raised(recording, alarm.first, alarm.last),
                "strip": f"../strips/{quote(page)}/{onsets[alarm.first]}" if alarm.first in onsets else None,
            }
            for alarm in alarms
        ],
        "spans": spans[:_MAX_SPANS],
        "span_count": len(spans),
        "strips": [
            {
                "case": case,
                "at_s": recording.seconds(number),
                "report": recording.seen[number].report,
                "address": f"../strips/{quote(page)}/{file}",
            }
            for case, number, file in recording.strips
            if case != "alarm"
        ],
        "warnings": recording.warnings,
        "settings": _settings(found),
        "json": f"{quote(page)}.json",
        "level": f"{LEVEL:.0%}",
        "block_s": BLOCK_S,
    }  # fmt: skip


def _raised(recording: Watched, first: int, last: int) -> list[tuple[str, float]]:
    """Channels that reached the alarm between two comparisons, the strongest first."""
    reports = [seen.report for seen in recording.seen[first : last + 1]]
    names = dict.fromkeys(name for report in reports for name in report.channels)
    strongest = {name: max(report.channels.get(name, 0.0) for report in reports) for name in names}
    return sorted(((n, v) for n, v in strongest.items() if v >= 1), key=lambda item: -item[1])


def _settings(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key.replace("_", " "), _words(value)) for key, value in found["settings"].items()]


def _words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value)
    return words.DASH if value is None or value == "" else str(value)


def _interval(around: Mapping[str, float]) -> tuple[str, str]:
    """A mean, and its bounds where there are any."""
    known = math.isfinite(around["low"])
    return _shown(around["mean"]), f"{_shown(around['low'])} to {_shown(around['high'])}" if known else ""


def _shown(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else words.DASH


def _css(span: Span | Alarm) -> str:
    return {DriftState.OK: "good", DriftState.WARN: "warn", DriftState.ERROR: "bad"}.get(span.state, "none")


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(without_nan(dict(data)), indent=1))


def _environment() -> Environment:
    """Templates of this package in the style of the conversion report."""
    loader = ChoiceLoader([PackageLoader("training.watch"), PackageLoader("training.report")])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("figure", "percent", "clock", "counted"):
        made.filters[name] = getattr(words, name)
    made.filters["css"] = _css
    made.filters["tenth"] = _shown
    style, own, script = (
        Markup(loader.get_source(made, name)[0].strip()) for name in ("style.css.j2", "watch.css.j2", "sort.js.j2")
    )
    policy = f"default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; script-src '{script_hash(script)}'"
    made.globals.update(style=style + Markup("\n") + own, script=script, policy=policy, DASH=words.DASH)
    return made
