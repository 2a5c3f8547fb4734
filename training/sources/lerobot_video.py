"""The pictures of one episode out of a video file, in step with its rows: decoded one by one, converted on demand.

Matches frames to rows by their times in the file, so that a frame too many, too few or out of place is told rather than
shown at the wrong time. Knows no row but its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from egowm_core.data.images import MAX_SIDE
from egowm_core.data.values import ImageValue
from egowm_core.errors import DataError
from egowm_core.types import ImageArray
from training.sources.lerobot_files import unreadable
from training.sources.lerobot_meta import Piece

_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
_RESTORE = "restore it from where the dataset came from, or leave the episode out"


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as the decoder gave it; ``format`` is the codec's name, ``place`` says in words where it is from."""

    frame: Any
    format: str
    place: str


@dataclass(frozen=True)
class VideoFrame(ImageValue):
    """A frame of a video: ``decode`` converts it to RGB. The few that are held at a time are small, as decoded."""

    message: DecodedFrame

    def decode(self) -> ImageArray:
        """(H,W,3) uint8 RGB. Raises DataError where the video is damaged."""
        frame = self.message.frame
        if frame.is_corrupt:
            raise DataError(f"{self.message.place} is damaged; {_RESTORE}")
        try:
            return np.asarray(frame.to_ndarray(format="rgb24", interpolation=_SCALING, threads=1), np.uint8)
        except (av.FFmpegError, ValueError) as error:
            raise DataError(f"{self.message.place} cannot be converted to RGB: {error}; {_RESTORE}") from error

    def labels(self) -> NDArray[np.uint16]:
        """Raises DataError: videos hold no labels."""
        raise DataError(f"{self.message.place} is a picture and holds no labels; choose another topic")


def read_pictures(piece: Piece, times_s: NDArray[np.float64], period_s: float) -> Iterator[VideoFrame]:
    """The frame of each row, in order; ``times_s`` (T,) count from the start of the piece.

    A frame belongs to a row when their times differ by less than half a period. Raises DataError when the file cannot
    be read, or its frames are not those of the rows.
    """
    try:
        # the format is given, so that a file of another kind (a playlist, say) is not followed to other files
        with av.open(str(piece.path.absolute()), format="mp4", metadata_errors="replace") as container:
            stream: Any = container.streams.video[0] if container.streams.video else None
            context = stream.codec_context if stream is not None else None
            if context is None:
                raise DataError(f"{piece.path} has no video that can be decoded; {_RESTORE}")
            context.thread_count = 1  # the converter's workers are what runs in parallel
            if max(context.height, context.width) > MAX_SIDE:
                raise DataError(f"{piece.path} is {context.height}x{context.width}, expected up to {MAX_SIDE} a side")
            if piece.stop_s is None and stream.frames not in (0, len(times_s)):
                raise DataError(f"{piece.path} has {stream.frames} frames for {len(times_s)} rows; {_RESTORE}")
            codec = context.codec.canonical_name
            for frame, place in _matched(_from(container, stream, piece, period_s), piece, times_s, period_s):
                yield VideoFrame(DecodedFrame(frame, codec, place))
    except (av.FFmpegError, OSError, ValueError, ArithmeticError) as error:  # the latter of sizes that cannot be
        raise unreadable(piece.path, error) from error


def _from(container: Any, stream: Any, piece: Piece, period_s: float) -> Iterator[Any]:
    """Frames of a file from a little before the piece on."""
    for start_s in dict.fromkeys((piece.start_s, 0.0)):
        container.seek(round(start_s / stream.time_base), stream=stream)
        frames = container.decode(stream)
        first = next(frames, None)
        if first is None or first.time is None or first.time <= piece.start_s + period_s / 2 or start_s == 0.0:
            break  # else the seek went too far, as it may where frames are stored out of order
    yield from chain(() if first is None else (first,), frames)


def _matched(
    frames: Iterator[Any], piece: Piece, times_s: NDArray[np.float64], period_s: float
) -> Iterator[tuple[Any, str]]:
    """The frames of the rows, each with its place in words."""
    count, row = len(times_s), 0
    for number, frame in enumerate(frames):
        if frame.time is None:
            raise DataError(f"{piece.path}: frame {number} has no time; {_RESTORE}")
        at_s = frame.time - piece.start_s
        if row == count:
            if piece.stop_s is None or frame.time < piece.stop_s - period_s / 2:
                raise _unmatched(piece, at_s, f"comes after the last of {count} rows")
            return
        off_s = at_s - times_s[row]
        if off_s < -period_s / 2:
            if row == 0 and piece.start_s > 0:
                continue  # of the episode before
            raise _unmatched(piece, at_s, f"belongs to no row; row {row} is at {times_s[row]:.6f} s")
        if off_s > period_s / 2:
            raise _unmatched(piece, at_s, f"comes next, but row {row} is at {times_s[row]:.6f} s")
        yield frame, f"the frame at {frame.time:.6f} s of {piece.path}"
        row += 1
    if row < count:
        raise DataError(f"{piece.path} ends after {row} of the episode's {count} rows; {_RESTORE}")


def _unmatched(piece: Piece, at_s: float, what: str) -> DataError:
    where = f" (from {piece.start_s:.6f} s of the file)" if piece.start_s else ""
    return DataError(f"{piece.path}: the frame at {at_s:.6f} s{where} {what}; {_RESTORE}")
