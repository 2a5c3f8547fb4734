"""Structures that somebody marked on the context frame: a small JSON file, and the masks that it means.

    {"format": "egowm-structures", "version": 1, "height": 240, "width": 320, "structures": [
        {"name": "door", "points": [[40, 60], [52, 90]]},
        {"name": "box", "polygon": [[10, 20], [60, 20], [60, 70]]},
        {"name": "chair", "mask": "chair.png"}]}

Coordinates are x (right) and y (down) in pixels of a frame of that height and width; the middle of the first pixel is
(0, 0). A point stands for the region of like colour under it (or what a segmenter makes of it), a mask file is relative
to the JSON and white where the structure is. A label picture (PNG, one integer a structure, 0 none) does as well. Knows
no tracking and no score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.files import read_json, write_text
from egowm_core.types import ImageArray
from training.score.clip import BoolArray

FORMAT, VERSION = "egowm-structures", 1
MAX_STRUCTURES = 256
_MAX_POINTS, _MAX_SIDE = 10_000, 8192
_KINDS = ("points", "polygon", "mask")
_MAX_REGION = 0.25  # of the picture: a region larger than that is a wall or a floor, and a disc is taken instead
_DISC = 0.03  # radius, of the picture's shorter side
_SCALE, _SIGMA = 60.0, 0.5  # of Felzenszwalb's regions; more smoothing eats their rims
_WORKING_HEIGHT = 240  # px, at which regions are made

PointArray = NDArray[np.float32]
Segmenter = Callable[[ImageArray, PointArray], BoolArray]
"""An image (H,W,3) and points (P,2) xy on one structure to its mask (H,W)."""


@dataclass(frozen=True)
class Marked:
    """One structure: exactly one of ``points`` (P,2), ``polygon`` (P,2) and ``mask`` (a path) is set."""

    name: str
    points: PointArray | None = None
    polygon: PointArray | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Annotation:
    """Structures marked on a frame of ``height`` x ``width`` pixels."""

    height: int
    width: int
    structures: tuple[Marked, ...]


def read_annotation(path: Path) -> Annotation:
    """An annotation file.

    Raises:
        DataError: it cannot be read or is no JSON.
        ScoreError: something in it is not as it should be, named.
    """
    data = read_json(path, max_bytes=8 << 20)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ScoreError(
            f'{path} is not an annotation: it should have "format": "{FORMAT}"; make one with egowm-annotate'
        )
    if data.get("version") != VERSION:
        raise ScoreError(f"{path} has version {data.get('version')!r}, this reads {VERSION}; update egowm")
    height, width = (_whole(data.get(name), f"{path}: {name}", _MAX_SIDE) for name in ("height", "width"))
    listed = data.get("structures")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_STRUCTURES:
        raise ScoreError(f"{path}: structures should be a list of 1 to {MAX_STRUCTURES}; mark one at least")
    found = tuple(_structure(item, i, path, height, width) for i, item in enumerate(listed))
    names = [item.name for item in found]
    for name in names:
        if names.count(name) > 1:
            raise ScoreError(f"{path}: two structures are called {name!r}; give each its own name")
    return Annotation(height, width, found)


def write_annotation(path: Path, annotation: Annotation) -> None:
    """Write an annotation file whole or not at all; masks stay the files they are, named relative to it.

    Raises:
        ScoreError: a mask lies outside the file's folder.
    """
    items: list[dict[str, Any]] = []
    for marked in annotation.structures:
        item: dict[str, Any] = {"name": marked.name}
        for kind, points in (("points", marked.points), ("polygon", marked.polygon)):
            if points is not None:
                item[kind] = [[round(float(x), 2), round(float(y), 2)] for x, y in points]
        if marked.mask is not None:
            if not marked.mask.is_relative_to(path.parent):
                raise ScoreError(f"mask {marked.mask} must lie beside {path}; move it there")
            item["mask"] = marked.mask.relative_to(path.parent).as_posix()
        items.append(item)
    data = {"format": FORMAT, "version": VERSION, "height": annotation.height, "width": annotation.width}
    write_text(path, json.dumps({**data, "structures": items}, indent=1))


def annotation_masks(
    annotation: Annotation, image: ImageArray, *, segmenter: Segmenter | None = None
) -> tuple[BoolArray, tuple[str, ...]]:
    """Masks (N,H,W) bool and names of the structures on ``image`` (H,W,3); coordinates scale with its size.

    Points are handed to ``segmenter``; without one they stand for the regions of like colour under them.

    Raises:
        ScoreError: the image has another aspect than the annotated frame, or a structure is empty on it.
    """
    height, width = image.shape[:2]
    if abs((width / height) / (annotation.width / annotation.height) - 1) > 0.02:
        raise ScoreError(
            f"the annotation is of a {annotation.height}x{annotation.width} frame, the video has {height}x{width}:"
            " another aspect; annotate a frame of this video"
        )
    scale = np.array([width / annotation.width, height / annotation.height], np.float32)
    masks = np.zeros((len(annotation.structures), height, width), np.bool_)
    regions = _Regions(image)
    for mask, marked in zip(masks, annotation.structures, strict=True):
        if marked.mask is not None:
            mask[:] = read_mask(marked.mask, height, width)
        elif marked.polygon is not None:
            corners = ((marked.polygon + 0.5) * scale - 0.5).round().astype(np.int32)
            mask[:] = cv2.fillPoly(np.zeros((height, width), np.uint8), [corners], 1) > 0
        else:
            assert marked.points is not None
            points = np.asarray((marked.points + 0.5) * scale - 0.5, np.float32)
            mask[:] = segmenter(image, points) if segmenter else regions.under(points)
        if not mask.any():
            raise ScoreError(f"structure {marked.name!r} is empty on this frame; mark it again")
    return masks, tuple(marked.name for marked in annotation.structures)


def read_label_picture(path: Path, height: int, width: int) -> tuple[BoolArray, tuple[str, ...]]:
    """Masks (N,H,W) and names of a label picture: each value above 0 is a structure.

    Raises:
        ScoreError: it cannot be read, is a colour picture, has another aspect, or marks nothing.
    """
    labels = _read_gray(path)
    if abs((labels.shape[1] / labels.shape[0]) / (width / height) - 1) > 0.02:
        raise ScoreError(f"{path} is {labels.shape[0]}x{labels.shape[1]}, the video {height}x{width}: another aspect")
    labels = np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    ids = [int(value) for value in np.unique(labels) if value > 0]
    if not 1 <= len(ids) <= MAX_STRUCTURES:
        raise ScoreError(
            f"{path} marks {len(ids)} structures, expected 1 to {MAX_STRUCTURES}: each value above 0 is one"
        )
    return np.stack([labels == value for value in ids]), tuple(str(value) for value in ids)


def read_mask(path: Path, height: int, width: int) -> BoolArray:
    """A mask picture (H,W) bool, white where the thing is, resized to the frame. Raises ScoreError."""
    mask = _read_gray(path)
    if abs((mask.shape[1] / mask.shape[0]) / (width / height) - 1) > 0.02:
        raise ScoreError(f"mask {path} is {mask.shape[0]}x{mask.shape[1]}, the frame {height}x{width}: another aspect")
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)) > 0


class _Regions:
    """The regions of like colour of a picture, made when they are first asked for."""

    def __init__(self, image: ImageArray) -> None:
        self._image = image
        self._labels: NDArray[np.integer] | None = None

    def under(self, points: PointArray) -> BoolArray:
        """The union of the regions under points (P,2) xy; a disc in place of a region that is too large or small."""
        height, width = self._image.shape[:2]
        radius = max(2.0, _DISC * min(height, width))
        if self._labels is None:
            self._labels = self._segment(radius)
        mask = np.zeros((height, width), np.bool_)
        rows, columns = np.mgrid[:height, :width]
        for x, y in points:
            column, row = (min(max(round(float(v)), 0), most - 1) for v, most in ((x, width), (y, height)))
            region = self._labels == self._labels[row, column]
            if np.count_nonzero(region) > _MAX_REGION * region.size:
                region = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
            mask |= region
        return mask

    def _segment(self, radius: float) -> NDArray[np.integer]:
        from skimage.segmentation import felzenszwalb

        height, width = self._image.shape[:2]
        factor = min(1.0, _WORKING_HEIGHT / height)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = self._image if factor == 1 else cv2.resize(self._image, size, interpolation=cv2.INTER_AREA)
        # half as many pixels as a disc: what is smaller cannot be followed
        least = max(4, int(math.pi * (radius * factor) ** 2 / 2))
        labels = np.asarray(felzenszwalb(small, scale=_SCALE, sigma=_SIGMA, min_size=least), np.int32)
        return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _structure(item: Any, number: int, path: Path, height: int, width: int) -> Marked:
    where = f"{path}: structure {number + 1}"
    if not isinstance(item, Mapping):
        raise ScoreError(f"{where} should be a mapping with a name and one of {', '.join(_KINDS)}")
    name = item.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > 200:
        raise ScoreError(f"{where}: name is {name!r}; give it one")
    given = [kind for kind in _KINDS if kind in item]
    unknown = sorted(set(item) - {"name", *_KINDS})
    if len(given) != 1 or unknown:
        has = ", ".join([*given, *unknown]) or "nothing"
        raise ScoreError(f"{where} ({name!r}) should have exactly one of {', '.join(_KINDS)}, it has {has}")
    if given[0] == "mask":
        relative = item["mask"]
        if not isinstance(relative, str) or Path(relative).is_absolute() or ".." in Path(relative).parts:
            raise ScoreError(f"{where} ({name!r}): mask {relative!r} should be a file beside the annotation")
        return Marked(name, mask=path.parent / relative)
    points = _points(item[given[0]], f"{where} ({name!r}): {given[0]}", height, width)
    if given[0] == "points":
        return Marked(name, points=points)
    if len(points) < 3:
        raise ScoreError(f"{where} ({name!r}): a polygon has at least 3 corners, got {len(points)}; draw more")
    return Marked(name, polygon=points)


def _points(value: Any, where: str, height: int, width: int) -> PointArray:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_POINTS:
        raise ScoreError(f"{where} should be a list of 1 to {_MAX_POINTS} points [x, y]")
    for point in value:
        sound = isinstance(point, list) and len(point) == 2 and all(_is_number(v) for v in point)
        if not sound or not (-0.5 <= point[0] <= width - 0.5 and -0.5 <= point[1] <= height - 0.5):
            raise ScoreError(f"{where}: {point!r} is not a point [x, y] inside the {height}x{width} frame")
    return np.asarray(value, np.float32)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any, where: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ScoreError(f"{where} is {value!r}; expected a whole number of pixels, 1 to {most}")
    return value


def _read_gray(path: Path) -> NDArray[np.integer]:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise ScoreError(f"mask {path} cannot be read: {error.strerror}; check the path") from error
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None:
        raise ScoreError(f"mask {path} is not a picture; save it as PNG")
    if picture.ndim == 3:
        colours = picture[..., :3]
        if (colours != colours[..., :1]).any():
            raise ScoreError(f"mask {path} is a colour picture; save it as gray PNG, one value a structure")
        picture = colours[..., 0]
    if max(picture.shape) > _MAX_SIDE or not np.issubdtype(picture.dtype, np.integer):
        raise ScoreError(f"mask {path} is {picture.shape} {picture.dtype}; expected integers up to {_MAX_SIDE} a side")
    return np.asarray(picture)
