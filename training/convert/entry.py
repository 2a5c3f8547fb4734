"""What is told of one converted recording: the entry that the dataset keeps, the report shows and `--json` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError


@dataclass(kw_only=True)
class RecordingReport:
    """What became of a recording. ``reasons`` counts drops and breaks; ``kept`` are the frames in its episodes.

    ``damage`` tells what of it could not be read: it is converted as far as it goes, but not as it was recorded.

    ``dropped`` counts what was lost of images and motion before curation; ``exclusions`` list what curation left out,
    with the stamps. Lists and mappings hold plain JSON values.
    """

    recording: str
    kind: str = ""
    fingerprint: str = ""
    duration_s: float = 0.0
    start_ns: int = 0
    image_topic: str = ""
    motion_topic: str = ""
    task: str = ""
    frames_in: int = 0
    ticks: int = 0
    kept: int = 0
    dropped: int = 0
    segments: int = 0
    episodes: int = 0
    first_episode: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    exclusions: list[dict[str, Any]] = field(default_factory=list)
    excluded_frames: int = 0
    tick_rate_hz: float | None = None
    topics: list[dict[str, Any]] = field(default_factory=list)
    timeline: dict[str, Any] = field(default_factory=dict)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    lag: dict[str, Any] | None = None
    histograms: dict[str, Any] = field(default_factory=dict)
    largest_action: dict[str, float] = field(default_factory=dict)
    quality: list[dict[str, Any]] = field(default_factory=list)
    faces_blurred: int = 0
    has_truth: bool = False
    strip: str | None = None
    damage: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RecordingReport:
        """What ``to_json`` gave. Raises DataError when it is of another version."""
        try:
            return cls(**values)
        except TypeError as error:
            raise DataError(f"a recording's report is not readable ({error}); convert into a new directory") from error


def judge(report: RecordingReport, embodiment: Embodiment, *, min_length: int) -> None:
    """Warn of what a reader of the dataset should know. Raises DataError when nothing came of the recording."""
    report.warnings += _lag_warnings(report)
    report.warnings += _limit_warnings(report, embodiment)
    if report.tick_rate_hz is not None and abs(report.tick_rate_hz / embodiment.rate_hz - 1) > 0.15:
        report.warnings.append(
            f"ticks come at {report.tick_rate_hz:.3g} Hz, the embodiment says {embodiment.rate_hz:g} Hz:"
            f" the images are too slow or too sparse for it; convert with --rate-hz {report.tick_rate_hz:.3g}"
        )
    if report.episodes:
        return
    counts = {**report.reasons}
    for item in report.exclusions:
        counts[item["reason"]] = counts.get(item["reason"], 0) + (item["frames"] or 1)  # a cut takes none
    why = ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "nothing was dropped"
    hint = "; ".join(report.warnings) or f"give a longer recording or a --min-length below {min_length}"
    raise DataError(
        f"recording {report.recording!r} holds no episode of {min_length} frames at {embodiment.rate_hz:g} Hz:"
        f" {report.frames_in} images gave {report.ticks} ticks in {report.segments} segments ({why}); {hint}"
    )


def _lag_warnings(report: RecordingReport) -> list[str]:
    lag = report.lag
    if lag is None or lag["corrected_s"] or not lag["convincing"]:
        return []
    found = f"the camera lags the motion by {lag['frames']} frames ({lag['seconds']:.3g} s)"
    measured = (
        f"correlation {lag['correlation_before']:.2f} as recorded, {lag['correlation_after']:.2f} with it corrected"
    )
    return [
        f"LAG NOT CORRECTED: {found}, {measured}: a model trained on this learns the wrong actions;"
        f" convert again with --lag correct"
    ]


def _limit_warnings(report: RecordingReport, embodiment: Embodiment) -> list[str]:
    excess = []
    for channel, (low, high) in zip(embodiment.channels, embodiment.limits, strict=True):
        largest, limit = report.largest_action.get(channel.name, 0.0), max(-low, high)
        if largest > limit * 1.0001:
            excess.append(f"{channel.name} up to {largest:.3g} {channel.unit} (limit {limit:.3g})")
    if not excess:
        return []
    return [
        f"motion beyond the limits of {embodiment.name}: {'; '.join(excess)}: segments were cut there;"
        f" a faster robot needs an embodiment with its own limits (egowm-inspect --propose)"
    ]
