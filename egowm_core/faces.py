"""Faces blurred before a picture is stored or shown. On request only, and no promise: detectors miss faces.

Two detectors: the boosted cascade of local binary patterns that scikit-image ships (frontal faces, no download), and
OpenCV's FaceDetectorYN with a model file that you name (YuNet; better, turned and small faces, too). Knows pictures;
no episode and no node.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ConfigError
from egowm_core.types import ImageArray

BUILTIN = "builtin"
_MARGIN = 0.25  # of a box's size, added on each side: hair and chin
_LEAST_FACE_PIXELS = 20
_DETECTED_SIDE = 480  # the cascade looks at pictures no larger: its time goes with their area
_YUNET_SCORE, _YUNET_OVERLAP, _YUNET_MOST = 0.6, 0.3, 500
_MOSAIC = 4  # cells a side that are left of a face

Boxes = NDArray[np.int64]  # (n,4) left, top, width, height
_Detector = Callable[[ImageArray], Boxes]


class FaceBlur:
    """Callable: (H,W,3) uint8 RGB to the picture with its faces made unrecognisable, and how many were found."""

    def __init__(self, detector: str = BUILTIN) -> None:
        """``detector``: ``builtin``, or the path of a YuNet ONNX file.

        Raises ConfigError, with the remedy, where it is absent or cannot be loaded.
        """
        self._detect = _cascade() if detector == BUILTIN else _yunet(Path(detector))

    def __call__(self, image: ImageArray) -> tuple[ImageArray, int]:
        boxes = self._detect(image)
        return (blur_boxes(image, boxes) if len(boxes) else image), len(boxes)


def blur_boxes(image: ImageArray, boxes: Boxes) -> ImageArray:
    """The picture with an ellipse around each box (left, top, width, height) reduced to a few flat cells."""
    out = np.array(image, order="C")
    height, width = image.shape[:2]
    for left, top, wide, high in boxes.tolist():
        x0, x1 = max(0, round(left - _MARGIN * wide)), min(width, round(left + (1 + _MARGIN) * wide))
        y0, y1 = max(0, round(top - _MARGIN * high)), min(height, round(top + (1 + _MARGIN) * high))
        if x1 <= x0 or y1 <= y0:
            continue
        patch = out[y0:y1, x0:x1]
        coarse = cv2.resize(patch, (min(_MOSAIC, x1 - x0), min(_MOSAIC, y1 - y0)), interpolation=cv2.INTER_AREA)
        flat = cv2.resize(coarse, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        mask = np.zeros(patch.shape[:2], np.uint8)
        centre, axes = ((x1 - x0) // 2, (y1 - y0) // 2), ((x1 - x0 + 1) // 2, (y1 - y0 + 1) // 2)
        cv2.ellipse(mask, centre, axes, 0.0, 0.0, 360.0, 1, thickness=-1)
        patch[mask == 1] = flat[mask == 1]
    return out


def _cascade() -> _Detector:
    try:
        from skimage import data, feature

        cascade = feature.Cascade(data.lbp_frontal_face_cascade_filename())
    except Exception as error:  # a broken or incomplete installation raises anything
        raise ConfigError(
            f"the built-in face detector cannot be loaded: {error}; reinstall scikit-image, or name a YuNet .onnx file"
        ) from error

    def detect(image: ImageArray) -> Boxes:
        scale = min(1.0, _DETECTED_SIDE / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        most = min(small.shape[:2])
        if most <= _LEAST_FACE_PIXELS:
            return np.zeros((0, 4), np.int64)
        found = cascade.detect_multi_scale(
            small, 1.2, 1, (_LEAST_FACE_PIXELS, _LEAST_FACE_PIXELS), (most, most), min_neighbor_number=4
        )
        boxes = [[item[key] / scale for key in ("c", "r", "width", "height")] for item in found]
        return np.round(np.array(boxes, np.float64).reshape(-1, 4)).astype(np.int64)

    return detect


def _yunet(path: Path) -> _Detector:
    remedy = "download YuNet from OpenCV's model zoo and name the .onnx file, or use `builtin`"
    if not path.is_file():
        raise ConfigError(f"face detector {path} is no file; {remedy}")
    if not hasattr(cv2, "FaceDetectorYN"):
        raise ConfigError(f"OpenCV {cv2.__version__} has no FaceDetectorYN; use `builtin`, or another OpenCV")
    try:
        network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), _YUNET_SCORE, _YUNET_OVERLAP, _YUNET_MOST)
    except cv2.error as error:
        text = " ".join(str(error).split())[:200]
        raise ConfigError(f"face detector {path} cannot be loaded: {text}; {remedy}") from error

    def detect(image: ImageArray) -> Boxes:
        network.setInputSize((image.shape[1], image.shape[0]))
        _, faces = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 4)) if faces is None else np.asarray(faces)[:, :4]
        return np.round(rows).astype(np.int64)

    return detect
