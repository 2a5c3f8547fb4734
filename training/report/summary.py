"""The report of a conversion for the terminal: a table of recordings, then what is wrong with them, loudly.

Lines of text only; colours, streams and files are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.report.fields import Entry, count, number, text, texts
from training.report.verdict import GOOD, breaks_by_reason, dropped_by_reason, judge, kept_share, read_lag
from training.report.words import DASH, amount, correlation, counted, figure, percent, signed

_HEAD = ("recording", "status", "frames in", "ticks", "kept", "share", "seg/epi", "Hz", "lag", "drops and (breaks)")
_ALIGN = "<<>>>>>><<"
_MAX_ROWS, _MAX_REASONS = 200, 5


def summary_lines(entries: list[dict[str, Any]], failed: dict[str, str], *, max_rows: int = _MAX_ROWS) -> list[str]:
    """Lines to print: the table in order of name, warnings, failures, and totals at the end, where they are seen.

    Of more than ``max_rows`` recordings only those with something to look at are listed, at most as many.
    """
    ordered = sorted(entries, key=lambda entry: text(entry.get("recording")))
    listed: Sequence[Entry] = ordered
    if len(ordered) > max_rows:
        listed = [entry for entry in ordered if judge(entry).level != GOOD][:max_rows]
    lines = _table([_HEAD, *(_row(entry) for entry in listed)]) if listed else []
    if rest := len(ordered) - len(listed):
        lines.append(f"... and {counted(rest, 'more recording')}, in the report")
    for entry in listed:
        lines += [f"warning: {_name(entry)}: {text(warning)}" for warning in texts(entry.get("warnings"))]
    lines += _loud(ordered)
    lines += [f"FAILED {text(name)}: {text(reason)}" for name, reason in sorted(failed.items())]
    return [*lines, _totals(ordered, failed)]


def _name(entry: Entry) -> str:
    return text(entry.get("recording")) or "recording"


def _row(entry: Entry) -> tuple[str, ...]:
    lag, rate = read_lag(entry), number(entry.get("tick_rate_hz"))
    shown = {"unknown": DASH, "none": "none", "corrected": "corrected", "uncorrected": "NOT CORRECTED"}
    words = shown.get(lag.state, "uncertain")
    if lag.state not in ("unknown", "none"):
        shift = lag.corrected_s if lag.state == "corrected" else lag.found_s
        words = f"{signed(shift)} {words} ({correlation(lag.confidence)})"
    reasons = [f"{reason} {n}" for reason, n in dropped_by_reason(entry).items()]
    reasons += [f"({reason} {n})" for reason, n in breaks_by_reason(entry).items()]
    more = [f"{len(reasons) - _MAX_REASONS} more"] if len(reasons) > _MAX_REASONS else []
    return (
        _name(entry),
        judge(entry).label,
        *(figure(count(entry.get(key))) for key in ("frames_in", "ticks", "kept")),
        percent(kept_share(entry)),
        f"{count(entry.get('segments'))}/{count(entry.get('episodes'))}",
        DASH if rate is None else f"{rate:.2f}",
        words,
        ", ".join([*reasons[:_MAX_REASONS], *more]) or "none",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    plain = [[cell.replace("\u00a0", " ") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in plain) for i in range(len(_HEAD))]
    return [
        "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(row, _ALIGN, widths, strict=True)).rstrip()
        for row in plain
    ]


def _loud(entries: Sequence[Entry]) -> list[str]:
    """What must not be missed: lags that were found and not corrected."""
    lagging = [(entry, lag) for entry in entries if (lag := read_lag(entry)).state == "uncorrected"]
    if not lagging:
        return []
    found = [
        f"!!!   {_name(entry)}: {signed(lag.found_s)} ({counted(abs(lag.frames), 'frame')}); correlation of picture and"
        f" motion {correlation(lag.now)}, with correction {correlation(lag.best)}"
        for entry, lag in lagging[:_MAX_ROWS]
    ]
    if len(lagging) > len(found):
        found.append(f"!!!   and {len(lagging) - len(found)} more")
    lines = [
        f"!!! LAG NOT CORRECTED in {counted(len(lagging), 'recording')}: a model trained on this does not learn to"
        " follow actions",
        *found,
        "!!! convert again with --lag correct, into a new dataset",
    ]
    return [line.replace("\u00a0", " ") for line in lines]


def _totals(entries: Sequence[Entry], failed: dict[str, str]) -> str:
    kept, ticks = (sum(count(entry.get(key)) for entry in entries) for key in ("kept", "ticks"))
    parts = [
        counted(len(entries), "recording"),
        counted(sum(count(entry.get("episodes")) for entry in entries), "episode"),
        f"{counted(kept, 'frame')} kept" + (f" of {counted(ticks, 'tick')} ({percent(kept / ticks)})" if ticks else ""),
        f"{amount(sum(number(entry.get('duration_s')) or 0.0 for entry in entries))} recorded",
    ]
    return ", ".join([*parts, *([f"{len(failed):,} FAILED"] if failed else [])]).replace("\u00a0", " ")
