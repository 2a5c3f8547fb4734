"""The report of a conversion as HTML: an index of all recordings and a page for each, readable without a network.

Draws what the recordings' reports say, and measures nothing itself. Pages hold their own style and pictures; strips are
files beside them. The same reports give the same bytes: no clock, no machine, no path outside the dataset.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from egowm_core.files import write_text
from training.report import words
from training.report.fields import Entry, count, number, records, since_start_s, text, texts
from training.report.places import page_names, strip_source, without_paths
from training.report.plots import draw_histogram, draw_lag, read_histograms, summed_histograms
from training.report.timeline import draw_timeline, read_timeline
from training.report.verdict import (
    BAD,
    GOOD,
    WARN,
    breaks_by_reason,
    dropped_by_reason,
    judge,
    kept_share,
    read_lag,
    summed,
)

MAX_EXCLUSIONS = MAX_EPISODES = 500
MAX_GAPS, MAX_TOPICS, MAX_WARNINGS, MAX_FAILED, MAX_STRIPS = 50, 200, 100, 2000, 48
_MAX_QUALITIES, _MAX_WHY = 16, 240
_SEVERITY = {BAD: 0, WARN: 1, GOOD: 2}


def write_report(dataset: Path, entries: list[dict[str, Any]], failed: dict[str, str]) -> Path:
    """Write ``report/index.html`` and ``report/recordings/NAME.html`` into a dataset; returns the index's path.

    ``entries`` are the reports of the converted recordings (absent keys are left out of the pages), ``failed`` the
    one-line reasons of those that gave nothing. Pages of recordings that are in neither are removed. Raises OSError
    where the dataset cannot be written.
    """
    folder = dataset / "report" / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    pages = _pages(dataset, sorted(entries, key=lambda entry: text(entry.get("recording"))))
    environment = _environment()
    template = environment.get_template("recording.html.j2")
    for i, page in enumerate(pages):
        around = {"previous": pages[i - 1] if i else None, "next": pages[i + 1] if i + 1 < len(pages) else None}
        _write(folder / f"{page['page']}.html", template.render(_recording(page), **around))
    names = {f"{page['page']}.html" for page in pages}
    for path in [*folder.glob("*.html"), *folder.glob("*.html.partial")]:
        if path.name not in names:
            path.unlink()
    index = dataset / "report" / "index.html"
    _write(index, environment.get_template("index.html.j2").render(_index(dataset, pages, failed)))
    return index


def _write(path: Path, page: str) -> None:
    if path.is_file() and path.read_bytes() == f"{page}\n".encode():  # most pages of a resumed conversion
        return
    write_text(path, page)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("figure", "percent", "clock", "amount", "signed", "correlation", "counted"):
        environment.filters[name] = getattr(words, name)
    style, script = (_source(environment, name) for name in ("style.css.j2", "sort.js.j2"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    environment.globals.update(style=style, script=script, policy=policy, DASH=words.DASH)
    return environment


def _source(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0].strip())


def _pages(dataset: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What index and pages both need of each recording."""
    found = []
    names = [str(entry.get("recording") or "recording") for entry in entries]
    for name, page, entry in zip(names, page_names(names), entries, strict=True):
        verdict = judge(entry)
        warnings = [without_paths(line, name, dataset) for line in texts(entry.get("warnings"))]
        found.append(
            {
                "entry": entry,
                "name": text(name),
                "page": page,
                "verdict": verdict,
                "severity": _SEVERITY[verdict.level],
                "lag": read_lag(entry),
                "strip": strip_source(dataset, entry.get("strip")),
                "duration_s": number(entry.get("duration_s")),
                "frames_in": count(entry.get("frames_in")),
                "ticks": count(entry.get("ticks")),
                "kept": count(entry.get("kept")),
                "left_out": count(entry.get("dropped"))
                + sum(count(e.get("frames")) for e in records(entry.get("exclusions"))),
                "episodes": count(entry.get("episodes")),
                "share": kept_share(entry),
                "warnings": warnings,
                "why": "; ".join(verdict.issues or warnings[:1])[:_MAX_WHY],
                "histograms": read_histograms(entry),
            }
        )
    return found


def _index(dataset: Path, pages: list[dict[str, Any]], failed: dict[str, str]) -> dict[str, Any]:
    ranked = sorted(pages, key=lambda page: page["severity"])
    levels = {level: sum(page["verdict"].level == level for page in pages) for level in (BAD, WARN, GOOD)}
    messages = [(text(name), without_paths(reason, name, dataset)) for name, reason in sorted(failed.items())]
    ticks, kept = (sum(page[key] for page in pages) for key in ("ticks", "kept"))
    histograms = summed_histograms(page["histograms"] for page in pages)
    return {
        "rows": ranked,
        "levels": levels,
        "failed": messages[:MAX_FAILED],
        "failed_count": len(messages),
        "lagging": [page for page in pages if page["lag"].state == "uncorrected"],
        "totals": {
            "recordings": len(pages),
            "duration_s": sum(page["duration_s"] or 0.0 for page in pages),
            "kept_s": sum(page["kept"] / rate for page in pages if (rate := number(page["entry"].get("tick_rate_hz")))),
            "frames_in": sum(page["frames_in"] for page in pages),
            "ticks": ticks,
            "kept": kept,
            "share": kept / ticks if ticks else None,
            "episodes": sum(page["episodes"] for page in pages),
            "faces": sum(count(page["entry"].get("faces_blurred")) for page in pages),
        },
        "dropped": summed(dropped_by_reason(page["entry"]) for page in pages),
        "breaks": summed(breaks_by_reason(page["entry"]) for page in pages),
        "histograms": [(histogram, draw_histogram(histogram)) for histogram in histograms],
        "strips": [page for page in ranked if page["strip"]][:MAX_STRIPS],
    }


