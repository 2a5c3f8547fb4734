"""Measure clips: the SCS and its companions, clip by clip and row by row. Knows no file, no table and no page.

Structures are those of the clip, or proposed on its context frame and then, unless all are wanted, only those that a
robot's own motion explains (``egowm_core.scs.select_passive``, judged on the observed video). What could not be
computed is told, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from tqdm import tqdm

from egowm_core.errors import ScoreError
from egowm_core.metrics import (
    FRAME_METRICS,
    METRICS,
    SET_METRICS,
    FeatureSums,
    FrameMetric,
    SetMetric,
    frechet_distance,
    load_metric,
    physics_iq,
)
from egowm_core.metrics.frechet import FeatureArray
from egowm_core.metrics.physics_iq import NAMES as PHYSICS_IQ_NAMES
from egowm_core.schema import nearest
from egowm_core.scs import DenseFlowTracker, Tracker, frame_scs, propose_structures, track_and_score
from egowm_core.scs.passive import Excluded, PassiveConfig, select_passive
from egowm_core.types import FloatArray
from training.score.clip import BoolArray, Clip

BEST_PSNR_DB = 60.0  # identical frames have an infinite one
ALWAYS = ("psnr", "ssim")


@dataclass(frozen=True)
class Measures:
    """What to measure. ``metrics`` beside the SCS; PSNR and SSIM always are.

    ``tracked``: the SCS wholly by tracking; without it only clips with true masks have one. ``passive``: leave out
    proposed structures that move by themselves, are the robot's own body or cannot be followed. ``weights_dir``: where
    networks of metrics have their weights.
    """

    horizons: tuple[int, ...]
    metrics: tuple[str, ...] = ALWAYS
    tracked: bool = True
    passive: bool = False
    tracker: Tracker = field(default_factory=DenseFlowTracker)
    weights_dir: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ScoreError(f"no metric {name!r}{nearest(name, METRICS)}; there are {', '.join(METRICS)}")
        if not self.horizons or min(self.horizons) < 1:
            raise ScoreError(f"horizons are frame numbers from 1, got {list(self.horizons)}")


@dataclass(frozen=True)
class ClipScore:
    """What one row got on one clip.

    ``iou`` has the (N,T) of each kind of SCS ("scs", "scs_true"), NaN where a structure is not judged, ``scs`` their
    means by horizon. ``series`` has one value a frame (T,), ``means`` one a horizon over the frames up to it.
    """

    clip: int
    row: str
    iou: dict[str, FloatArray] = field(default_factory=dict)
    scs: dict[str, dict[int, float]] = field(default_factory=dict)
    series: dict[str, FloatArray] = field(default_factory=dict)
    means: dict[str, dict[int, float]] = field(default_factory=dict)
    excluded: tuple[Excluded, ...] = ()

    @property
    def num_structures(self) -> int:
        """How many structures the tracked SCS rests on."""
        return len(self.iou["scs"]) if "scs" in self.iou else 0


@dataclass
class Measured:
    """Scores of all clips and rows; ``sets`` of whole rows by metric and horizon; ``unavailable`` metrics and why."""

    scores: list[ClipScore] = field(default_factory=list)
    sets: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def of(self, row: str) -> list[ClipScore]:
        """The scores of a row, in the order of the clips."""
        return [score for score in self.scores if score.row == row]

    @property
    def rows(self) -> list[str]:
        """The names of the rows."""
        return list(dict.fromkeys(score.row for score in self.scores))


def measure(clips: Sequence[Clip], measures: Measures) -> Measured:
    """Measure all clips. A metric that cannot be loaded or does not fit the frames is told in ``unavailable``.

    Raises:
        ScoreError: the masks of a clip do not fit its frames.
    """
    measured = Measured()
    metrics = _load(measures, measured)
    frames = {name: cast(FrameMetric, metrics[name]) for name in FRAME_METRICS if name in metrics}
    for number, clip in enumerate(tqdm(clips, desc="scoring", unit="clip", disable=len(clips) < 2)):
        structures, excluded = choose_structures(clip, measures)
        followed = _follow(clip, structures, measures)
        for row in clip.predicted:
            score = ClipScore(number, row, excluded=excluded)
            _score_structures(score, clip, structures, followed, measures)
            for name, metric in list(frames.items()):
                try:
                    score.series[name] = metric(clip.predicted[row], clip.observed)
                except ScoreError as error:
                    measured.unavailable[name] = str(error)
                    del frames[name]
            if "physics_iq" in measures.metrics:
                found = physics_iq(clip.predicted[row], clip.observed, context=clip.context, horizons=measures.horizons)
                score.means.update({name: getattr(found, name) for name in PHYSICS_IQ_NAMES})
            measured.scores.append(score)
    for name in measured.unavailable:  # a metric that some clips have and others lack is none
        for score in measured.scores:
            score.series.pop(name, None)
    for name in SET_METRICS:
        if name in metrics:
            _measure_sets(name, cast(SetMetric, metrics[name]), clips, measures, measured)
    return measured


def choose_structures(clip: Clip, measures: Measures) -> tuple[BoolArray, tuple[Excluded, ...]]:
    """The structures (N,H,W) that the tracked SCS of a clip judges, and those left out; given ones are all kept."""
    if not measures.tracked:
        return np.zeros((0, *clip.context.shape[:2]), np.bool_), ()
    if clip.structures is not None:
        return clip.structures, ()
    proposed = propose_structures(clip.context)
    if not measures.passive:
        return proposed, ()
    images = np.concatenate([clip.context[None], clip.observed])
    selection = select_passive(proposed, images, config=PassiveConfig(own_body=clip.own_body))
    return selection.kept, selection.excluded


def follow(clip: Clip, row: str, measures: Measures) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Structures (N,H,W) of the tracked SCS and their predicted and observed masks (N,T,H,W), to look at."""
    structures, _ = choose_structures(clip, measures)
    images = np.concatenate([clip.context[None], clip.predicted[row]])
    return structures, measures.tracker.track(structures, images), _follow(clip, structures, measures)


