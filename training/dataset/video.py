"""Frames into mp4 files and mp4 files end to end, at exact times, the same bytes every time.

Every video has keyframes at fixed distances and no B-frames: packets are in the order of their frames, so joining files
is a matter of counting packets, and any window is decoded from the keyframe before it (``training.dataset.decoding``).
Encoders and scalers run on one thread, on purpose: the same bytes on any number of cores, faster at the size of these
frames, and safe to fork. Knows frames and files; no episode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from egowm_core.errors import ConfigError, DataError
from egowm_core.schema import nearest
from egowm_core.types import ImageArray
from training.dataset.decoding import close_videos, count_frames, read_frames, ticks_per_frame
from training.dataset.files import Unfinished, publish
from training.dataset.layout import exact_rate

__all__ = ["CODECS", "VideoCodec", "VideoWriter", "close_videos", "concatenate", "count_frames", "read_frames"]

_DEFAULT_CRF = {"h264": 18, "av1": 20, "lossless": 0}
CODECS = tuple(_DEFAULT_CRF)
_LARGEST_CRF = {"h264": 51, "av1": 63, "lossless": 0}
_TINY = 256  # pixels of the longer side, up to which colour is kept at full resolution
_SCALING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)
_CONTAINER = {"fflags": "+bitexact"}  # no time of writing, no name of the writer
_ITU601 = 6  # the matrix as H.264 and AV1 number it; what readers assume of a video that does not say


@dataclass(frozen=True)
class VideoCodec:
    """How frames are compressed: ``h264``, ``av1`` (smaller, slower) or ``lossless`` (H.264 in RGB, frames as given).

    ``crf`` is the encoder's constant quality, lower is better; without one it is 18 for h264 and 20 for av1. Every
    ``gop``-th frame is a keyframe. Measured on 96x128 frames of simulated rooms and of three real recordings at gop 8:
    h264 40.2 to 41.2 dB at 2.0 to 3.1 kB a frame with colour at full resolution (yuv444p), 36.3 to 39.7 dB at the same
    size with halved colour (yuv420p, what most players expect), so small frames get the former; av1 35 to 37 dB at 1.2
    to 2.2 kB; lossless 16 to 21 kB. A gop of 2 takes 10 to 50 % more space, one of 16 saves 5 %.
    """

    name: str = "h264"
    crf: int | None = None
    gop: int = 8

    def __post_init__(self) -> None:
        if self.name not in _DEFAULT_CRF:
            raise ConfigError(
                f"video codec {self.name!r}{nearest(self.name, list(_DEFAULT_CRF))} is not one of"
                f" {', '.join(_DEFAULT_CRF)}"
            )
        if self.crf is None:
            object.__setattr__(self, "crf", _DEFAULT_CRF[self.name])
        if not 0 <= (self.crf or 0) <= _LARGEST_CRF[self.name]:
            raise ConfigError(
                f"crf {self.crf} of {self.name} must lie in 0..{_LARGEST_CRF[self.name]}; lower is better"
            )
        if not 1 <= self.gop <= 1000:
            raise ConfigError(f"gop {self.gop} must lie in 1..1000 frames from one keyframe to the next")

    def pixel_format(self, height: int, width: int) -> str:
        """How the decoded stream holds colour."""
        if self.name == "lossless":
            return "gbrp"
        # halved colour needs even sizes, and on tiny frames it costs 1.5 to 4 dB for nothing; AV1 here has no other
        full = self.name == "h264" and (max(height, width) <= _TINY or height % 2 == 1 or width % 2 == 1)
        return "yuv444p" if full else "yuv420p"

    def info(self, height: int, width: int, rate: float) -> dict[str, Any]:
        """What info.json says of such a stream."""
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": "av1" if self.name == "av1" else "h264",
            "video.pix_fmt": self.pixel_format(height, width),
            "video.fps": rate,
            "video.channels": 3,
            "video.g": self.gop,
            "video.crf": self.crf,
            "has_audio": False,
            "is_depth_map": False,
        }

    def encoder(self, height: int, width: int) -> tuple[str, str, dict[str, str]]:
        """The encoder's name, the pixel format it takes, and its options."""
        if self.name == "lossless":
            return "libx264rgb", "rgb24", {"qp": "0", **_x264(self.gop)}
        if self.name == "av1":
            # pred-struct=1: no frame waits for a later one; lp=1: one thread
            parameters = f"keyint={self.gop}:scd=0:pred-struct=1:lp=1"
            return "libsvtav1", "yuv420p", {"crf": str(self.crf), "preset": "8", "svtav1-params": parameters}
        return "libx264", self.pixel_format(height, width), {"crf": str(self.crf), **_x264(self.gop)}