def _recording(page: dict[str, Any]) -> dict[str, Any]:
    entry: Entry = page["entry"]
    timeline, lag = read_timeline(entry), page["lag"]
    gaps = sorted(records(entry.get("gaps")), key=lambda gap: -(number(gap.get("seconds")) or 0.0))
    exclusions = sorted(records(entry.get("exclusions")), key=lambda item: count(item.get("start_ns")))
    quality = records(entry.get("quality"))
    keys = list(dict.fromkeys(key for row in quality[:MAX_EPISODES] for key in row))[:_MAX_QUALITIES]
    roles = {text(entry.get("image_topic")): "picture", text(entry.get("motion_topic")): "motion"}
    topics = sorted(records(entry.get("topics")), key=lambda t: (text(t.get("name")) not in roles, text(t.get("name"))))
    first = entry.get("first_episode")
    return {
        "page": page,
        "lag": lag,
        "lag_plot": draw_lag(lag),
        "facts": _facts(page, first if isinstance(first, int) else None),
        "timeline": timeline,
        "timeline_plot": draw_timeline(timeline) if timeline is not None else None,
        "gaps": [_timed(entry, gap, {"topic": text(gap.get("topic"))}) for gap in gaps[:MAX_GAPS]],
        "gap_count": len(gaps),
        "dropped": dropped_by_reason(entry),
        "breaks": breaks_by_reason(entry),
        "exclusions": [_exclusion(entry, item) for item in exclusions[:MAX_EXCLUSIONS]],
        "exclusion_count": len(exclusions),
        "histograms": [(histogram, draw_histogram(histogram)) for histogram in page["histograms"]],
        "qualities": [text(key).replace("_", " ") for key in keys],
        "quality": [[_cell(row.get(key)) for key in keys] for row in quality[:MAX_EPISODES]],
        "quality_count": len(quality),
        "topics": [
            {
                **{key: text(t.get(key)) for key in ("name", "type")},
                "role": roles.get(text(t.get("name")), ""),
                "data": t,
            }
            for t in topics[:MAX_TOPICS]
        ],
        "topic_count": len(topics),
        "warnings": page["warnings"][:MAX_WARNINGS],
        "warning_count": len(page["warnings"]),
    }


def _facts(page: dict[str, Any], first: int | None) -> list[tuple[str, str]]:
    """What a recording is, as pairs of name and value; unknown ones are left out."""
    entry, episodes = page["entry"], page["episodes"]
    numbered = words.figure(episodes)
    if first is not None and episodes:
        numbered += f" (number {first})" if episodes == 1 else f" (numbers {first} to {first + episodes - 1})"
    rate = number(entry.get("tick_rate_hz"))
    pairs = [
        ("kind", text(entry.get("kind"))),
        ("task", text(entry.get("task"))),
        ("duration", words.amount(page["duration_s"]) if page["duration_s"] is not None else ""),
        ("picture", text(entry.get("image_topic"))),
        ("motion", text(entry.get("motion_topic"))),
        ("pictures in", words.figure(page["frames_in"])),
        ("ticks", words.figure(page["ticks"]) + (f" at {rate:.3g} Hz" if rate else "")),
        ("segments", words.figure(count(entry.get("segments")))),
        ("episodes", numbered),
        ("faces blurred", words.figure(count(entry.get("faces_blurred"))) if entry.get("faces_blurred") else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def _timed(entry: Entry, item: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    start, end = since_start_s(entry, item.get("start_ns")), since_start_s(entry, item.get("end_ns"))
    seconds = number(item.get("seconds"))
    if seconds is None and start is not None and end is not None:
        seconds = end - start
    return {"from_s": start, "to_s": end, "seconds": seconds, **more}


def _exclusion(entry: Entry, item: dict[str, Any]) -> dict[str, Any]:
    more = {key: item.get(key) for key in ("frames", "value", "limit", "episode")}
    shown = {key: _cell(value)[0] for key, value in more.items()}
    return _timed(entry, item, {"reason": text(item.get("reason")), **shown})


def _cell(value: Any) -> tuple[str, float | None]:
    """What a table shows of a value, and the number to sort by; words stay words, such as the name of a duplicate."""
    found = number(value)
    return (words.figure(found), found) if found is not None or value is None else (text(value), None)
