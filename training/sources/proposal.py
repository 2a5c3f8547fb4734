"""A proposed embodiment with what was measured and what was assumed, as YAML that a person reads and mends.

Knows how to say it; what is proposed, ``propose`` decides.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from egowm_core.embodiment import Embodiment

_CHECK = "check: "


@dataclass(frozen=True)
class Remark:
    """A sentence about the key ``about`` of an embodiment (empty: about all of it); ``check``: it was assumed."""

    about: str
    text: str
    check: bool = False

    def __str__(self) -> str:
        return _printable(f"{_CHECK if self.check else ''}{self.text}")


@dataclass(frozen=True)
class Proposal:
    """``measured`` says of each action channel what its limits and scale were fitted to.

    ``ticks`` is how many actions were measured and ``outside`` the share of them that the fitted limits exclude.
    """

    embodiment: Embodiment
    remarks: tuple[Remark, ...]
    ticks: int
    outside: float
    measured: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """All remarks as lines; those about something assumed start with "check:"."""
        return tuple(str(remark) for remark in self.remarks)

    def to_yaml(self) -> str:
        """YAML that ``load_embodiment`` reads back to an equal embodiment, with the remarks as comments."""
        lines = self._comments("")
        for key, value in self.embodiment.to_dict().items():
            lines += self._comments(key)
            if isinstance(value, list) and value:
                lines.append(f"{key}:")
                lines += [f"  - {_flow(item)}{self._tail(key, item)}" for item in value]
            elif isinstance(value, dict):
                lines += [f"{key}: {_flow(value)}"]
            else:
                lines.append(yaml.safe_dump({key: value}, width=1 << 20).rstrip("\n"))
        return "\n".join(lines)

    def _comments(self, key: str) -> list[str]:
        told = [str(remark) for remark in self.remarks if remark.about == key]
        found = [
            line for text in told for line in textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="#   ")
        ]
        return ["", *found] if found and key else found

    def _tail(self, key: str, item: Mapping[str, Any]) -> str:
        text = self.measured.get(str(item["name"]), "") if key == "channels" else ""
        return f"  # {_printable(text)}" if text else ""


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=1 << 20).rstrip("\n")


def _printable(text: str) -> str:
    """One line without what YAML forbids: names of topics and joints are somebody else's."""
    return "".join(c if c.isprintable() and ord(c) < 0xD800 else " " for c in text)
