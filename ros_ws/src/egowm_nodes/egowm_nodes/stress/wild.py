"""Wild values for every field of any message class, seeded. Knows messages by their fields, and no class by name."""

from __future__ import annotations

import importlib
import math
import random
import re
from typing import Any

LARGEST = 24 << 20  # bytes of the largest payloads
_HUGE_ONE_IN = 20  # byte sequences
_LONGEST_TEXT = 1 << 16
_FLOATS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324, 1.0, -1.0, 57.3, 1e9, math.pi)
TEXTS = ("", "x", "\x00", "\n\r\x1b[31m", "../../../../etc/passwd", "/", "~", "%s%n%x", "$(reboot)", "a" * 300,
         "\u202e\u0000\ufeff", "{0.__class__}", "rgb8", "optical", "odom")  # fmt: skip
_INTEGER = re.compile(r"^(u?)int(\d+)$")
_SEQUENCE = re.compile(r"^sequence<(.+?)(?:, (\d+))?>$")
_ARRAY = re.compile(r"^(.+)\[(\d+)\]$")
_MOST_DEPTH = 4


class Wild:
    """Messages of any class with wild values; the same ``seed`` makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._left = LARGEST  # bytes that the message being made may still take up in large pieces

    def begin(self) -> None:
        """Start on another message: large pieces are allowed again, up to ``LARGEST`` in all."""
        self._left = LARGEST

    def wild(self, kind: type[Any], depth: int = 0) -> Any:
        """A message of this class with a wild value in every field."""
        message = kind()
        for name, spelled in kind.get_fields_and_field_types().items():
            put(message, name, self._value(spelled, depth))
        return message

    def spoil(self, message: Any) -> None:
        """Give one field of a message, or of one within it, a wild value."""
        name, spelled = self.rng.choice(list(message.get_fields_and_field_types().items()))
        inner = getattr(message, name)
        if hasattr(inner, "get_fields_and_field_types") and self.rng.random() < 0.8:
            self.spoil(inner)
        else:
            put(message, name, self._value(spelled, 0))

    def real(self) -> float:
        """Most often a value that no robot measures."""
        return self.rng.choice(_FLOATS) if self.rng.random() < 0.6 else self.rng.uniform(-2.0, 2.0)

    def real32(self) -> float:
        """The same within the reach of 32 bits."""
        value = self.real()
        return value if not math.isfinite(value) or abs(value) < 3e38 else math.copysign(3e38, value)

    def payload(self) -> bytes:
        """Bytes, none or few or very many."""
        rng = self.rng
        if rng.randrange(_HUGE_ONE_IN) == 0 and self._left == LARGEST:
            self._left = 0
            return bytes(LARGEST)
        return rng.choice((b"", b"\x00", rng.randbytes(rng.choice((3, 100, 5000))), bytes(1 << 16)))

    def _value(self, spelled: str, depth: int) -> Any:
        rng = self.rng
        if found := _ARRAY.match(spelled):
            return [self._value(found[1], depth + 1) for _ in range(int(found[2]))]
        if found := _SEQUENCE.match(spelled):
            return self._sequence(found[1], depth)
        if "/" in spelled:
            return self.wild(_message_class(spelled), depth + 1)
        if spelled.startswith("string"):
            return self._text()
        if found := _INTEGER.match(spelled):
            bits, low = int(found[2]), 0 if found[1] else -(1 << (int(found[2]) - 1))
            return rng.choice((low, low + (1 << bits) - 1, 0, 1, rng.randrange(low, low + (1 << bits))))
        return {
            "double": self.real,
            "float": self.real32,
            "boolean": lambda: rng.random() < 0.5,
            "octet": lambda: bytes([rng.randrange(256)]),
        }[spelled]()

    def _text(self) -> str:
        if self.rng.random() < 0.98:
            return self.rng.choice(TEXTS)
        return "s" * self.rng.choice((5000, _LONGEST_TEXT))

    def _sequence(self, element: str, depth: int) -> Any:
        if element in ("uint8", "octet"):
            return self.payload()
        if depth > _MOST_DEPTH:
            return []
        count = self.rng.choice((0, 1, 3, 17))
        if "/" not in element and self.rng.random() < 0.02:
            count = 50_000
        return [self._value(element, depth + 1) for _ in range(count)]


def put(message: Any, name: str, value: Any) -> None:
    """Set a field, unless it is a value that no publisher can put there."""
    try:
        setattr(message, name, value)
    except (AssertionError, TypeError, ValueError, OverflowError):
        return


def _message_class(spelled: str) -> type[Any]:
    package, name = spelled.split("/")
    found: type[Any] = getattr(importlib.import_module(f"{package}.msg"), name)
    return found
