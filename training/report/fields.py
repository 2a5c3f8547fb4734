"""What stands in a recording's report, read with tolerance: absent or ill-typed values become None or nothing.

Reports outlive the version that wrote them and hold names out of foreign files. Knows no HTML; text comes out
printable.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]
_MAX_TEXT = 2000  # characters; nothing that long is read
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and direction marks: they could disguise a name


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def count(value: Any) -> int:
    """A count; 0 where there is none."""
    found = number(value)
    return 0 if found is None else max(0, int(found))


def text(value: Any) -> str:
    """One printable line; control characters are shown as escapes, None is empty."""
    if value is None:
        return ""
    line = " ".join(str(value)[:_MAX_TEXT].split())
    if line.isprintable():
        return line
    return "".join(_shown(c) if unicodedata.category(c) in _INVISIBLE else c for c in line)


def _shown(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def mapping(value: Any) -> dict[str, Any]:
    """A mapping with text keys; empty where it is something else."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def records(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list; anything else in it is left out."""
    return [mapping(item) for item in value if isinstance(item, Mapping)] if isinstance(value, (list, tuple)) else []


def numbers(value: Any) -> list[float]:
    """A list of numbers, those that are none as 0; empty where it is not a list."""
    return [number(item) or 0.0 for item in value] if isinstance(value, (list, tuple)) else []


def pair(value: Any) -> tuple[float, float] | None:
    """Two finite numbers, the first below the second, or None."""
    found = [number(item) for item in value] if isinstance(value, (list, tuple)) else []
    if len(found) == 2 and found[0] is not None and found[1] is not None and found[0] < found[1]:
        return found[0], found[1]
    return None


def texts(value: Any) -> list[str]:
    """The items of a list as printable lines."""
    return [text(item) for item in value] if isinstance(value, (list, tuple)) else []


def since_start_s(entry: Entry, stamp_ns: Any) -> float | None:
    """Seconds of a stamp after the recording's start; None where either is unknown.

    In whole nanoseconds first: as floats, stamps of today lose their last 256 ns.
    """
    start = entry.get("start_ns")
    if not isinstance(start, int) or not isinstance(stamp_ns, int):
        return None
    return (stamp_ns - start) / 1e9


def span_s(entry: Entry, item: Mapping[str, Any]) -> tuple[float, float] | None:
    """Seconds after the recording's start that a gap or an exclusion covers; None where unknown."""
    start, end = since_start_s(entry, item.get("start_ns")), since_start_s(entry, item.get("end_ns"))
    return None if start is None or end is None or end < start else (start, end)
