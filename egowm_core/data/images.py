"""sensor_msgs Image and CompressedImage, from rclpy or a bag alike, to arrays.

Messages are duck-typed by their fields; this module imports no ROS. It checks sizes before it allocates and never
guesses: what cannot be decoded faithfully is refused with a DataError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import DataError
from egowm_core.types import ImageArray

MAX_SIDE = 8192
MAX_PIXELS = 1 << 25  # 8K UHD fits; a few bytes of JPEG or PNG may claim any size
MAX_SCANS = 100  # a progressive JPEG has about ten; every further one costs a pass over the whole picture
MAX_SCANNED = 1 << 27  # pixels times scans


@dataclass(frozen=True)
class _Layout:
    """How a raw encoding lies in memory: bytes a pixel in a row, rows a picture row, and OpenCV's way to RGB.

    ``even`` says which sides must be even, because neighbouring pixels share a colour sample.
    """

    channels: int
    to_rgb: int | None
    rows: float = 1.0
    even: str = ""


# OpenCV's short Bayer names start at the second row and column; its long ones, like ROS's, at the first.
_LAYOUTS = {
    "rgb8": _Layout(3, None),
    "bgr8": _Layout(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8uc1": _Layout(1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": _Layout(1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": _Layout(1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": _Layout(1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": _Layout(1, cv2.COLOR_BayerGRBG2RGB),
    "yuv422": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, even="w"),
    "uyvy": _Layout(2, cv2.COLOR_YUV2RGB_UYVY, even="w"),
    "yuv422_yuy2": _Layout(2, cv2.COLOR_YUV2RGB_YUY2, even="w"),
    "yuyv": _Layout(2, cv2.COLOR_YUV2RGB_YUY2, even="w"),
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, rows=1.5, even="hw"),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, rows=1.5, even="hw"),
}
_LABEL_ENCODINGS = ("16uc1", "mono16")
_JPEG_MAGIC, _PNG_MAGIC = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_SCAN = b"\xff\xda"
_JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_image(message: Any) -> ImageArray:
    """Image or CompressedImage to (H,W,3) uint8 RGB, contiguous; always a copy or freshly decoded.

    Raises DataError on an unsupported encoding, sizes that disagree, an absurd size or corrupt data.
    """
    if hasattr(message, "format") and not hasattr(message, "encoding"):
        return decode_compressed(_bytes(message.data), str(message.format))
    encoding = str(message.encoding).lower()
    if encoding not in _LAYOUTS:
        raise DataError(f"image encoding {message.encoding!r} {_why_refused(encoding)}")
    layout, height, width = _LAYOUTS[encoding], int(message.height), int(message.width)
    if ("h" in layout.even and height % 2) or ("w" in layout.even and width % 2):
        raise DataError(
            f"image size {height}x{width} is odd, impossible in {message.encoding!r}; fix the driver's message"
        )
    rows = _rows(message, bytes_per_pixel=layout.channels, rows_per_row=layout.rows)
    pixels = rows[:, : width * layout.channels].reshape(len(rows), width, layout.channels)
    if layout.to_rgb is None:
        return pixels.copy()
    try:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), layout.to_rgb), np.uint8)
    except cv2.error as error:
        raise DataError(f"image of {height}x{width} {message.encoding!r} is too small to convert; drop it") from error


def _why_refused(encoding: str) -> str:
    if encoding.startswith("bayer_"):
        return "has 16 bits a pixel, which cannot be made 8 without guessing the exposure; debayer it to rgb8 before"
    if encoding.startswith(("16", "32", "64", "mono16", "rgb16", "bgr16", "rgba16", "bgra16")):
        return "is depth or has more than 8 bits: it makes no faithful 8-bit picture; choose the colour image topic"
    if encoding.startswith("8"):
        return "does not say which channel is which colour; publish rgb8, bgr8, rgba8, bgra8 or mono8"
    return f"is not supported; publish one of {', '.join(_LAYOUTS)}"


def decode_labels(message: Any) -> NDArray[np.uint16]:
    """A 16-bit Image (16UC1, mono16) or PNG CompressedImage to (H,W) uint16. Raises DataError."""
    if hasattr(message, "format"):
        data = _bytes(message.data)
        _check_compressed(data, str(message.format))
        image = _imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
            got = "nothing" if image is None else f"{image.shape} {image.dtype}"
            raise DataError(f"label image must be a single-channel 16-bit PNG, decoded {got}; record it as 16UC1 png")
        return np.asarray(image, np.uint16)
    if str(message.encoding).lower() not in _LABEL_ENCODINGS:
        raise DataError(f"label image encoding {message.encoding!r}; expected 16UC1 or mono16")
    width = int(message.width)
    rows = np.ascontiguousarray(_rows(message, bytes_per_pixel=2)[:, : 2 * width])
    order = ">u2" if bool(getattr(message, "is_bigendian", 0)) else "<u2"
    return np.asarray(rows.view(order), np.uint16)


def decode_compressed(data: NDArray[np.uint8] | bytes, image_format: str = "") -> ImageArray:
    """JPEG or PNG bytes to (H,W,3) uint8 RGB; the bytes decide, ``image_format`` only serves the message.

    Raises DataError on other formats, truncated or corrupt data and absurd sizes.
    """
    buffer = _bytes(data)
    _check_compressed(buffer, image_format)
    if buffer[:8].tobytes() == _PNG_MAGIC and buffer.size > 24 and buffer[24] > 8:
        raise DataError(f"PNG ({image_format!r}) of 16 bits a sample {_why_refused('16')}")
    bgr = _imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise DataError(f"compressed image ({image_format!r}, {buffer.size} bytes) is corrupt; check the camera")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8)


def check_compressed(message: Any) -> None:
    """Look at the bytes of a CompressedImage without decoding them: cheap, and it finds all that is no picture.

    Raises DataError as ``decode_compressed``, but for damage within.
    """
    _check_compressed(_bytes(message.data), str(message.format))


def _imdecode(data: NDArray[np.uint8], how: int) -> NDArray[Any] | None:
    """What OpenCV makes of it; None where that is nothing."""
    try:
        return cv2.imdecode(data, how)
    except cv2.error:  # some corruptions raise instead of coming back empty
        return None


def _bytes(data: Any) -> NDArray[np.uint8]:
    """A flat uint8 view of bytes, memoryview, array.array or ndarray, without a copy."""
    if isinstance(data, np.ndarray):
        return data.reshape(-1) if data.dtype == np.uint8 else np.frombuffer(data.tobytes(), np.uint8)
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError):
        return np.array(data, np.uint8).reshape(-1)


def _rows(message: Any, *, bytes_per_pixel: int, rows_per_row: float = 1.0) -> NDArray[np.uint8]:
    """(H * rows_per_row, step) bytes of a raw image after its sizes were checked; without a step, rows are packed."""
    height, width = int(message.height), int(message.width)
    _check_size(height, width)
    step = int(getattr(message, "step", width * bytes_per_pixel))
    if step < width * bytes_per_pixel:
        raise DataError(
            f"image step {step} is less than width {width} x {bytes_per_pixel} bytes; fix the driver's message"
        )
    data = _bytes(message.data)
    lines = round(height * rows_per_row)
    if data.size != lines * step:
        raise DataError(
            f"image data has {data.size} bytes, expected height {lines} x step {step} = {lines * step};"
            f" the driver's message is inconsistent"
        )
    return data.reshape(lines, step)


def _check_size(height: int, width: int) -> None:
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise DataError(f"image size {height}x{width} is absurd; expected 1..{MAX_SIDE} pixels a side")
    if height * width > MAX_PIXELS:
        raise DataError(
            f"image size {height}x{width} is {height * width} pixels, expected at most {MAX_PIXELS}; let the driver"
            " scale it down"
        )


def _check_compressed(data: NDArray[np.uint8], image_format: str) -> None:
    if "compresseddepth" in image_format.lower():
        raise DataError(f"format {image_format!r} is a depth image; choose the colour image topic")
    head = data[:24].tobytes()
    if head.startswith(_JPEG_MAGIC):
        height, width = _jpeg_size(data)
        _check_size(height, width)
        scans = data.tobytes().count(_JPEG_SCAN)
        if scans > (most := min(MAX_SCANS, MAX_SCANNED // (height * width))):
            raise DataError(
                f"JPEG of {height}x{width} has {scans} scans, expected at most {most}: it is made to keep readers busy"
            )
        tail = data[-1024:].tobytes().rstrip(b"\x00")
        if b"\xff\xd9" not in tail[-64:]:
            raise DataError(f"JPEG of {data.size} bytes has no end marker: it was cut short; drop it")
    elif head.startswith(_PNG_MAGIC) and len(head) == 24:
        _check_size(int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big"))
        _check_png_chunks(data.tobytes())
    else:
        raise DataError(
            f"compressed image format {image_format!r} ({data.size} bytes, starting {head[:4].hex() or 'empty'})"
            f" is neither JPEG nor PNG; publish jpeg or png"
        )


def _check_png_chunks(data: bytes) -> None:
    """OpenCV makes room for what a chunk claims to hold, gigabytes of it, before it looks how much there is."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length > len(data) - at - 12:
            raise DataError(
                f"PNG of {len(data)} bytes has a chunk that claims {length}: it is corrupt or was cut short; drop it"
            )
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + length
    raise DataError(f"PNG of {len(data)} bytes has no end chunk: it was cut short; drop it")


def _jpeg_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width from the frame header of a JPEG, without decoding it."""
    head = data[: 1 << 18].tobytes()
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _JPEG_SOF:
            return int.from_bytes(head[at + 5 : at + 7], "big"), int.from_bytes(head[at + 7 : at + 9], "big")
        if marker == 0xFF:  # fill byte
            at += 1
        else:
            at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    raise DataError(f"JPEG of {data.size} bytes has no frame header: it is corrupt; drop it")
