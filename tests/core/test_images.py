"""Image messages to RGB arrays, whatever their encoding, padding and container; bad ones refused."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from egowm_core.data.images import decode_compressed, decode_image, decode_labels
from egowm_core.data.messages import joint_positions, odometry_pose, stamp_ns, twist_velocity
from egowm_core.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)


def raw(pixels: np.ndarray, encoding: str, *, padding: int = 0, **changes) -> SimpleNamespace:
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1).view(np.uint8)
    rows = np.concatenate([rows, np.full((height, padding), 99, np.uint8)], axis=1)
    fields = {
        "height": height, "width": width, "encoding": encoding, "step": rows.shape[1],
        "is_bigendian": 0, "data": rows.tobytes(), **changes,
    }  # fmt: skip
    return SimpleNamespace(**fields)


def compressed(data: bytes, image_format: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=image_format, data=data)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 3, 128 + 0 * rows], axis=-1).astype(np.uint8)


def encode(extension: str, rgb: np.ndarray) -> bytes:
    return cv2.imencode(extension, rgb[..., ::-1])[1].tobytes()


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, RGB[..., :1]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., :1]])),
    ],
)
def test_colour_encodings(encoding, pixels, padding):
    out = decode_image(raw(np.ascontiguousarray(pixels), encoding, padding=padding))
    np.testing.assert_array_equal(out, RGB)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert out.flags.writeable


def test_mono8_becomes_three_equal_channels():
    gray = RGB[..., 0].copy()
    np.testing.assert_array_equal(decode_image(raw(gray, "mono8", padding=2)), np.dstack([gray] * 3))


@pytest.mark.parametrize(
    "container",
    [bytes, bytearray, memoryview, lambda b: array.array("B", b), lambda b: np.frombuffer(b, np.uint8), list],
)
def test_any_container_of_bytes(container):
    message = raw(RGB, "rgb8")
    message.data = container(message.data)
    np.testing.assert_array_equal(decode_image(message), RGB)


def test_the_result_does_not_alias_the_message():
    message = raw(RGB, "rgb8")
    message.data = bytearray(message.data)
    out = decode_image(message)
    message.data[:] = bytes(len(message.data))
    np.testing.assert_array_equal(out, RGB)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding 'bayer_rggb8' is not supported; publish rgb8"),
        ({"encoding": "yuv422"}, "encoding 'yuv422'"),
        ({"step": 3}, "step 3 is less than width 5"),
        ({"height": 8}, "expected height 8 x step 15 = 120"),
        ({"data": b"\0" * 10}, "data has 10 bytes"),
        ({"data": b""}, "data has 0 bytes"),
        ({"height": 0}, "absurd"),
        ({"width": 4_000_000_000}, "absurd"),
    ],
)
def test_inconsistent_raw_images_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        decode_image(raw(RGB, **{"encoding": "rgb8", **changes}))


def test_png_is_exact_and_jpeg_close():
    picture = smooth()
    np.testing.assert_array_equal(decode_image(compressed(encode(".png", picture), "png")), picture)
    jpeg = decode_image(compressed(encode(".jpg", picture), "rgb8; jpeg compressed bgr8"))
    assert np.abs(jpeg.astype(int) - picture).mean() < 3


def test_gray_jpeg_becomes_rgb():
    data = cv2.imencode(".jpg", smooth()[..., 0])[1].tobytes()
    assert decode_compressed(data).shape == (48, 64, 3)


def test_corrupt_and_foreign_data_are_refused():
    jpeg = encode(".jpg", smooth())
    for bad, message in [
        (b"", "neither JPEG nor PNG"),
        (b"garbage!" * 10, "neither JPEG nor PNG"),
        (jpeg[: len(jpeg) // 2], "cut short"),
        (jpeg[:3] + jpeg[-2:], "no frame header"),
        (b"\x89PNG\r\n\x1a\n" + bytes(8) + (9_000_000).to_bytes(4, "big") * 2, "absurd"),
        (encode(".png", smooth())[:60], "corrupt"),
    ]:
        with pytest.raises(DataError, match=message):
            decode_image(compressed(bad))


def test_a_jpeg_that_claims_an_absurd_size_is_refused_before_decoding():
    jpeg = bytearray(encode(".jpg", smooth()))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(DataError, match="65535x65535 is absurd"):
        decode_image(compressed(bytes(jpeg)))


def test_zero_padding_after_a_jpeg_is_fine():
    assert decode_image(compressed(encode(".jpg", smooth()) + bytes(500))).shape == (48, 64, 3)


def test_compressed_depth_is_not_a_picture():
    with pytest.raises(DataError, match="depth image"):
        decode_image(compressed(bytes(12) + encode(".png", smooth()), "16UC1; compressedDepth png"))


def test_labels_keep_their_ids():
    labels = np.random.default_rng(1).integers(0, 60_000, (6, 9), np.uint16)
    png = cv2.imencode(".png", labels)[1].tobytes()
    np.testing.assert_array_equal(decode_labels(compressed(png, "16UC1; png")), labels)
    np.testing.assert_array_equal(decode_labels(raw(labels, "16UC1", padding=4)), labels)
    big = raw(labels.byteswap(), "16UC1", is_bigendian=1)
    np.testing.assert_array_equal(decode_labels(big), labels)
    with pytest.raises(DataError, match="single-channel"):
        decode_labels(compressed(encode(".png", smooth()), "png"))
    with pytest.raises(DataError, match="expected 16UC1"):
        decode_labels(raw(RGB, "rgb8"))


def vector(x: float, y: float, z: float, **more: float) -> SimpleNamespace:
    return SimpleNamespace(x=x, y=y, z=z, **more)


def test_motion_messages():
    header = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=7))
    twist = SimpleNamespace(linear=vector(1, 2, 9), angular=vector(9, 9, 3))
    pose = SimpleNamespace(position=vector(4, 5, 6), orientation=vector(0, 0, np.sin(0.5), w=np.cos(0.5)))
    odometry = SimpleNamespace(header=header, pose=SimpleNamespace(pose=pose), twist=SimpleNamespace(twist=twist))
    assert stamp_ns(odometry) == 3_000_000_007
    np.testing.assert_allclose(odometry_pose(odometry), [4, 5, 1])
    for message in (twist, SimpleNamespace(header=header, twist=twist), odometry):
        np.testing.assert_array_equal(twist_velocity(message), [1, 2, 3])
    pose.orientation = vector(0, 0, 0, w=0)
    assert np.isnan(odometry_pose(odometry)[2])
    assert joint_positions(SimpleNamespace(name=["a", "b"], position=[1, 2])) == {"a": 1.0, "b": 2.0}
    with pytest.raises(DataError, match="2 names but 1 positions"):
        joint_positions(SimpleNamespace(name=["a", "b"], position=[1]))
