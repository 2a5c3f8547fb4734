"""SAM 2 on one picture: masks at clicked points, and structures proposed all over it.

The same directory as the tracker's serves (the video checkpoint holds the picture model). Knows nothing of video.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.scs.sam2 import at_size, check_clicks, load_model, normalisation, prepare, square_of, to_square
from egowm_core.scs.structures import MAX_BORDER, border_share
from egowm_core.types import FloatArray, ImageArray

BoolArray = NDArray[np.bool_]

_BATCH = 32  # prompts at once: bounds the memory of full-size masks


class Sam2Pictures:
    """SAM 2's picture model of a local directory.

    Raises:
        ScoreError: as ``Sam2Tracker``.
    """

    def __init__(self, model_dir: Path | str, *, device: str = "cpu") -> None:
        self.device = device
        self._model = load_model("Sam2Model", Path(model_dir), device)
        self._size = square_of(self._model)
        self._mean, self._std = normalisation(Path(model_dir))

    def segment(self, image: ImageArray, points: Sequence[FloatArray]) -> BoolArray:
        """The best mask (N,H,W) for each array of clicked points (P,2) x, y on an image (H,W,3) uint8.

        Raises:
            ScoreError: not such an image, or a structure without a point or with one outside.
        """
        masks, merits, _ = self.candidates(image, points)
        best = merits.argmax(axis=1) if len(points) else np.zeros(0, np.intp)
        return np.asarray(masks[np.arange(len(points)), best])

    def candidates(
        self, image: ImageArray, points: Sequence[FloatArray], *, offset: float = 1.0
    ) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Masks (N,K,H,W), the model's own estimate of their IoU and their stability (N,K), both about 0..1.

        Stability is the area at logit ``offset`` over the area at its negative.

        Raises:
            ScoreError: as ``segment``.
        """
        import torch

        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise ScoreError(f"an image is (H,W,3) uint8, got {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        check_clicks(points, height, width)
        found: list[tuple[BoolArray, FloatArray, FloatArray]] = []
        with torch.inference_mode():
            pixels = prepare(image, self._size, self._mean, self._std).to(self.device)
            embeddings = self._model.get_image_embeddings(pixels)
            for start in range(0, len(points), _BATCH):
                batch = points[start : start + _BATCH]
                coordinates, labels = self._prompts(batch, height, width)
                answer = self._model(image_embeddings=embeddings, input_points=coordinates, input_labels=labels)
                logits = at_size(answer.pred_masks[0], height, width)
                area = (logits > offset).sum(dim=(-2, -1)).float()
                stability = area / (logits > -offset).sum(dim=(-2, -1)).clamp(min=1)
                merits = answer.iou_scores[0].float()
                found.append(((logits > 0).cpu().numpy(), merits.cpu().numpy(), stability.cpu().numpy()))
        if not found:
            return np.zeros((0, 1, height, width), np.bool_), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
        masks, merits, stabilities = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return masks, merits, stabilities

    def _prompts(self, points: Sequence[FloatArray], height: int, width: int) -> tuple[Any, Any]:
        """Coordinates (1,N,P,2) and labels (1,N,P); -10 marks padding, which the model passes over."""
        import torch

        most = max(len(given) for given in points)
        coordinates = torch.zeros(1, len(points), most, 2)
        labels = torch.full((1, len(points), most), -10, dtype=torch.int32)
        for n, given in enumerate(points):
            coordinates[0, n, : len(given)] = to_square(given, height, width, self._size)
            labels[0, n, : len(given)] = 1
        return coordinates.to(self.device), labels.to(self.device)


def sam2_proposals(
    image: ImageArray,
    model: Sam2Pictures,
    *,
    max_structures: int = 8,
    points_per_side: int = 16,
    min_area: float = 0.012,
    max_area: float = 0.25,
    max_border: float = MAX_BORDER,
    min_iou: float = 0.8,
    min_stability: float = 0.9,
    max_overlap: float = 0.5,
) -> BoolArray:
    """Propose up to ``max_structures`` disjoint structures (N,H,W) of an image (H,W,3) uint8, best first.

    One prompt per point of a grid; masks that the model holds good (``min_iou``, its own estimate) and that change
    little with the threshold (``min_stability``) are kept, the better of two that share more than ``max_overlap`` of
    the smaller one; what remains is made disjoint, the better first.

    Raises:
        ScoreError: not such an image, or no point a side.
    """
    if points_per_side < 1:
        raise ScoreError(f"points_per_side is at least 1, got {points_per_side}")
    height, width = image.shape[:2]
    ticks = (np.arange(points_per_side) + 0.5) / points_per_side
    grid = [np.asarray([[x * width - 0.5, y * height - 0.5]], np.float32) for y in ticks for x in ticks]
    masks, merits, stabilities = model.candidates(image, grid)
    good = (merits >= min_iou) & (stabilities >= min_stability)
    candidates, merit = masks[good], (merits * stabilities)[good]
    chosen: list[BoolArray] = []
    taken = np.zeros((height, width), np.bool_)
    for index in np.argsort(-merit, kind="stable"):
        mask = candidates[index]
        if len(chosen) == max_structures:
            break
        if not min_area <= mask.mean() <= max_area or border_share(mask) > max_border:
            continue
        if any(_overlap(mask, other) > max_overlap for other in chosen):
            continue
        rest = mask & ~taken
        if rest.mean() >= min_area:
            chosen.append(rest)
            taken |= rest
    return np.stack(chosen) if chosen else np.zeros((0, height, width), np.bool_)


def _overlap(one: BoolArray, other: BoolArray) -> float:
    """The common part over the smaller mask."""
    smaller = min(int(np.count_nonzero(one)), int(np.count_nonzero(other)))
    return float(np.count_nonzero(one & other)) / max(smaller, 1)
