"""Strips of clips with the masks that were compared: observed above predicted. Knows no score and no page."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from egowm_core.scs import draw_overlay
from egowm_core.types import ImageArray
from training.dataset.files import beside
from training.score.clip import BoolArray, Clip

_COLUMNS = 7
_WIDTH = 160  # px, about, of a picture in a strip


def save_strip(
    path: Path, clip: Clip, row: str, structures: BoolArray, predicted: BoolArray, observed: BoolArray
) -> None:
    """Three rows of pictures, the context first: observed with its masks red, predicted with its masks blue, both on
    the observed frames. ``predicted`` and ``observed`` are (N,T,H,W), ``structures`` (N,H,W).
    """
    none = np.zeros((0, *clip.context.shape[:2]), np.bool_)
    count = len(clip.observed)
    chosen = np.unique(np.linspace(0, count - 1, min(_COLUMNS - 1, count)).round().astype(int)).tolist()
    factor = max(1, round(_WIDTH / clip.context.shape[1]))
    labels = ["context", *(f"frame {t + 1}" for t in chosen)]
    lines = []
    for name, frames, shows_predicted, shows_observed in (
        ("observed", clip.observed, False, True),
        (row, clip.predicted[row], True, False),
        ("both masks", clip.observed, True, True),
    ):
        pictures = [draw_overlay(clip.context, none, structures, factor=factor)]
        for t in chosen:
            masks = predicted[:, t] if shows_predicted else none, observed[:, t] if shows_observed else none
            pictures.append(draw_overlay(frames[t], *masks, factor=factor))
        small = [_shrunk(picture) for picture in pictures]
        line = np.concatenate([np.pad(picture, ((1, 1), (1, 1), (0, 0))) for picture in small], axis=1)
        lines.append(_labelled(line, name))
    sheet = np.concatenate(lines, axis=0)
    width = sheet.shape[1] // len(labels)
    for column, text in enumerate(labels):
        _write(sheet, text, (column * width + 4, 12))
    with beside(path) as partial:
        partial.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())


def _shrunk(picture: ImageArray) -> ImageArray:
    height, width = picture.shape[:2]
    if width <= 2 * _WIDTH:
        return picture
    size = (2 * _WIDTH, max(1, round(height * 2 * _WIDTH / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _labelled(line: ImageArray, text: str) -> ImageArray:
    line = np.ascontiguousarray(line)
    _write(line, text, (4, line.shape[0] - 6))
    return line


def _write(picture: ImageArray, text: str, at: tuple[int, int]) -> None:
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, width, cv2.LINE_AA)
