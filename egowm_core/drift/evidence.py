"""Everything that one comparison has to say about whether all is well, as plain figures; it decides nothing.

Per tick of the observed video: how the picture moved, how it changed beyond that motion, how bright and how textured it
is, what of it stays fixed while the rest moves. Per comparison: the SCS and where the prediction disagrees. Expected
motion is not judged here: ``expectation`` learns it from the actions.

Knows pictures, predictions and actions; no baseline, no threshold and no cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.drift.comparison import Comparison
from egowm_core.drift.picture_motion import similarity_flow, similarity_motion
from egowm_core.metrics import psnr
from egowm_core.scs import DenseFlowTracker, propose_structures
from egowm_core.scs.score import check_pair, frame_scs, horizon_scs, masks_iou
from egowm_core.scs.tracking import BoolArray
from egowm_core.scs.trimming import masked, trimmed
from egowm_core.types import ActionSource, FloatArray, ImageArray, StampArray

LATEST = 3  # frames
BEST_PSNR_DB = 100.0  # identical frames have an infinite one
BLOCK = 8  # px
TEXTURED = 4.0  # gray levels: standard deviation of a block that is worth looking at
_BLACK = 4.0  # gray levels: black pixels have noise, but no gain
_LEAST_PIXELS = 32
_ECHO_CHANGE, _ECHO_SHARE = (
    4.0,
    0.5,
)  # gray levels of change to the last picture, and less than so much to an earlier one
_FIXED_PX = 0.4  # a block that moves less is fixed in the picture ...
_MOVING_PX = 1.6  # ... where the rest of the picture makes it move at least so much
_WORST_SHARE = 0.03  # of the blocks: about what a person's legs cover


@dataclass(frozen=True)
class Evidence:
    """Figures of one comparison over T ticks; the newest frame is the last of each row.

    ``frame_scs`` (T,): the score of each frame alone, NaN where no structure is judged. ``motion`` (T,4) px: of the
    observed picture from the tick before, NaN where it can't be told (``picture_motion``); ``predicted_motion`` (T,4):
    of the predicted one. ``change`` (T,): mean gray levels that a pixel changed. ``surprise`` (T,) 0..1: how much of
    the picture the frame before does not explain even after moving it (1 - correlation). ``gain`` (T,): natural
    logarithm of how much brighter the same things became. ``fixed`` (T,) 0..1: textured blocks that stay in place
    while the picture moves. ``brightness`` (T,) mean gray 0..255, ``texture`` (T,) 0..1 share of textured blocks.
    ``torn`` (T,): gray levels left in the worst 3 % of the blocks after moving the frame before along the flow and
    correcting its gain: things that move by themselves, faster than flow can follow, or come into view from nowhere.
    ``echo`` (T,) ticks: how long ago the very same picture was seen, where that is nearer than the last one; 0 else.
    """

    source: ActionSource
    context_stamp_ns: int
    stamps_ns: StampArray
    actions: FloatArray
    scs: dict[int, float]
    num_structures: dict[int, int]
    psnr: dict[int, float]
    frame_scs: FloatArray
    motion: FloatArray
    predicted_motion: FloatArray
    change: FloatArray
    surprise: FloatArray
    gain: FloatArray
    fixed: FloatArray
    brightness: FloatArray
    texture: FloatArray
    torn: FloatArray
    echo: FloatArray

    @property
    def latest_scs(self) -> float:
        """Mean score of the last three frames, the first to notice that something changed; NaN if none is judged."""
        latest = self.frame_scs[-LATEST:]
        known = latest[np.isfinite(latest)]
        return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class Judgement:
    """Evidence with the pictures behind it: the newest observed frame (H,W,3) and its masks (N,H,W)."""

    evidence: Evidence
    newest: ImageArray
    predicted_masks: BoolArray
    observed_masks: BoolArray


def drift_tracker() -> DenseFlowTracker:
    """The tracker of the monitor: light is left as it is, since what changes it has channels of its own."""
    return DenseFlowTracker(even_light=False)


def judge_comparison(
    comparison: Comparison, horizons: Sequence[int], *, max_structures: int, tracker: DenseFlowTracker
) -> Judgement:
    """Structures proposed on the context frame, followed through both videos, and all figures of both.

    Raises:
        ScoreError: the videos do not fit together.
    """
    check_pair(comparison.predicted, comparison.observed, comparison.context)
    observed = np.concatenate([comparison.context[None], comparison.observed])
    predicted = np.concatenate([comparison.context[None], comparison.predicted])
    structures = propose_structures(comparison.context, max_structures=max_structures)
    seen, foreseen = tracker.follow(observed), tracker.follow(predicted)
    predicted_masks, observed_masks = foreseen.carry(structures), seen.carry(structures)
    iou = masked(masks_iou(predicted_masks, observed_masks), trimmed(structures, predicted_masks, observed_masks))
    scs, num_structures = horizon_scs(iou, horizons)
    decibels = np.minimum(psnr(comparison.predicted, comparison.observed), BEST_PSNR_DB)
    count = len(decibels)
    gray = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in observed])
    motion, planned = (
        np.stack([similarity_motion(step, known) for step, known in zip(video.steps, video.step_seen, strict=True)])
        for video in (seen, foreseen)
    )
    deviations = np.stack([_deviation(image) for image in gray])
    moved = [_moved(gray[t], gray[t + 1], seen.steps[t], seen.step_seen[t]) for t in range(count)]
    evidence = Evidence(
        source=comparison.source,
        context_stamp_ns=comparison.context_stamp_ns,
        stamps_ns=comparison.stamps_ns,
        actions=comparison.actions,
        scs=scs,
        num_structures=num_structures,
        psnr={h: float(decibels[:h].mean()) if h <= count else float("nan") for h in horizons},
        frame_scs=frame_scs(iou),
        motion=motion,
        predicted_motion=planned,
        change=_row(float(np.mean(cv2.absdiff(gray[t], gray[t + 1]))) for t in range(count)),
        surprise=_row(figures[0] for figures in moved),
        gain=_row(figures[1] for figures in moved),
        fixed=_row(_fixed_share(seen.steps[t], planned[t], deviations[t + 1]) for t in range(count)),
        brightness=_row(float(np.mean(image)) for image in gray[1:]),
        texture=_row(float(np.mean((deviation > TEXTURED).astype(np.float32))) for deviation in deviations[1:]),
        torn=_row(figures[2] for figures in moved),
        echo=_row(_echo(gray[: t + 2]) for t in range(count)),
    )
    return Judgement(evidence, comparison.observed[-1], predicted_masks[:, -1], observed_masks[:, -1])


def _row(values: Iterable[float]) -> FloatArray:
    return np.asarray(list(values), np.float32)


def _moved(
    before: NDArray[np.uint8], after: NDArray[np.uint8], flow: FloatArray, seen: BoolArray
) -> tuple[float, float, float]:
    """``surprise``, ``gain`` and ``torn`` of one tick, from gray pictures (H,W) and the flow between them."""
    height, width = after.shape
    x = np.arange(width, dtype=np.float32)[None, :] - flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] - flow[..., 1]
    there = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    now = after.astype(np.float32)
    known = seen if np.count_nonzero(seen) > _LEAST_PIXELS else np.ones_like(seen)
    a, b = there[known], now[known]
    spread = float(a.std() * b.std())
    correlation = float(np.mean((a - a.mean()) * (b - b.mean()))) / spread if spread > 1.0 else 1.0
    gain = float(np.median(np.log((b + _BLACK) / (a + _BLACK))))
    left = np.where(known, np.abs(now - np.clip((there + _BLACK) * np.exp(gain) - _BLACK, 0, 255)), 0.0)
    worst: NDArray[np.float64] = np.sort(_blocks(left).mean(axis=(1, 3)), axis=None).astype(np.float64)
    return 1.0 - correlation, gain, float(worst[-max(1, round(_WORST_SHARE * len(worst))) :].mean())


def _echo(gray: NDArray[np.uint8]) -> float:
    """Ticks since the picture that the last of ``gray`` (n,H,W) repeats, if that is far nearer than the one before."""
    coarse = [cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in gray]
    apart = [float(np.mean(cv2.absdiff(image, coarse[-1]))) for image in coarse[:-1]]
    if len(apart) < 2 or apart[-1] < _ECHO_CHANGE:
        return 0.0
    best = int(np.argmin(apart))
    return float(len(apart) - best) if apart[best] < _ECHO_SHARE * apart[-1] else 0.0


def _fixed_share(flow: FloatArray, foretold: FloatArray, deviation: FloatArray) -> float:
    """Share of the textured blocks that ought to move as ``foretold`` (4,) which stand still in the picture."""
    if not np.all(np.isfinite(foretold)):
        return 0.0
    height, width = flow.shape[:2]
    centre = slice(BLOCK // 2, None, BLOCK)
    rows, columns = deviation.shape
    real = np.linalg.norm(flow[centre, centre][:rows, :columns], axis=-1)
    ought = np.linalg.norm(similarity_flow(foretold, height, width)[centre, centre][:rows, :columns], axis=-1)
    asked = (ought > _MOVING_PX) & (deviation > TEXTURED)
    textured = int(np.count_nonzero(deviation > TEXTURED))
    return float(np.count_nonzero(asked & (real < _FIXED_PX))) / max(1, textured)


def _deviation(gray: NDArray[np.uint8]) -> FloatArray:
    """Standard deviation of each whole block (h,w)."""
    return np.asarray(_blocks(gray.astype(np.float32)).std(axis=(1, 3)), np.float32)


def _blocks(picture: FloatArray) -> FloatArray:
    """(H,W) as whole blocks (h,BLOCK,w,BLOCK)."""
    rows, columns = picture.shape[0] // BLOCK, picture.shape[1] // BLOCK
    return picture[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
