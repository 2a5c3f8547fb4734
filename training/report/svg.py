"""Small pieces of SVG: numbers, elements, axes. Knows nothing of recordings.

Everything returned is Markup; text and attributes are escaped here, so that no caller can forget it. Colours are CSS
classes of the page, which follow its light or dark scheme. The same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape


def coordinate(value: float) -> str:
    """A coordinate to a tenth of a unit, as short as it gets."""
    shown = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown


def element(tag: str, content: Markup | str = "", **attributes: str | float) -> Markup:
    """An element; ``class_`` and ``stroke_width`` become class and stroke-width."""
    pairs = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else coordinate(value))}"'
        for name, value in attributes.items()
    )
    return Markup(f"<{tag}{pairs}>{escape(content)}</{tag}>")


def picture(width: float, height: float, description: str, parts: Iterable[Markup], *, kind: str) -> Markup:
    """An inline picture that scales with its place; ``description`` is read aloud in its stead."""
    return element(
        "svg",
        element("title", description) + Markup("").join(parts),
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        role="img",
        aria_label=description,
        class_=kind,
    )


def bars(spans: Iterable[tuple[float, float, float, float]], css: str) -> Markup:
    """Rectangles (x, y, width, height) as one path; nothing where there are none."""
    path = "".join(
        f"M{coordinate(x)} {coordinate(y)}h{coordinate(w)}v{coordinate(h)}h{coordinate(-w)}z" for x, y, w, h in spans
    )
    return element("path", d=path, class_=css) if path else Markup("")


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=css)


def polyline(points: Sequence[tuple[float, float]], css: str) -> Markup:
    """A line through points."""
    return element("polyline", points=" ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points), class_=css)


def label(x: float, y: float, content: str, *, anchor: str = "start", css: str = "label") -> Markup:
    """Text; ``anchor`` is start, middle or end."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=css)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values in low..high, about as many as asked for (steps of 1, 2 or 5 times a power of ten)."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low or about < 1:
        return []
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def time_ticks(end_s: float, about: int) -> list[float]:
    """Round times from 0 to ``end_s``, in steps that read well on a clock."""
    steps = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 43200.0, 86400.0)
    step = next((step for step in steps if step * about >= end_s), None)
    if step is None or end_s < 30:
        return ticks(0.0, end_s, about)
    return [step * i for i in range(math.floor(end_s / step + 1e-9) + 1)]


def shorten(name: str, limit: int) -> str:
    """A long name with its middle left out: the end tells topics apart."""
    if len(name) <= limit:
        return name
    head = (limit - 1) // 3
    return f"{name[:head]}…{name[-(limit - 1 - head) :]}"
