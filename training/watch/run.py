"""Watching one recording: comparisons of executed actions through the detector that the robot runs live.

Knows models, recordings and the detector; no command and no page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egowm_core.data.values import Recording
from egowm_core.drift import (
    Comparison,
    DriftBaseline,
    DriftDetector,
    DriftLimits,
    Evidence,
    drift_tracker,
    judge_comparison,
)
from egowm_core.errors import ConfigError, DataError
from egowm_core.hindsight import HindsightOptions, hindsight
from egowm_core.types import NANOSECONDS_PER_SECOND
from egowm_core.world_model import WorldModel
from training.watch.cases import Cases, save_case
from training.watch.figures import QUIET_S, RAISED, Seen, Watched

MAX_ONSETS = 24  # strips of alarms' onsets a recording


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """How to watch. ``every`` so many ticks a rollout over the longest of ``horizons`` is compared.

    ``image_lag_s``: how late the camera is against the motion, as in the converter and the nodes.
    """

    horizons: tuple[int, ...] = (2, 4, 8)
    every: int = 2
    image_topic: str | None = None
    motion_topic: str | None = None
    image_lag_s: float = 0.0
    max_structures: int = 8
    seed: int = 0
    limits: DriftLimits = field(default_factory=DriftLimits)

    def __post_init__(self) -> None:
        if not self.horizons or min(self.horizons) < 1:
            raise ConfigError(f"horizons {self.horizons} are frame numbers from 1")
        if self.max_structures < 1:
            raise ConfigError(f"max_structures {self.max_structures} is at least 1")
        if not (math.isfinite(self.image_lag_s) and abs(self.image_lag_s) < 60):
            raise ConfigError(f"image_lag_s {self.image_lag_s} must be a number of seconds below a minute")


def judged(recording: Recording, model: WorldModel, options: WatchOptions) -> Iterator[tuple[Comparison, Evidence]]:
    """Every comparison of a recording with its evidence, in order of time.

    Raises:
        DataError, ConfigError, RolloutError: see ``egowm_core.hindsight``.
    """
    replay = HindsightOptions(
        every=options.every,
        horizon=max(options.horizons),
        image_topic=options.image_topic,
        motion_topic=options.motion_topic,
        image_lag_s=options.image_lag_s,
        seed=options.seed,
    )
    tracker = drift_tracker()
    for comparison in hindsight(recording, model, replay):
        judgement = judge_comparison(
            comparison, options.horizons, max_structures=options.max_structures, tracker=tracker
        )
        yield comparison, judgement.evidence


def new_detector(model: WorldModel, limits: DriftLimits, baseline: DriftBaseline | None) -> DriftDetector:
    """The detector of this model's robot."""
    robot = model.embodiment
    return DriftDetector(robot.scales, tick_s=1.0 / robot.rate_hz, limits=limits, baseline=baseline)


def watch(
    recording: Recording,
    model: WorldModel,
    options: WatchOptions,
    *,
    baseline: DriftBaseline | None = None,
    name: str,
    strips: Path | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Watched:
    """Watch a recording from its beginning to its end; without ``baseline``, its first minute is learned from.

    Strips of the best, the median and the worst comparison and of every alarm's onset go into the folder ``strips``.
    ``progress`` is told the seconds of the recording that were seen since it was last told.

    Raises:
        DataError: the recording cannot be read, or holds nothing to compare.
        ConfigError, RolloutError: it does not suit the model.
        OSError: a strip cannot be written.
    """
    detector = new_detector(model, options.limits, baseline)
    watched = Watched(name, options.horizons, options.limits.stale_after_s)
    cases, onsets = Cases(), _Onsets(strips, options)
    newest_ns: int | None = None
    for comparison, evidence in judged(recording, model, options):
        stamp_ns = comparison.newest_stamp_ns
        if newest_ns is None:
            watched.start_ns = newest_ns = comparison.context_stamp_ns
        elif stamp_ns < newest_ns:
            back_s = (newest_ns - stamp_ns) / NANOSECONDS_PER_SECOND
            watched.warnings.append(f"the clock went back by {back_s:.1f} s: the detector was reset there")
            detector.reset()
        learning = detector.baseline is None
        report = detector.update(evidence)
        number = len(watched.seen)
        watched.seen.append(Seen(stamp_ns, report, evidence.psnr, evidence.num_structures, learning))
        if strips is not None:
            cases.add(number, report.scs.get(max(options.horizons), math.nan), comparison)
            if report.state in RAISED:
                onsets.add(watched, number, comparison)
        progress(max(0.0, (stamp_ns - newest_ns) / NANOSECONDS_PER_SECOND))
        newest_ns = stamp_ns
    if not watched.seen:
        raise DataError(
            f"{recording.path}: nothing to compare: no stretch of {model.context_frames + max(options.horizons)} ticks"
            " without a gap has both pictures and motion; look at it with egowm-inspect, or use shorter horizons"
        )
    if strips is not None:
        for case, number, comparison in cases.chosen():
            save_case(strips / f"{case.replace(' ', '_')}.png", comparison, **onsets.how)
            watched.strips.append((case, number, f"{case.replace(' ', '_')}.png"))
        watched.strips += onsets.saved
    watched.warnings += [*recording.notes, *recording.damage]
    if detector.baseline is None:
        watched.warnings.append(
            f"too short to learn what is usual: {watched.seen[-1].report.reason}; give a baseline learned from other"
            " recordings (--learn), or fewer --learn-ticks"
        )
    if onsets.left_out:
        watched.warnings.append(f"{onsets.left_out} more alarms have no strip")
    return watched


class _Onsets:
    """Saves the strip of every alarm's first comparison, up to a number of them."""

    def __init__(self, folder: Path | None, options: WatchOptions) -> None:
        self.how: dict[str, Any] = {"max_structures": options.max_structures, "tracker": drift_tracker()}
        self.saved: list[tuple[str, int, str]] = []
        self.left_out = 0
        self._folder, self._last_s = folder, -math.inf

    def add(self, watched: Watched, number: int, comparison: Comparison) -> None:
        """A comparison that is WARN or ERROR; the rule of ``Watched.alarms`` tells whether an alarm begins with it."""
        at_s = watched.seconds(number)
        begins, self._last_s = not 0 <= at_s - self._last_s <= QUIET_S, at_s
        if not begins or self._folder is None:
            return
        if len(self.saved) == MAX_ONSETS:
            self.left_out += 1
            return
        name = f"alarm_{len(self.saved) + 1:02d}.png"
        save_case(self._folder / name, comparison, **self.how)
        self.saved.append(("alarm", number, name))
