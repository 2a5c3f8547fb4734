"""An episode as a vector: alike for a copy, however re-encoded, brightened or resized, and unlike for anything else.

Five frames, each as the coarse structure of its brightness (low frequencies of a cosine transform, as perceptual hashes
use) and its colour layout (as in MPEG-7), and how the robot moved. No learnt weights, hence nothing to download; a
learnt encoder can be named, from a local directory. Knows no other episode.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ConfigError, DataError
from egowm_core.types import FloatArray, ImageArray

EMBEDDED_FRAMES = 5
_SIDE, _LOW = 32, 8  # the picture transformed, and the frequencies kept of it: 35 below the diagonal, without the mean
_LAYOUT = 3  # cells a side
_COLOUR_WEIGHT, _COLOUR_LEVELS = 0.3, 40.0  # of CIELAB's a and b: a strong colour is about 1
_MOTION_BINS, _MOTION_GROUPS, _MOTION_WEIGHT = 8, 8, 0.5
_FLAT = 2.0  # size of a structure (in lightness of 0..100 by pixels a side) below which there is none

_ROWS, _COLUMNS = np.mgrid[:_LOW, :_LOW]
_KEPT = (_ROWS + _COLUMNS > 0) & (_ROWS + _COLUMNS < _LOW)
_FREQUENCY = (_ROWS + _COLUMNS)[_KEPT].astype(np.float32)  # pictures have the less of it the higher: weigh it up

Encoder = Callable[[ImageArray], FloatArray]


def embed(frames: ImageArray, actions: FloatArray | None = None, *, encoder: Encoder | None = None) -> FloatArray:
    """Frames (N,H,W,3) uint8 of an episode, in order, to a vector (E,) float32 of length 1.

    ``actions`` (M,D) in scales of their channels, where given, tell episodes apart that look alike (an arm before a
    fixed camera). All vectors to be compared must be made alike. ``encoder`` takes the place of the classical features.

    Raises DataError without frames.
    """
    if frames.ndim != 4 or not len(frames):
        raise DataError(f"an embedding takes (N,H,W,3) frames with N at least 1, got {frames.shape}")
    chosen = frames[np.round(np.linspace(0, len(frames) - 1, EMBEDDED_FRAMES)).astype(np.int64)]
    seen = _unit(encoder(chosen)) if encoder is not None else _classical(chosen)
    return seen if actions is None else _unit(np.concatenate([seen, _MOTION_WEIGHT * _motion(actions)]))


def load_encoder(directory: str | Path) -> Encoder:
    """An image encoder of the transformers library (DINOv2, CLIP, ...) from a local directory, on the CPU.

    Nothing is downloaded. Raises ConfigError where the directory holds no such model or the library is not installed.
    """
    path = Path(directory)
    if not path.is_dir():
        raise ConfigError(f"encoder {path} is not a directory; give one that holds a transformers image model")
    try:
        import torch
        from transformers import AutoImageProcessor, AutoModel

        processor = AutoImageProcessor.from_pretrained(path, local_files_only=True)
        model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()
    except ImportError as error:
        raise ConfigError(
            f"encoder {path} needs the transformers library: {error}; pip install transformers"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"encoder {path} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    model = getattr(model, "vision_model", model)

    def encode(frames: ImageArray) -> FloatArray:
        with torch.no_grad():
            out = model(**processor(images=list(frames), return_tensors="pt"))
        pooled = getattr(out, "pooler_output", None)
        pooled = out.last_hidden_state.flatten(2).mean(-1) if pooled is None else pooled
        return np.asarray(pooled.float().numpy().reshape(-1), np.float32)

    return encode


def _classical(frames: ImageArray) -> FloatArray:
    structures, colours = zip(*(_features(frame) for frame in frames), strict=True)
    structure = _unit(np.concatenate(structures))
    return _unit(np.concatenate([structure, _COLOUR_WEIGHT * np.concatenate(colours)]))


def _features(frame: ImageArray) -> tuple[FloatArray, FloatArray]:
    """Structure (35,) of length 1 whatever the exposure, and colour layout (18,)."""
    small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    low = cv2.dct(np.ascontiguousarray(lab[..., 0]))[:_LOW, :_LOW][_KEPT] * _FREQUENCY
    layout = cv2.resize(lab[..., 1:], (_LAYOUT, _LAYOUT), interpolation=cv2.INTER_AREA).reshape(-1) / _COLOUR_LEVELS
    structure = low / max(float(np.linalg.norm(low)), _FLAT * _SIDE)
    return np.asarray(structure, np.float32), np.asarray(layout, np.float32)


def _motion(actions: FloatArray) -> FloatArray:
    """(64,) of length 1, whatever D: the course of the motion in 8 stretches, channels added up in 8 groups."""
    profile = np.zeros((_MOTION_BINS, _MOTION_GROUPS), np.float32)
    if len(actions):
        stretch = np.minimum(np.arange(len(actions)) * _MOTION_BINS // len(actions), _MOTION_BINS - 1)
        for channel in range(actions.shape[1]):
            np.add.at(profile[:, channel % _MOTION_GROUPS], stretch, actions[:, channel])
    return _unit(profile.reshape(-1))


def _unit(values: NDArray[np.generic]) -> FloatArray:
    vector = np.asarray(values, np.float32)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)
