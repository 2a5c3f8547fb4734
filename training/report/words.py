"""Numbers in words and figures for readers: durations, counts, shares. An absent value is a dash."""

from __future__ import annotations

from typing import Any

from training.report.fields import number

DASH, _SPACE = "\u2013", "\u00a0"  # a unit never stands on the next line


def figure(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits; whole ones in full."""
    found = number(value)
    if found is None:
        return DASH
    if found == int(found) and abs(found) < 1e15:
        return f"{int(found):,}"
    shown = f"{found:,.{digits}g}"
    return f"{found:,.0f}" if "e+" in shown and abs(found) < 1e15 else shown


def percent(share: Any) -> str:
    """A share of 0 to 1; neither 0 % nor 100 % where it is not quite."""
    found = number(share)
    if found is None:
        return DASH
    if 0 < found < 0.001:
        return f"<{_SPACE}0.1{_SPACE}%"
    if 0.999 < found < 1:
        return f">{_SPACE}99.9{_SPACE}%"
    return f"{found:.0%}"[:-1] + f"{_SPACE}%" if found in (0, 1) else f"{found * 100:.1f}{_SPACE}%"


def clock(seconds: Any) -> str:
    """A time in a recording, or a duration: 4.25 s, 3:07, 1:02:33."""
    found = number(seconds)
    if found is None:
        return DASH
    if abs(found) < 59.95:
        return f"{figure(round(found, 2))}{_SPACE}s"
    sign, whole = "-" if found < 0 else "", round(abs(found))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{sign}{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{sign}{minutes}:{whole % 60:02d}"


def amount(seconds: Any) -> str:
    """A duration with its unit: 42 s, 3.1 min, 5.2 h."""
    found = number(seconds)
    if found is None:
        return DASH
    if found < 99.5:
        return f"{figure(round(found, 1))}{_SPACE}s"
    return f"{found / 60:.1f}{_SPACE}min" if found < 5970 else f"{found / 3600:,.1f}{_SPACE}h"


def signed(seconds: Any) -> str:
    """An offset in seconds, always with its sign."""
    found = number(seconds)
    return DASH if found is None else f"0{_SPACE}s" if abs(found) < 5e-7 else f"{found:+.3g}{_SPACE}s"


def correlation(value: Any) -> str:
    """A correlation to two decimals."""
    found = number(value)
    return DASH if found is None else f"{found:.2f}"


def counted(how_many: int, noun: str) -> str:
    """``1 gap``, ``2 gaps``."""
    return f"{how_many:,} {noun}{'' if how_many == 1 else 's'}"