def _follow(clip: Clip, structures: BoolArray, measures: Measures) -> BoolArray:
    return measures.tracker.track(structures, np.concatenate([clip.context[None], clip.observed]))


def _score_structures(
    score: ClipScore, clip: Clip, structures: BoolArray, observed: BoolArray, measures: Measures
) -> None:
    kinds = {"scs": (structures, observed)} if measures.tracked else {}
    if clip.true_structures is not None and clip.observed_masks is not None and len(clip.true_structures):
        kinds["scs_true"] = (clip.true_structures, clip.observed_masks)
    for kind, (chosen, followed) in kinds.items():
        scores = track_and_score(
            clip.predicted[score.row],
            clip.observed,
            context=clip.context,
            structures=chosen,
            observed_masks=followed,
            horizons=measures.horizons,
            tracker=measures.tracker,
        ).scores
        score.iou[kind], score.scs[kind] = scores.iou, scores.scs
        score.series[f"{kind}_at"] = frame_scs(scores.iou)


def _load(measures: Measures, measured: Measured) -> dict[str, FrameMetric | SetMetric]:
    found: dict[str, FrameMetric | SetMetric] = {}
    for name in dict.fromkeys((*ALWAYS, *measures.metrics)):
        if name == "physics_iq":
            continue
        try:
            found[name] = load_metric(name, weights_dir=measures.weights_dir, device=measures.device)
        except ScoreError as error:
            measured.unavailable[name] = str(error).removeprefix(f"{name} is not available: ")
    return found


def _measure_sets(name: str, metric: SetMetric, clips: Sequence[Clip], measures: Measures, measured: Measured) -> None:
    """Distances of each row's set to the observed set of the same clips, over frames 1..h."""
    observed: list[list[FeatureArray | None]] = []
    try:
        for clip in tqdm(clips, desc=f"{name}, observed", unit="clip", disable=len(clips) < 2):
            observed.append(_features(name, metric, clip, clip.observed, measures))
        for row in measured.rows:
            sums: dict[int, tuple[FeatureSums, FeatureSums]] = {}
            for clip, there in tqdm(
                list(zip(clips, observed, strict=True)), desc=f"{name}, {row}", unit="clip", disable=len(clips) < 2
            ):
                if row not in clip.predicted:
                    continue
                here = _features(name, metric, clip, clip.predicted[row], measures)
                for horizon, a, b in zip(measures.horizons, here, there, strict=True):
                    if a is None or b is None:
                        continue
                    if horizon not in sums:
                        sums[horizon] = FeatureSums.of(a[:0]), FeatureSums.of(b[:0])
                    sums[horizon][0].add(a)
                    sums[horizon][1].add(b)
            distances = {h: frechet_distance(*sums[h]) if h in sums else float("nan") for h in measures.horizons}
            measured.sets.setdefault(row, {})[name] = distances
            fewest = min((pair[0].count for pair in sums.values()), default=0)
            length = next((len(pair[0].total) for pair in sums.values()), 0)
            if fewest < length:
                measured.warnings.append(
                    f"{name} of {row} rests on {fewest} samples of {length} features: too few to compare with"
                    " published figures, only with rows of as many"
                )
    except ScoreError as error:
        measured.unavailable[name] = str(error)
        for found in measured.sets.values():
            found.pop(name, None)
        return
    if all(np.isnan(list(row[name].values())).all() for row in measured.sets.values()):
        least = metric.least_frames
        measured.unavailable[name] = (
            f"needs at least two clips of {least} frames, the context included, and a horizon that long;"
            f" horizons are {', '.join(map(str, measures.horizons))}"
        )


def _features(
    name: str, metric: SetMetric, clip: Clip, frames: BoolArray | np.ndarray, measures: Measures
) -> list[FeatureArray | None]:
    """Features over frames 1..h for each horizon h, None where there are too few frames."""
    if name == "fid":  # one for each frame: computed once, then cut
        all_of = metric.features(np.asarray(frames[: max(measures.horizons)], np.uint8))
        return [all_of[:h] if h <= len(frames) else None for h in measures.horizons]
    whole = np.concatenate([clip.context[None], frames])
    return [
        metric.features(whole[: h + 1]) if metric.least_frames <= h + 1 <= len(whole) else None
        for h in measures.horizons
    ]
