"""The camera's newest pictures by stamp: found, bounded, decoded once, skipped where broken."""

from __future__ import annotations

import pytest

from egowm_core.errors import DataError
from egowm_nodes.drift.frame_buffer import OVERHEAD, FrameBuffer
from tests.nodes.streams import at, picture_at, plain_image, plain_jpeg


def buffer(**changes) -> FrameBuffer:
    kept = FrameBuffer(**({"keep_s": 10.0, "max_bytes": 100 << 20} | changes))
    kept.fit(96, 128)
    return kept


def test_the_nearest_picture_within_the_tolerance_is_found_and_decoded_once():
    kept = buffer()
    for i in range(12):
        kept.add(plain_jpeg(i / 12, picture_at(i / 12)))
    stamp, frame = kept.frame(at(0.26), 125_000_000)
    assert stamp == at(3 / 12) and frame.shape == (96, 128, 3)
    assert kept.frame(at(0.25), 125_000_000)[1] is frame
    assert kept.frame(at(5.0), 125_000_000) is None


@pytest.mark.parametrize("make", [plain_image, plain_jpeg])
def test_memory_is_bounded_by_time_and_by_bytes(make):
    kept = buffer(keep_s=1.0)
    for i in range(40):
        kept.add(make(i / 10, picture_at(0)))
    assert len(kept) == 11 and kept.first_ns == at(0)
    size = kept.bytes // 11
    small = buffer(max_bytes=5 * size + 1000)
    for i in range(40):
        small.add(make(i / 10, picture_at(0)))
    assert len(small) == 5
    small.clear()
    assert small.bytes == 0 and small.newest_ns is None


def test_raw_pictures_shrink_once_the_size_is_known():
    kept = FrameBuffer(keep_s=10.0, max_bytes=100 << 20)
    kept.add(plain_image(0.0, picture_at(0)))
    with pytest.raises(DataError, match="size of frames"):
        kept.frame(at(0), 0)
    kept.fit(96, 128)
    kept.add(plain_image(0.1, picture_at(0)))
    assert kept.bytes == 240 * 320 * 3 + 96 * 128 * 3 + 2 * OVERHEAD
    assert kept.frame(at(0), 0)[1].shape == (96, 128, 3)
    kept.fit(48, 64)
    assert len(kept) == 0


def test_stamps_backwards_are_skipped_and_a_reset_clock_starts_over():
    kept = buffer()
    kept.add(plain_jpeg(10.0, picture_at(0)))
    assert kept.add(plain_jpeg(9.5, picture_at(0))) is False and kept.backwards == 1
    assert kept.add(plain_jpeg(1.0, picture_at(0))) is True
    assert len(kept) == 1 and kept.newest_ns == at(1.0)


def test_a_corrupt_picture_is_reported_once_and_the_next_nearest_taken():
    kept = buffer()
    kept.add(plain_jpeg(0.0, picture_at(0)))
    broken = plain_jpeg(0.05, picture_at(0))
    broken.data = broken.data[: broken.data.find(b"\xff\xda")] + b"\xff\xd9"  # no scan: seen only by the decoder
    kept.add(broken)
    with pytest.raises(DataError, match="corrupt"):
        kept.frame(at(0.05), 125_000_000)
    assert kept.frame(at(0.05), 125_000_000)[0] == at(0.0)