def _x264(gop: int) -> dict[str, str]:
    return {"preset": "medium", "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:threads=1"}


class VideoWriter(Unfinished):
    """Writes frames to ``path`` as they come; the file appears when it is closed, whole or not at all.

    A context manager that closes, or discards where there was an error. Frame i is at i / rate seconds, exactly.
    """

    def __init__(self, path: Path, *, rate_hz: float, height: int, width: int, codec: VideoCodec) -> None:
        """Raises ConfigError when no encoder takes such frames, DataError when the file cannot be written."""
        self.path, self.num_frames = path, 0
        self._partial = path.with_name(path.name + ".partial")
        self._shape = (height, width, 3)
        name, self._format, options = codec.encoder(height, width)
        rate = exact_rate(rate_hz)
        try:
            self._container = av.open(str(self._partial), "w", format="mp4", container_options=_CONTAINER)
        except (av.FFmpegError, OSError) as error:
            raise self._unwritten(error) from error
        try:
            self._stream = self._container.add_stream(name, rate=rate, options=options)
            context = self._stream.codec_context
            context.width, context.height, context.pix_fmt = width, height, self._format
            context.time_base = 1 / rate
            context.gop_size, context.max_b_frames, context.thread_count = codec.gop, 0, 1
            if self._format.startswith("yuv"):
                context.colorspace, context.color_range = _ITU601, ColorRange.MPEG
            context.open()
        except (av.FFmpegError, OverflowError, ValueError) as error:
            self.discard()
            raise ConfigError(
                f"{codec.name} cannot encode {height}x{width} frames at {rate_hz:g} Hz ({error});"
                " choose another codec, size or rate"
            ) from error

    def add(self, frame: ImageArray) -> None:
        """Encode the next frame (H,W,3) uint8 RGB. Raises DataError when it is of another size or cannot be written."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise DataError(f"{self.path.name} takes frames {self._shape} uint8, got {frame.shape} {frame.dtype}")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self._format != "rgb24":
            picture = picture.reformat(
                format=self._format,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation=_SCALING,
                threads=1,
            )
        picture.pts, picture.time_base = self.num_frames, self._stream.codec_context.time_base
        self.num_frames += 1
        self._mux(picture)

    def close(self) -> None:
        """Finish the file and give it its name. Raises DataError when no frame was added or it cannot be written."""
        if not self.num_frames:
            self.discard()
            raise DataError(f"{self.path} would be a video of no frames; add one before closing")
        try:
            self._mux(None)
            self._container.close()
            publish(self._partial, self.path)
        except (av.FFmpegError, OSError) as error:
            self.discard()
            raise self._unwritten(error) from error
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give up: nothing is left."""
        # a half-open encoder has nothing to flush, a full disk takes nothing
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()
        self._partial.unlink(missing_ok=True)

    def _mux(self, picture: Any) -> None:
        try:
            for packet in self._stream.encode(picture):
                packet.duration = 1  # of the time base; some encoders leave it out, and then the last frame has none
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> DataError:
        return DataError(f"cannot write {self.path}: {error}; check disk space and permissions")


def concatenate(parts: Sequence[Path], out: Path) -> list[int]:
    """Join videos of ``VideoWriter`` to one, without encoding anew; returns the number of frames of each.

    Raises:
        DataError: no parts, one that cannot be read, or parts encoded differently.
    """
    if not parts:
        raise DataError(f"{out} would be a video of no parts; give one")
    partial, counts = out.with_name(out.name + ".partial"), [0] * len(parts)
    try:
        with av.open(str(partial), "w", format="mp4", container_options={**_CONTAINER, "movflags": "+faststart"}) as to:
            stream, first = None, None
            for i, part in enumerate(parts):
                with av.open(str(part)) as source:
                    video = source.streams.video[0]
                    context = video.codec_context
                    ticks = ticks_per_frame(video, part)
                    kind = (context.name, context.width, context.height, context.extradata, video.time_base, ticks)
                    if stream is None:
                        stream, first = to.add_stream_from_template(video, opaque=True), kind
                        stream.time_base = video.time_base
                    elif kind != first:
                        raise DataError(f"{part} is encoded differently from {parts[0]}; encode all parts alike")
                    for packet in source.demux(video):
                        if packet.dts is None:  # the end
                            continue
                        packet.pts = packet.dts = sum(counts) * ticks
                        packet.duration, packet.stream = ticks, stream
                        to.mux(packet)
                        counts[i] += 1
    except (av.FFmpegError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"cannot join {len(parts)} videos to {out}: {error}; convert the recording again") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    publish(partial, out)
    return counts
