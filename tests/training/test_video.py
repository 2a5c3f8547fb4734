"""Videos: frame i is frame i, in every window, at its exact time, whatever the rate, also after joining files."""

from __future__ import annotations

import multiprocessing
import os
import resource
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from egowm_core.errors import ConfigError, DataError
from tests.training.dataset_fixtures import HEIGHT, WIDTH, number_of, numbered
from training.dataset.video import VideoCodec, VideoWriter, close_videos, concatenate, count_frames, read_frames

CODECS = ["h264", "av1", "lossless"]


def write(
    path: Path, numbers: range, *, codec: str = "h264", rate_hz: float = 4.0, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> Path:
    height, width = size
    with VideoWriter(path, rate_hz=rate_hz, height=height, width=width, codec=VideoCodec(codec)) as writer:
        for number in numbers:
            writer.add(numbered(number, height, width))
    return path


def shown(path: Path, start: int, stop: int) -> list[int]:
    return [number_of(frame) for frame in read_frames(path, start, stop)]


def window_numbers(path: str, start: int, stop: int) -> list[int]:
    return shown(Path(path), start, stop)


@pytest.mark.parametrize("codec", CODECS)
def test_every_window_holds_its_own_frames_also_after_joining(codec: str, tmp_path: Path) -> None:
    lengths = [5, 1, 8, 17]  # a gop is 8
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    parts = [
        write(tmp_path / f"{i}.mp4", range(first, first + length), codec=codec)
        for i, (first, length) in enumerate(zip(starts, lengths, strict=False))
    ]
    joined = tmp_path / "joined.mp4"
    assert concatenate(parts, joined) == lengths
    assert count_frames(joined) == 31
    windows = [(start, stop) for start in range(32) for stop in range(start, 32, 3)]
    for start, stop in np.random.default_rng(0).permutation(windows).tolist():
        assert shown(joined, start, stop) == list(range(start, stop))
    assert shown(parts[3], 9, 17) == list(range(23, 31))


@pytest.mark.parametrize("rate_hz", [4.0, 3.33, 29.97, 30000 / 1001, 30.0, 0.5, 7.123])
def test_frames_lie_at_exact_times(rate_hz: float, tmp_path: Path) -> None:
    parts = [
        write(tmp_path / "a.mp4", range(10), rate_hz=rate_hz),
        write(tmp_path / "b.mp4", range(3), rate_hz=rate_hz),
    ]
    concatenate(parts, tmp_path / "both.mp4")
    with av.open(str(tmp_path / "both.mp4")) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        assert abs(float(rate) - rate_hz) < 1e-9
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert times == [Fraction(i) / rate for i in range(13)]
        assert (stream.start_time, stream.frames, stream.duration * stream.time_base) == (0, 13, 13 / rate)


def test_packets_are_in_the_order_of_frames_with_a_keyframe_every_gop(tmp_path: Path) -> None:
    for codec in CODECS:
        path = write(tmp_path / f"{codec}.mp4", range(20), codec=codec)
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
        assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
        assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [0, 8, 16]


def test_lossless_gives_back_every_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, 33, 47, 3), dtype=np.uint8)
    codec = VideoCodec("lossless")
    with VideoWriter(tmp_path / "x.mp4", rate_hz=10, height=33, width=47, codec=codec) as writer:
        for frame in frames:
            writer.add(frame)
    concatenate([tmp_path / "x.mp4", tmp_path / "x.mp4"], tmp_path / "twice.mp4")
    assert np.array_equal(read_frames(tmp_path / "twice.mp4", 0, 24), np.concatenate([frames, frames]))
    assert np.array_equal(read_frames(tmp_path / "twice.mp4", 7, 20), np.concatenate([frames[7:], frames[:8]]))


def test_default_codec_keeps_colour_of_tiny_frames(tmp_path: Path) -> None:
    """Red and blue columns one pixel wide: halved colour would mix them."""
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:, ::2, 0] = frame[:, 1::2, 2] = 200
    with VideoWriter(tmp_path / "x.mp4", rate_hz=4, height=32, width=48, codec=VideoCodec(crf=10)) as writer:
        for _ in range(9):
            writer.add(frame)
    error = read_frames(tmp_path / "x.mp4", 0, 9).astype(float) - frame
    assert np.abs(error).mean() < 4
    assert VideoCodec().pixel_format(480, 640) == "yuv420p"


