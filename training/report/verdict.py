"""Whether a recording is good, and what is wrong with it in a few words: what a reader should see first.

Judges a recording's report only. The thresholds are for the eye; nothing is kept or dropped by them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from training.report.fields import Entry, count, mapping, number, numbers, pair, records, text, texts
from training.report.words import amount, counted, percent, signed

BAD, WARN, GOOD = "bad", "warn", "good"
BREAK_MARK = "(break)"  # ends the reasons that split a recording without losing a frame
_CONVINCING = 0.7  # confidence from which a lag is believed, where the report does not say so itself
_HARDLY_KEPT, _HALF_KEPT = 0.1, 0.5
_NOTABLE_LIMIT = 1.0001  # times the limit, as the converter judges


@dataclass(frozen=True)
class Lag:
    """How late the camera is against the motion (``found_s``), and what of it was corrected.

    ``state``: unknown, none, corrected, uncorrected (believed and not corrected) or uncertain (not believed).
    Correlations of picture and motion: ``before`` as recorded, ``now`` as converted, ``best`` at ``found_s``.
    """

    state: str
    frames: int = 0
    found_s: float = 0.0
    corrected_s: float = 0.0
    interval_s: float = 0.0
    confidence: float | None = None
    before: float | None = None
    now: float | None = None
    best: float | None = None
    method: str = ""
    offsets_s: tuple[float, ...] = ()
    correlations: tuple[float, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """``level`` is bad, warn or good; ``issues`` say why, the worst first, without the converter's own warnings."""

    level: str
    issues: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """One or two words for the level."""
        return {BAD: "needs action", WARN: "look at it", GOOD: "good"}[self.level]


def read_lag(entry: Entry) -> Lag:
    """The lag of a recording's report."""
    data = mapping(entry.get("lag"))
    if not data:
        return Lag("unknown")
    interval, frames = number(data.get("interval_s")) or 0.0, int(number(data.get("frames")) or 0)
    seconds = number(data.get("seconds"))
    found = frames * interval if seconds is None else seconds
    corrected, confidence = number(data.get("corrected_s")) or 0.0, number(data.get("confidence"))
    believed = data.get("convincing")
    if not isinstance(believed, bool):
        believed = confidence is not None and confidence >= _CONVINCING
    fits = abs(found - corrected) <= max(interval / 2, 5e-4)
    state = "uncorrected" if believed else "uncertain"
    if fits:
        state = "corrected" if abs(corrected) > 1e-9 else "none"
    offsets, correlations = numbers(data.get("offsets_s")), numbers(data.get("correlations"))
    curve = sorted(zip(offsets, correlations, strict=False))
    before, after = number(data.get("correlation_before")), number(data.get("correlation_after"))
    before = _at(curve, 0.0) if before is None else before
    best = max((value for value in (_at(curve, found), after) if value is not None), default=None)
    return Lag(
        state=state,
        frames=frames,
        found_s=found,
        corrected_s=corrected,
        interval_s=interval,
        confidence=confidence,
        before=before,
        now=before if abs(corrected) <= 1e-9 else best if fits else _at(curve, corrected),
        best=best,
        method=text(data.get("method")),
        offsets_s=tuple(offset for offset, _ in curve),
        correlations=tuple(correlation for _, correlation in curve),
    )


def _at(curve: list[tuple[float, float]], offset_s: float) -> float | None:
    if not curve or not curve[0][0] - 1e-9 <= offset_s <= curve[-1][0] + 1e-9:
        return None
    return float(np.interp(offset_s, [point[0] for point in curve], [point[1] for point in curve]))


def kept_share(entry: Entry) -> float | None:
    """Kept frames of all ticks, 0 to 1; None where the report counts none."""
    kept = count(entry.get("kept"))
    total = max(count(entry.get("ticks")) or kept + count(entry.get("dropped")), kept)
    return kept / total if total else None


def dropped_by_reason(entry: Entry) -> dict[str, int]:
    """Frames or messages that were not used, by reason, most first; breaks are left out.

    What the synchronizer dropped is counted by the report, what curation left out is listed there with its frames.
    """
    found = Counter(
        {text(k): count(v) for k, v in mapping(entry.get("reasons")).items() if not text(k).endswith(BREAK_MARK)}
    )
    for item in records(entry.get("exclusions")):
        found[text(item.get("reason"))] += count(item.get("frames"))
    return _most_first(found)


def breaks_by_reason(entry: Entry) -> dict[str, int]:
    """How often the recording was split without losing a frame, by reason, most first."""
    reasons = mapping(entry.get("reasons"))
    return _most_first(
        Counter(
            {
                text(k).removesuffix(BREAK_MARK).strip(): count(v)
                for k, v in reasons.items()
                if text(k).endswith(BREAK_MARK)
            }
        )
    )


def summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counts by reason added up over recordings, most first."""
    total: Counter[str] = Counter()
    for item in counts:
        total.update(item)
    return _most_first(total)


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(((k, v) for k, v in counts.items() if v), key=lambda item: (-item[1], item[0])))


def beyond_limits(entry: Entry) -> list[str]:
    """Channels whose largest action lies outside their limits, in words."""
    largest, found = mapping(entry.get("largest_action")), []
    for name, histogram in mapping(entry.get("histograms")).items():
        limits, value = pair(mapping(histogram).get("limits")), number(largest.get(name))
        if limits is not None and value is not None and abs(value) > max(-limits[0], limits[1]) * _NOTABLE_LIMIT:
            found.append(f"{text(name)} up to {abs(value):.3g} (limit {max(-limits[0], limits[1]):.3g})")
    return found


def judge(entry: Entry) -> Verdict:
    """What is wrong with a recording, the worst first."""
    bad, warn = [], []
    lag = read_lag(entry)
    if lag.state == "uncorrected":
        bad.append(
            f"lag {signed(lag.found_s)} not corrected"
            if not lag.corrected_s
            else f"lag {signed(lag.found_s)}, corrected {signed(lag.corrected_s)}"
        )
    elif lag.state == "uncertain":
        warn.append(f"lag {signed(lag.found_s)} possible, not certain")
    share = kept_share(entry)
    if not count(entry.get("kept")):
        bad.append("nothing kept")
    elif share is not None and share < _HALF_KEPT:
        why = next(iter(dropped_by_reason(entry)), "")
        (bad if share < _HARDLY_KEPT else warn).append(
            f"only {percent(share)} kept" + (f", most lost to: {why}" if why else "")
        )
    if beyond := beyond_limits(entry):
        warn.append(f"beyond limits: {beyond[0]}" + (f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""))
    if gaps := records(entry.get("gaps")):
        longest = max(number(gap.get("seconds")) or 0.0 for gap in gaps)
        warn.append(f"{counted(len(gaps), 'gap')}, longest {amount(longest)}")
    warned = bool(warn) or bool(texts(entry.get("warnings")))
    return Verdict(BAD if bad else WARN if warned else GOOD, (*bad, *warn))
