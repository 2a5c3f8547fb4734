"""Pictures off the wire: headers at once, the rest on demand, garbage refused in words."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from egowm_core.data.images import decode_image
from egowm_core.data.messages import stamp_ns
from egowm_core.errors import DataError
from egowm_nodes import conversions
from egowm_nodes.runtime.wire_image import LONGEST_NAME, WireImage

STAMP = 1_700_000_000_250_000_000


def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8)


def test_raw_and_compressed_pictures_read_as_the_messages_do():
    image = picture()
    raw = WireImage(Image, serialize_message(conversions.image_message(image, STAMP, "optical")))
    assert (stamp_ns(raw), raw.header.frame_id) == (STAMP, "optical")
    np.testing.assert_array_equal(decode_image(raw), image)
    message = conversions.compressed_message(image, STAMP, "optical")
    np.testing.assert_array_equal(
        decode_image(WireImage(CompressedImage, serialize_message(message))), decode_image(message)
    )


def test_a_picture_that_is_cut_off_has_a_header_but_no_pixels():
    cut = WireImage(Image, serialize_message(conversions.image_message(picture(), STAMP, "optical"))[:60])
    assert stamp_ns(cut) == STAMP
    with pytest.raises(DataError, match="Image cannot be read from 60 bytes"):
        decode_image(cut)


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00\x00", b"\xff" * 3000])
def test_what_has_no_header_is_refused_at_once(data: bytes):
    with pytest.raises(DataError, match="header of Image"):
        WireImage(Image, data)


@pytest.mark.parametrize("length", [LONGEST_NAME + 1, 100_000])
def test_an_endless_frame_id_is_refused(length: int):
    with pytest.raises(DataError):
        WireImage(Image, serialize_message(conversions.image_message(picture(), STAMP, "x" * length)))
    longest = serialize_message(conversions.image_message(picture(), STAMP, "\N{PILE OF POO}" * LONGEST_NAME))
    assert len(WireImage(Image, longest).header.frame_id) == LONGEST_NAME