@pytest.mark.parametrize("codec", CODECS)
def test_same_frames_same_bytes(codec: str, tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{name}.mp4", range(20), codec=codec) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    concatenate([first, second], tmp_path / "one.mp4")
    concatenate([second, first], tmp_path / "other.mp4")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "other.mp4").read_bytes()


@pytest.mark.parametrize(("codec", "size"), [("h264", (33, 49)), ("lossless", (33, 49)), ("h264", (260, 301))])
def test_odd_sizes(codec: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", range(10), codec=codec, size=size)
    assert read_frames(path, 0, 1).shape == (1, *size, 3)
    assert shown(path, 3, 10) == list(range(3, 10))


def test_a_video_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with pytest.raises(RuntimeError), VideoWriter(path, rate_hz=4, height=32, width=48, codec=VideoCodec()) as writer:
        writer.add(numbered(0))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no frames"):
        VideoWriter(path, rate_hz=4, height=32, width=48, codec=VideoCodec()).close()
    good = write(tmp_path / "good.mp4", range(3))
    (tmp_path / "bad.mp4").write_bytes(good.read_bytes()[:400])
    with pytest.raises(DataError, match="join"):
        concatenate([good, tmp_path / "bad.mp4"], path)
    with pytest.raises(DataError, match="differently"):
        concatenate([good, write(tmp_path / "other.mp4", range(3), size=(32, 96))], path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["bad.mp4", "good.mp4", "other.mp4"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    part = tmp_path / "part.mp4"
    with VideoWriter(part, rate_hz=4, height=96, width=128, codec=VideoCodec("lossless")) as writer:
        for _ in range(8):
            writer.add(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (part.stat().st_size // 2, limits[1]))
    try:
        with (
            pytest.raises(DataError, match=r"cannot write .*x\.mp4.*disk space"),
            VideoWriter(tmp_path / "x.mp4", rate_hz=4, height=96, width=128, codec=VideoCodec("lossless")) as writer,
        ):
            for _ in range(8):
                writer.add(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
        with pytest.raises(DataError, match="cannot join"):
            concatenate([part, part], tmp_path / "x.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [item.name for item in tmp_path.iterdir()] == ["part.mp4"]


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good.mp4", range(3))
    with pytest.raises(DataError, match=r"has 3 frames, 1\.\.4"):
        read_frames(good, 1, 4)
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match="cannot read"):
        read_frames(tmp_path / "bad.mp4", 0, 1)
    with pytest.raises(DataError, match="cannot read"):
        read_frames(tmp_path / "absent.mp4", 0, 1)
    with (
        pytest.raises(DataError, match=r"\(32, 48, 3\)"),
        VideoWriter(tmp_path / "x.mp4", rate_hz=4, height=32, width=48, codec=VideoCodec()) as writer,
    ):
        writer.add(np.zeros((48, 32, 3), np.uint8))
    with pytest.raises(ConfigError, match="did you mean 'h264'"):
        VideoCodec("h265")
    with pytest.raises(ConfigError, match="crf 52"):
        VideoCodec(crf=52)
    with pytest.raises(ConfigError, match="gop 0"):
        VideoCodec(gop=0)


def test_damaged_frames_are_an_error_not_a_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", range(40))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.dts is not None]
    content = bytearray(path.read_bytes())
    position, size = packets[16]  # a keyframe
    content[position : position + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.mp4"):
        read_frames(path, 16, 24)
    assert shown(path, 0, 8) == list(range(8))


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", range(10))
    assert shown(path, 2, 4) == [2, 3]
    write(path, range(100, 110))
    assert shown(path, 4, 6) == [104, 105]


def test_few_files_stay_open(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{i}.mp4", range(i, i + 2)) for i in range(40)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i, part in enumerate(parts):
        assert shown(part, 1, 2) == [i + 1]
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 16
    close_videos()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_do_not_disturb_each_other(method: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", range(60))
    assert shown(path, 30, 32) == [30, 31]  # open here, in the middle, when workers start
    windows = [(start, start + 5) for start in np.random.default_rng(1).integers(0, 55, 40).tolist()]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        jobs = [pool.submit(window_numbers, os.fspath(path), *window) for window in windows]
        mine = [shown(path, *window) for window in windows]
        assert [job.result(60) for job in jobs] == mine == [list(range(*window)) for window in windows]


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", range(60))
    windows = [(start, start + 5) for start in np.random.default_rng(1).integers(0, 55, 80).tolist()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda window: shown(path, *window), windows))
    assert found == [list(range(*window)) for window in windows]
