"""Clips as pairs of mp4 files, so that other people's evaluators can read them: same frames, rate and size.

``0001_observed.mp4`` and ``0001_predicted_ROW.mp4`` for clip 1; the context frame is the first of each. Lossless (H.264
in RGB, which every reader built on FFmpeg decodes; some browsers do not): what is measured on them is exactly what was
measured here. 16 to 21 kB for a frame of 96x128. Knows no score.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from training.dataset.video import VideoCodec, VideoWriter
from training.score.clip import Clip

FALLBACK_HZ = 4.0  # where nobody says
_CODEC = VideoCodec("lossless", gop=16)
_KEPT = re.compile(r"[^A-Za-z0-9.-]+")


def save_clip(folder: Path, number: int, clip: Clip) -> dict[str, str]:
    """Write a clip's videos; returns their names by what they show: "observed", and each row.

    Raises:
        DataError: a file cannot be written.
        ConfigError: no encoder takes frames of that size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = clip.context.shape[:2]
    names: dict[str, str] = {}
    for row, frames in {"observed": clip.observed, **clip.predicted}.items():
        plain = _KEPT.sub("_", row).strip("._") or "row"
        names[row] = f"{number:04d}_observed.mp4" if row == "observed" else f"{number:04d}_predicted_{plain}.mp4"
        rate = clip.rate_hz or FALLBACK_HZ
        with VideoWriter(folder / names[row], rate_hz=rate, height=height, width=width, codec=_CODEC) as writer:
            for frame in (clip.context, *frames):
                writer.add(frame)
    return names


def address(*parts: str) -> str:
    """A relative address of a file, quoted for a page."""
    return quote("/".join(parts))
