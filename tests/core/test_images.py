"""Image messages to RGB arrays, whatever their encoding, padding and container; bad ones refused."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from egowm_core.data.images import decode_compressed, decode_image, decode_labels
from egowm_core.data.messages import odometry_pose, stamp_ns, twist_velocity
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
        ({"encoding": "h264"}, "encoding 'h264' is not supported; publish one of rgb8, bgr8"),
        ({"encoding": "8UC3"}, "does not say which channel"),
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


BAYER = {"bayer_rggb8": "RGGB", "bayer_bggr8": "BGGR", "bayer_gbrg8": "GBRG", "bayer_grbg8": "GRBG"}


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor behind this filter sees; ``pattern`` is the first 2x2 cell, row by row."""
    out = np.empty(rgb.shape[:2], np.uint8)
    for i, colour in enumerate(pattern):
        out[i // 2 :: 2, i % 2 :: 2] = rgb[i // 2 :: 2, i % 2 :: 2, "RGB".index(colour)]
    return out


def bilinear(raw_pixels: np.ndarray, pattern: str) -> np.ndarray:
    """Each colour as the mean of its nearest samples, for all pixels but the border."""
    height, width = raw_pixels.shape
    out = np.zeros((height, width, 3))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            cells = {}
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    colour = pattern[(y + dy) % 2 * 2 + (x + dx) % 2]
                    cells.setdefault(colour, {}).setdefault(abs(dy) + abs(dx), []).append(raw_pixels[y + dy, x + dx])
            for colour, by_distance in cells.items():
                out[y, x, "RGB".index(colour)] = np.mean(by_distance[min(by_distance)])
    return out


@pytest.mark.parametrize(("encoding", "pattern"), BAYER.items())
def test_bayer_patterns_start_at_the_first_pixel(encoding, pattern):
    colour = np.full((8, 10, 3), (200, 100, 50), np.uint8)
    np.testing.assert_array_equal(decode_image(raw(mosaic(colour, pattern), encoding, padding=6)), colour)
    noise = np.random.default_rng(3).integers(0, 256, (9, 12), np.uint8)
    out = decode_image(raw(noise, encoding))
    assert np.abs(out[1:-1, 1:-1] - bilinear(noise, pattern)[1:-1, 1:-1]).max() <= 1


def yuv_to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, studio range."""
    y, u, v = 1.164 * (y.astype(float) - 16), u.astype(float) - 128, v.astype(float) - 128
    rgb = np.stack([y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u], axis=-1)
    return np.clip(rgb, 0, 255)


def planes(height: int, width: int, vertical: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    y = rng.integers(16, 236, (height, width), np.uint8)
    u, v = (rng.integers(60, 200, (height // vertical, width // 2), np.uint8) for _ in range(2))
    return y, u, v


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "UYVY"])
def test_packed_yuv_422(encoding):
    y, u, v = planes(6, 8, 1)
    packed = np.empty((6, 16), np.uint8)
    luma, first, second = (0, 1, 3) if "yuy" in encoding else (1, 0, 2)
    packed[:, luma::2], packed[:, first::4], packed[:, second::4] = y, u, v
    out = decode_image(raw(packed, encoding, padding=5, width=8))
    expected = yuv_to_rgb(y, u.repeat(2, axis=1), v.repeat(2, axis=1))
    assert np.abs(out - expected).max() <= 2
    with pytest.raises(DataError, match="6x7 is odd"):
        decode_image(raw(packed, encoding, width=7))


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_two_planes_of_yuv_420(encoding):
    y, u, v = planes(6, 8, 2)
    chroma = np.empty((3, 8), np.uint8)
    chroma[:, 0::2], chroma[:, 1::2] = (u, v) if encoding == "nv12" else (v, u)
    out = decode_image(raw(np.concatenate([y, chroma]), encoding, padding=4, height=6))
    expected = yuv_to_rgb(y, *(p.repeat(2, axis=0).repeat(2, axis=1) for p in (u, v)))
    assert np.abs(out - expected).max() <= 2
    with pytest.raises(DataError, match="expected height 9 x step 8"):
        decode_image(raw(y, encoding))


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("16UC1", "depth or has more than 8 bits"),
        ("mono16", "more than 8 bits: it makes no faithful 8-bit picture; choose the colour image topic"),
        ("32FC1", "depth"),
        ("rgb16", "more than 8 bits"),
        ("bayer_rggb16", "16 bits a pixel.*debayer it to rgb8"),
    ],
)
def test_what_makes_no_faithful_picture_is_refused_with_the_reason(encoding, reason):
    with pytest.raises(DataError, match=reason):
        decode_image(raw(np.zeros((4, 4), np.uint16), encoding))


def test_a_sixteen_bit_png_is_no_picture():
    png = cv2.imencode(".png", np.full((4, 4), 1000, np.uint16))[1].tobytes()
    with pytest.raises(DataError, match="16 bits a sample is depth"):
        decode_image(compressed(png, "png"))


def test_a_message_without_step_has_packed_rows():
    message = raw(RGB, "rgb8")
    del message.step
    np.testing.assert_array_equal(decode_image(message), RGB)


def test_tiny_pictures_decode_or_are_refused():
    for encoding in BAYER:
        for size in ((1, 1), (2, 2), (2, 5), (5, 1)):
            try:
                assert decode_image(raw(np.zeros(size, np.uint8), encoding)).shape == (*size, 3)
            except DataError as error:
                assert "too small" in str(error)


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
