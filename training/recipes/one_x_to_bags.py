"""1X's raw v2.0 shards into bags: ``python -m training.recipes.one_x_to_bags train_v2.0_raw bags/one_x``.

Untried on the data itself: names and formats are those of its card (video_N.mp4, states_N.bin of float32,
segment_idx_N.bin, here taken for int32 by its size). A segment becomes a bag: states at 30 Hz, pictures at 5 Hz.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, DataError, EgowmError
from training.recipes.bags import START_NS, BagWriter, new_bag

IMAGE, JOINTS = "/head/image/compressed", "/joint_states"
RATE_HZ = 30
EMBODIMENT = Path(__file__).with_name("one_x.yaml")


def write_shard(video: Path, out: Path, *, keep_every: int) -> int:
    """The segments of one shard as ``out/NAME_SEGMENT``; returns how many were written (those that are there stay).

    Raises DataError where files are missing or disagree.
    """
    number = video.stem.removeprefix("video_")
    names = [str(channel.source) for channel in load_embodiment(EMBODIMENT).channels]
    states = np.fromfile(_beside(video, f"states_{number}.bin"), np.float32)
    segments = np.fromfile(_beside(video, f"segment_idx_{number}.bin"), np.int32)
    if len(states) != len(segments) * len(names):
        raise DataError(
            f"{video.name}: {len(segments)} segment indices and {len(states)} state values; expected {len(names)} of"
            f" them a frame; fetch the shard again"
        )
    states = states.reshape(-1, len(names))
    bounds = [int(i) for i in np.flatnonzero(np.diff(segments, prepend=segments[:1] - 1))]
    frames, written = _frames(video), 0
    for start, end in zip(bounds, [*bounds[1:], len(segments)], strict=True):
        path = out / f"{number.zfill(3)}_{segments[start]:06d}"
        if path.exists():
            for _ in range(start, end):
                next(frames, None)
            continue
        with new_bag(path) as bag:
            for i in range(start, end):
                frame = next(frames, None)
                if frame is None:
                    raise DataError(f"{video.name} ends at frame {i}; {len(segments)} were expected; fetch it again")
                _write_frame(bag, i - start, states[i], names, frame if (i - start) % keep_every == 0 else None)
        written += 1
    return written


def _write_frame(
    bag: BagWriter, index: int, state: NDArray[np.float32], names: Sequence[str], frame: av.VideoFrame | None
) -> None:
    stamp_ns = START_NS + round(index * 1e9 / RATE_HZ)
    bag.joints(JOINTS, stamp_ns, dict(zip(names, state.tolist(), strict=True)))
    if frame is not None:
        bgr = frame.to_ndarray(format="bgr24")
        bag.jpeg(IMAGE, stamp_ns, cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def _frames(video: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(video)) as container:
        yield from container.decode(video=0)


def _beside(video: Path, name: str) -> Path:
    """A file of the same shard: in the same folder, or in a sister folder as the training split has it."""
    for path in [video.with_name(name), *sorted(video.parent.parent.glob(f"*/{name}"))]:
        if path.is_file():
            return path
    raise DataError(f"{video.name} has no {name} beside it; fetch the whole shard")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 when all went well, 1 when a shard failed, 2 when the command makes no sense."""
    parser = argparse.ArgumentParser(prog="one_x_to_bags", description="1X's raw v2.0 shards into bags. Untried.")
    parser.add_argument("raw", type=Path, help="folder that holds video_N.mp4, in itself or below")
    parser.add_argument("out", type=Path, help="folder for the bags; those that are there are skipped")
    parser.add_argument("--keep-every", type=int, default=6, help="of the pictures (default 6: 5 Hz)")
    args = parser.parse_args(argv)
    failed = 0
    try:
        if args.keep_every < 1:
            raise ConfigError(f"--keep-every {args.keep_every} must be 1 or more")
        videos = sorted(args.raw.rglob("video_*.mp4"))
        if not videos:
            raise ConfigError(f"{args.raw} holds no video_N.mp4; give a split of the raw data, not of the tokenised")
        for video in videos:
            try:
                print(f"{video.stem}: {write_shard(video, args.out, keep_every=args.keep_every)} segments")
            except (DataError, OSError, av.FFmpegError) as error:
                failed += 1
                print(f"FAILED {video.name}: {error}", file=sys.stderr)
    except EgowmError as error:
        print(f"one_x_to_bags: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
