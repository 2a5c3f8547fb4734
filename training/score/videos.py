"""Frames out of video files of any kind and out of folders of pictures, up to where they can be read.

A video is decoded from its start, since it may be anybody's: no index is trusted. Damage ends it where it begins, and
is told. Knows no pair and no metric.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egowm_core.data.images import decode_compressed
from egowm_core.errors import DataError
from egowm_core.types import ImageArray

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".gif", ".mpg", ".mpeg", ".ts")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_BYTES = 4 << 30  # of the decoded frames of one video


@dataclass(frozen=True)
class Video:
    """The first ``images`` (T,H,W,3) uint8 RGB of a video that has ``length`` frames by its own account.

    ``rate_hz`` is None for pictures. ``damage`` says in words why it ends before ``length``; empty where it is whole.
    """

    path: Path
    images: ImageArray
    length: int
    rate_hz: float | None = None
    damage: str = ""


def read_video(path: Path, *, limit: int | None = None) -> Video:
    """The first ``limit`` frames (all, if None) of a video file, of a folder of pictures or of one picture.

    Raises:
        DataError: nothing can be read, sizes differ within it, or it takes more than ``MAX_BYTES``.
    """
    if path.is_dir():
        return _read_pictures(path, pictures_in(path), limit)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _read_pictures(path, [path], limit)
    return _read_file(path, limit)


def read_picture(path: Path) -> ImageArray:
    """A PNG or JPEG file as (H,W,3) uint8 RGB. Raises DataError."""
    try:
        return decode_compressed(path.read_bytes(), path.suffix)
    except OSError as error:
        raise DataError(f"picture {path} cannot be read: {error.strerror}; check the path") from error
    except DataError as error:
        raise DataError(f"picture {path}: {error}") from error


def pictures_in(directory: Path) -> list[Path]:
    """The pictures of a folder, in the order of the numbers in their names."""
    found = [path for path in directory.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _read_pictures(path: Path, files: list[Path], limit: int | None) -> Video:
    if not files:
        raise DataError(f"{path} holds no pictures ({', '.join(PICTURE_SUFFIXES)}) and no videos; check the path")
    frames: list[ImageArray] = []
    for file in files[:limit]:
        frame = read_picture(file)
        if frames and frame.shape != frames[0].shape:
            raise DataError(f"{file} is {_size(frame)}, the pictures before it {_size(frames[0])}; make them alike")
        _check_memory(path, frame, len(frames) + 1)
        frames.append(frame)
    return Video(path, np.stack(frames), len(files))


def _read_file(path: Path, limit: int | None) -> Video:
    import av

    if not path.is_file():
        raise DataError(f"{path} does not exist; give a video file, a folder of pictures or of videos, or a bag")
    frames: list[ImageArray] = []
    damage = ""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video stream; give a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = float(stream.average_rate) if stream.average_rate else None
            announced = int(stream.frames)
            damage = _decode(path, container, stream, frames, limit)
    except DataError:
        raise
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise DataError(f"video {path} cannot be read: {_line(error)}; restore it or make it again") from error
    if not frames:
        raise DataError(
            f"video {path} has no frame that can be decoded{f': {damage}' if damage else ''}; make it again"
        )
    complete = limit is not None and len(frames) >= limit
    length = max(len(frames), announced) or len(frames)
    if complete and not announced:
        length = max(length, _count(path))
    if not complete and not damage and len(frames) < announced:
        damage = f"only {len(frames)} of {announced} frames can be decoded"
    return Video(path, np.stack(frames), length, rate, damage)


def _decode(path: Path, container: Any, stream: Any, frames: list[ImageArray], limit: int | None) -> str:
    """Append frames until the limit, the end or the first damage; returns what is damaged, in words."""
    import av

    try:
        for picture in container.decode(stream):
            if picture.is_corrupt:
                return f"frame {len(frames)} is corrupt"
            image = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
            if frames and image.shape != frames[0].shape:
                raise DataError(
                    f"video {path} changes its size at frame {len(frames)} to {_size(image)}; encode it in one size"
                )
            _check_memory(path, image, len(frames) + 1)
            frames.append(image)
            if limit is not None and len(frames) >= limit:
                break
    except (av.FFmpegError, ValueError) as error:
        return f"decoding breaks off after {len(frames)} frames: {_line(error)}"
    return ""


def _count(path: Path) -> int:
    import av

    try:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)
    except (av.FFmpegError, OSError, ValueError):
        return 0


def _check_memory(path: Path, frame: ImageArray, count: int) -> None:
    if frame.nbytes * count > MAX_BYTES:
        raise DataError(
            f"{path} takes more than {MAX_BYTES >> 30} GiB when decoded ({count} frames of {_size(frame)});"
            " give shorter horizons or smaller frames"
        )


def _size(frame: ImageArray) -> str:
    return f"{frame.shape[0]}x{frame.shape[1]}"


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
