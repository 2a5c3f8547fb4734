"""Windows of frames out of mp4 files, exactly the frames asked for, decoding no more than from the keyframe before.

Opened videos are kept for the next window, a few per thread and process: a forked worker opens its own, a file written
anew is opened anew. Reads what ``training.dataset.video`` writes; knows no episode.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from egowm_core.errors import DataError
from egowm_core.types import ImageArray

_KEPT_OPEN = 16  # videos a thread
_READ_ON = 8  # frames that are rather decoded in passing than sought over
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT


def read_frames(path: Path, start: int, stop: int) -> ImageArray:
    """Frames start..stop of a video as (n,H,W,3) uint8 RGB.

    Raises:
        DataError: the file cannot be read or decoded, or has fewer frames.
    """
    key = str(path)
    videos = _opened()
    try:
        status = path.stat()
        identity = (status.st_ino, status.st_size, status.st_mtime_ns)
        video = videos.get(key)
        if video is not None and video.identity != identity:
            videos.pop(key).close()
            video = None
        if video is None:
            video = videos[key] = _Video(path, identity)
        videos.move_to_end(key)
        frames = video.read(start, stop)
    except BaseException as error:
        if key in videos:  # in an unknown state now
            videos.pop(key).close()
        if isinstance(error, (av.FFmpegError, OSError)):
            raise DataError(f"cannot read frames {start}..{stop} of {path}: {error}; convert again") from error
        raise
    while len(videos) > _KEPT_OPEN:
        videos.popitem(last=False)[1].close()
    return frames


def count_frames(path: Path) -> int:
    """Frames of a video, counted by its packets. Raises DataError."""
    try:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.dts is not None)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"cannot read {path}: {error}; convert the recordings again") from error


def close_videos() -> None:
    """Close what this thread has kept open."""
    videos = _opened()
    while videos:
        videos.popitem()[1].close()


def ticks_per_frame(stream: Any, path: Path) -> int:
    """The distance of two frames in the stream's time base. Raises DataError where it is not the same for all."""
    frames, duration = stream.frames, stream.duration
    if not frames or not duration or duration % frames or stream.start_time not in (0, None):
        raise DataError(f"{path} does not have frames at equal distances from 0 on; convert the recordings again")
    return int(duration // frames)


class _Video:
    """An open video and where its decoder stands."""

    def __init__(self, path: Path, identity: tuple[int, int, int]) -> None:
        self.path, self.identity = path, identity
        self._container = av.open(str(path))
        try:
            if not self._container.streams.video:
                raise DataError(f"{path} has no video stream; convert the recordings again")
            self._stream = self._container.streams.video[0]
            self._stream.codec_context.thread_count = 1  # nothing for a fork to leave half alive
            self._ticks = ticks_per_frame(self._stream, path)
        except BaseException:
            self.close()
            raise
        self._decoded: Iterator[Any] = iter(())
        self._next: int | None = None  # the frame that the decoder gives next

    def read(self, start: int, stop: int) -> ImageArray:
        if not 0 <= start <= stop <= self._stream.frames:
            raise DataError(f"{self.path} has {self._stream.frames} frames, {start}..{stop} were asked for")
        context = self._stream.codec_context
        frames = np.empty((stop - start, context.height, context.width, 3), np.uint8)
        if start == stop:
            return frames
        if self._next is None or not self._next <= start <= self._next + _READ_ON:
            self._container.seek(start * self._ticks, stream=self._stream, backward=True, any_frame=False)
            self._decoded, self._next = self._container.decode(self._stream), None
        for number in range(start, stop):
            frames[number - start] = self._frame(number).to_ndarray(format="rgb24", interpolation=_SCALING, threads=1)
        return frames

    def _frame(self, number: int) -> Any:
        for frame in self._decoded:
            at = Fraction(frame.pts, self._ticks) if frame.pts is not None else None
            if at is None or at.denominator != 1 or (self._next is not None and at != self._next):
                raise DataError(f"{self.path}: frame at {at}, expected {self._next}; convert the recordings again")
            if at > number:
                break
            self._next = int(at) + 1
            if at == number:
                if frame.is_corrupt:
                    break
                return frame
        raise DataError(f"{self.path}: frame {number} cannot be decoded; convert the recordings again")

    def close(self) -> None:
        self._decoded = iter(())
        self._container.close()


_local = threading.local()


def _opened() -> OrderedDict[str, _Video]:
    """The videos that this thread of this process has open; what a fork left us is only forgotten."""
    if getattr(_local, "pid", None) != os.getpid():
        _local.pid, _local.videos = os.getpid(), OrderedDict()
    videos: OrderedDict[str, _Video] = _local.videos
    return videos
