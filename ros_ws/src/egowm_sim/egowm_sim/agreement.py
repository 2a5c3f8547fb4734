"""Judge the futures of one room in every way that is to be compared: SCS by truth, half and wholly by tracking, PSNR...

A clip is a context frame of a real drive with the future observed after it. Against that future it judges wrong ones
(``futures``), right ones with worse pictures (``degradations``), and both at once. Metrics of a future, each over
frames 1..h of a horizon h:

- ``scs_masks``: the truth. Structures are the simulator's, followed in both videos by its segmentation.
- ``scs_tracked``: the same structures, tracked in both videos.
- ``scs_true``: the same structures, true masks in the observed video, tracked ones in the predicted.
- ``scs``: wholly automatic. Structures proposed on the context frame and selected as passive, tracked in both videos.
- ``scs_carried``: the truth of ``scs``. The proposed structures, followed in both videos by depth and pose.
- ``scs_masks_carried``: the simulator's structures, followed likewise: without what the context frame did not show.
- ``psnr`` (dB, at most 60 a frame), ``ssim``, and others that were asked for.

Nothing here scores by itself: all SCS come from ``egowm_core.scs.score``, whatever follows the masks. Knows no
statistics and no plot.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.scs import Tracker, choose_ids, masks_of, propose_structures, score, select_passive
from egowm_core.scs.structures import border_share
from egowm_core.types import Scores
from egowm_sim.degradations import DEGRADATION_LEVELS, Degradation, degrade
from egowm_sim.futures import ACTION_LEVELS, ActionError, Deltas, Future, Stage, carry, deltas_of, path, perturb

HORIZON = 8
HORIZONS = (2, 4, 8)
RATE_HZ = 4.0
CLIP_STRIDE = 10  # ticks between contexts, so that their futures do not overlap
DEGRADATIONS = 2  # kinds of them a clip
COMBINED = 2  # futures of a clip with wrong actions and worse pictures
LEAST_MOTION = 1.5  # of a clip, in ticks at the robot's full speed
LEAST_EFFECT = 0.3  # m + rad, of the grossest level of an action error on the path
TICK_M, TICK_RAD = 0.15, 0.15  # a tick at full speed
MOST_PSNR = 60.0  # dB, in place of infinity
_DEGRADATIONS = tuple(Degradation)

Masks = NDArray[np.bool_]
Video = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class RoomSettings:
    """What decides the figures of a room. ``tracker`` as for ``egowm_core.scs.tracker_for``."""

    clips: int = 4
    height: int = 96
    width: int = 128
    tracker: str = "flow"
    metrics: tuple[str, ...] = ("psnr", "ssim")
    seconds: float = 60.0
    version: int = 1  # of this file's meaning

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "metrics": list(self.metrics)}


@dataclass(frozen=True)
class JudgedFuture:
    """Levels count from 1; 0 is none of it. ``metrics`` is {metric: {horizon: value}}, NaN where nothing is judged.

    ``off_m`` and ``off_deg`` are how far the last pose is from the true one, ``clearance_m`` how near the path came
    to anything.
    """

    error: str | None
    error_level: int
    degradation: str | None
    degradation_level: int
    off_m: float
    off_deg: float
    clearance_m: float
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)


class KnownTracks:
    """A ``Tracker`` that tracks nothing: it gives back the masks that were put in for a video."""

    def __init__(self) -> None:
        self._masks: dict[bytes, Masks] = {}

    def put(self, images: Video, masks: Masks) -> None:
        """``masks`` (N,T,H,W) for ``images`` (T+1,H,W,3), the context frame among them."""
        self._masks[_digest(images)] = masks

    def track(self, masks: Masks, images: Video) -> Masks:
        """See ``egowm_core.scs.Tracker``. Raises ScoreError for an unknown video."""
        known = self._masks.get(_digest(images))
        if known is None or len(known) != len(masks):
            raise ScoreError(f"no {len(masks)} masks are known of this video; put them in first")
        return known


def _digest(images: Video) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(images), digest_size=16).digest()


def judge_room(seed: int, settings: RoomSettings, *, weights_dir: Path | None = None) -> dict[str, Any]:
    """All clips of the room of ``seed``, for JSON: {"seed", "clips": [{"tick", "structures", "proposed", ...}]}.

    In a clip, ``structures`` are facts of the simulator's structures, ``proposed`` and ``excluded`` how many proposals
    were kept and were not, ``futures`` records of ``JudgedFuture``, the first the observed future itself.
    ``weights_dir`` is for metrics that need a network.

    Raises:
        SimulationError: no OpenGL here, or a size out of range.
        ScoreError: an unknown tracker or metric.
    """
    rng = np.random.default_rng([seed, 0x5C5])
    clips: list[dict[str, Any]] = []
    judge = _Judge(settings, weights_dir)
    with Stage(seed=seed, height=settings.height, width=settings.width) as stage:
        poses = stage.drive(settings.seconds, rate_hz=RATE_HZ)
        for tick in _contexts(poses, rng):
            deltas = deltas_of(poses[tick - HORIZON : tick + HORIZON + 1])
            observed = stage.render(path(poses[tick], deltas[HORIZON:]))
            ids = choose_ids(observed.segmentation[0], allowed=stage.static)
            if ids:
                clips.append({"tick": tick, **judge.clip(stage, observed, ids, deltas, rng)})
            if len(clips) == settings.clips:
                break
    return {"seed": seed, "clips": clips}


def _contexts(poses: NDArray[np.float64], rng: np.random.Generator) -> Iterator[int]:
    """Ticks with enough motion after them, in a random order, whose futures do not overlap."""
    taken: list[int] = []
    for tick in rng.permutation(np.arange(HORIZON, len(poses) - HORIZON)).tolist():
        moved = np.abs(deltas_of(poses[tick : tick + HORIZON + 1]))
        motion = np.hypot(moved[:, 0], moved[:, 1]).sum() / TICK_M + moved[:, 2].sum() / TICK_RAD
        if motion >= LEAST_MOTION and all(abs(tick - other) >= CLIP_STRIDE for other in taken):
            taken.append(tick)
            yield tick


class _Judge:
    """Scores futures of clips; loads tracker and metrics once."""

    def __init__(self, settings: RoomSettings, weights_dir: Path | None) -> None:
        from egowm_core.metrics import load_metric
        from egowm_core.scs import tracker_for

        self.tracker: Tracker = tracker_for(settings.tracker)
        self.frame_metrics: dict[str, Any] = {
            name: load_metric(name, weights_dir=weights_dir) for name in settings.metrics
        }

    def clip(
        self, stage: Stage, observed: Future, ids: list[int], deltas: Deltas, rng: np.random.Generator
    ) -> dict[str, Any]:
        """Every future of one clip, judged."""
        clip = _Clip(self, stage, observed, ids)
        futures = [clip.judge(observed, observed.images)]
        effective: list[tuple[ActionError, int, Future]] = []
        for error, levels in ACTION_LEVELS.items():
            sign = _sign(stage, observed, deltas, error, rng)
            paths = [
                path(observed.poses[0], perturb(deltas, error, amount, horizon=HORIZON, sign=sign)) for amount in levels
            ]
            if _off(paths[-1], observed.poses).max() < LEAST_EFFECT:
                continue
            for level, poses in enumerate(paths, start=1):
                wrong = stage.render(poses)
                effective.append((error, level, wrong))
                futures.append(clip.judge(wrong, wrong.images, error=(error.value, level)))
        for i in rng.permutation(len(_DEGRADATIONS))[:DEGRADATIONS].tolist():
            kind = _DEGRADATIONS[i]
            for level, amount in enumerate(DEGRADATION_LEVELS[kind], start=1):
                worse = _degraded(observed, kind, amount, rng)
                futures.append(clip.judge(observed, worse, degradation=(kind.value, level)))
        for _ in range(COMBINED if effective else 0):
            error, error_level, wrong = effective[int(rng.integers(len(effective)))]
            kind = _DEGRADATIONS[int(rng.integers(len(_DEGRADATIONS)))]
            level = 1 + int(rng.integers(len(DEGRADATION_LEVELS[kind])))
            worse = _degraded(wrong, kind, DEGRADATION_LEVELS[kind][level - 1], rng)
            futures.append(clip.judge(wrong, worse, error=(error.value, error_level), degradation=(kind.value, level)))
        return {
            "structures": clip.facts(),
            "proposed": len(clip.proposed),
            "excluded": clip.excluded,
            "futures": [asdict(f) for f in futures],
        }


class _Clip:
    """One observed future with its structures, and what is known of how they move."""

    def __init__(self, judge: _Judge, stage: Stage, observed: Future, ids: list[int]) -> None:
        self._judge, self._stage, self._observed, self._ids = judge, stage, observed, ids
        self.context = observed.images[0]
        self.structures = masks_of(observed.segmentation[0], ids)
        proposed = propose_structures(self.context)
        self.proposed = select_passive(proposed, observed.images).kept
        self.excluded = len(proposed) - len(self.proposed)
        self._followed = {name: KnownTracks() for name in ("masks", "masks_carried", "tracked", "carried", "auto")}
        self._truth: tuple[Future, Masks, Masks] | None = None  # of the future judged last
        self._differences: list[NDArray[np.float64]] = []  # tracked minus true, points, per structure
        self._follow(observed, observed.images)
        assert self._truth is not None
        self._observed_masks = self._truth[1]
        seen = np.maximum(np.count_nonzero(self._observed_masks, axis=(2, 3)), 1)
        carried = self._truth[2][: len(ids)]
        self._revealed = 1 - np.count_nonzero(carried & self._observed_masks, axis=(2, 3)) / seen

    def _follow(self, future: Future, images: Video) -> None:
        """Follow all structures through ``images`` of ``future``: by truth, and by the tracker (once for all)."""
        count = len(self.structures)
        every = np.concatenate([self.structures, self.proposed])
        if self._truth is None or self._truth[0] is not future:
            self._truth = (future, masks_of(future.segmentation[1:], self._ids), carry(every, self._observed, future))
        _, masks, carried = self._truth
        tracked = self._judge.tracker.track(every, images)
        parts = (masks, carried[:count], tracked[:count], carried[count:], tracked[count:])
        for known, part in zip(self._followed.values(), parts, strict=True):
            known.put(images, part)

    def judge(
        self,
        future: Future,
        images: Video,
        *,
        error: tuple[str | None, int] = (None, 0),
        degradation: tuple[str | None, int] = (None, 0),
    ) -> JudgedFuture:
        """The metrics of ``images`` (T+1,H,W,3), which show ``future`` more or less well."""
        self._follow(future, images)
        seen, predicted = self._observed.images[1:], images[1:]

        def scs(structures: Masks, followed: str, masks: Masks | None = None) -> Scores:
            return score(
                predicted, seen, context=self.context, structures=structures, observed_masks=masks,
                horizons=HORIZONS, tracker=self._followed[followed],
            )  # fmt: skip

        scores = {
            "scs_masks": scs(self.structures, "masks"),
            "scs_masks_carried": scs(self.structures, "masks_carried"),
            "scs_tracked": scs(self.structures, "tracked"),
            "scs_true": scs(self.structures, "tracked", self._observed_masks),
            "scs": scs(self.proposed, "auto"),
            "scs_carried": scs(self.proposed, "carried"),
        }
        if error[0] and not degradation[0]:
            judged = [
                np.where(np.isfinite(scores[name].iou), scores[name].iou, 0) for name in ("scs_tracked", "scs_masks")
            ]
            self._differences.append(100 * (judged[0] - judged[1]).mean(axis=1, dtype=np.float64))
        metrics = {
            name: {str(horizon): round(value, 4) for horizon, value in result.scs.items()}
            for name, result in scores.items()
        }
        for name, metric in self._judge.frame_metrics.items():
            values = np.minimum(metric(predicted, seen), MOST_PSNR) if name == "psnr" else metric(predicted, seen)
            metrics[name] = {str(h): round(float(np.mean(values[:h])), 4) for h in HORIZONS}
        turned = future.poses[-1, 2] - self._observed.poses[-1, 2]
        return JudgedFuture(
            *error,
            *degradation,
            off_m=round(math.dist(future.poses[-1, :2], self._observed.poses[-1, :2]), 4),
            off_deg=round(abs(math.degrees((turned + math.pi) % (2 * math.pi) - math.pi)), 3),
            clearance_m=round(self._stage.clearance(future.poses), 3),
            metrics=metrics,
        )

    def facts(self) -> list[dict[str, float]]:
        """Of each of the simulator's structures: what it is like, and how far tracking is off over wrong actions."""
        differences = np.asarray(self._differences).reshape(-1, len(self.structures))
        return [
            {
                "area": round(float(mask.mean()), 5),
                "border": round(border_share(mask), 3),
                "revealed": round(float(self._revealed[n].mean()), 3),
                "difference": round(float(np.abs(differences[:, n]).mean()), 3) if len(differences) else math.nan,
            }
            for n, mask in enumerate(self.structures)
        ]


def _degraded(future: Future, kind: Degradation, amount: float, rng: np.random.Generator) -> Video:
    """The pictures of ``future`` made worse, but for the context frame, which a prediction is given as it is."""
    return np.concatenate([future.images[:1], degrade(future.images[1:], kind, amount, rng=rng)])


def _sign(stage: Stage, observed: Future, deltas: Deltas, error: ActionError, rng: np.random.Generator) -> int:
    """The direction of a bias that stays farther from walls and furniture; a random one where both are alike."""
    order = (1, -1) if rng.random() < 0.5 else (-1, 1)
    gross = ACTION_LEVELS[error][-1]
    return max(
        order,
        key=lambda sign: stage.clearance(
            path(observed.poses[0], perturb(deltas, error, gross, horizon=HORIZON, sign=sign))
        ),
    )


def _off(poses: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each pose is from the true one, in m + rad (F,)."""
    turn = (poses[:, 2] - true[:, 2] + math.pi) % (2 * math.pi) - math.pi
    return np.asarray(np.hypot(*(poses - true)[:, :2].T) + np.abs(turn))
