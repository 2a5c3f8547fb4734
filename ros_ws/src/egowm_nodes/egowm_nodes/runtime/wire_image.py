"""A picture as it came off the wire: its header is read at once, the rest when it is first asked for.

A camera sends many times more pictures than a model looks at, and making a Python message of each costs more than
receiving it. Knows no node and no picture format.
"""

from __future__ import annotations

from typing import Any

from rclpy.serialization import deserialize_message
from std_msgs.msg import Header

from egowm_core.errors import DataError

LONGEST_NAME = 255  # characters of a frame id: it is copied into all that is published
_HEADER_BYTES = 4 + 8 + 4 + 4 * LONGEST_NAME + 1  # encapsulation, stamp, length and characters of up to four bytes


class WireImage:
    """Looks like the Image or CompressedImage that ``data`` holds; its fields raise DataError where it holds none.

    Raises:
        DataError: ``data`` does not even begin with a header, or its frame id is longer than ``LONGEST_NAME``.
    """

    def __init__(self, kind: type[Any], data: bytes) -> None:
        self._kind, self._data, self._message = kind, data, None
        # a serialised message starts with its first field, which is the header
        self.header = _read(data[:_HEADER_BYTES], Header, f"the header of {kind.__name__}")
        if len(self.header.frame_id) > LONGEST_NAME:
            raise DataError(
                f"its frame_id has {len(self.header.frame_id)} characters, expected at most {LONGEST_NAME}; check its"
                " publisher"
            )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._kind.get_fields_and_field_types():
            raise AttributeError(f"{self._kind.__name__} has no field {name!r}")
        if self._message is None:
            self._message, self._data = _read(self._data, self._kind, self._kind.__name__), b""
        return getattr(self._message, name)


def _read(data: bytes, kind: type[Any], what: str) -> Any:
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # of several types, by what is wrong: too short, not UTF-8, no memory
        raise DataError(f"{what} cannot be read from {len(data)} bytes: {error}; check its publisher") from error
