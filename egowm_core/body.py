"""What a camera may see of the robot's own body, as data: chains of capsules on joints, in the embodiment's YAML.

Lengths in m, REP-103 axes (x forward, y left, z up), all in the frame that the chains and the camera's neck are fixed
to. Knows names of joints; knows no picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from egowm_core.errors import ConfigError
from egowm_core.schema import plain_fields, read_fields

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
MOST_LINKS = 64


@dataclass(frozen=True, kw_only=True)
class Link:
    """A capsule of ``length`` and ``radius``, straight down (-z) from its joints, of colour ``rgb`` (0..255).

    ``joints``: channel names to axes (x, y, z, or -x, -y, -z), turned in this order.
    """

    length: float
    radius: float
    rgb: tuple[float, ...]
    joints: dict[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rgb", tuple(float(value) for value in self.rgb))
        if not (math.isfinite(self.length) and self.length >= 0 and math.isfinite(self.radius) and self.radius > 0):
            raise ConfigError(f"own_body: a link of length {self.length} and radius {self.radius}; expected metres")
        if len(self.rgb) != 3:
            raise ConfigError(f"own_body: rgb {list(self.rgb)}; expected three numbers, 0 to 255")
        check_axes(self.joints)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Links one after the other from ``at`` (3,) on."""

    at: tuple[float, ...]
    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", check_place(self.at, "a chain's at"))


@dataclass(frozen=True, kw_only=True)
class OwnBody:
    """``neck`` (3,) is where the camera's ``neck_joints`` turn, ``camera`` (3,) where it is from there.

    The camera's own pitch is the embodiment's (``pitch_deg``), on top of the neck's.
    """

    neck: tuple[float, ...]
    camera: tuple[float, ...]
    neck_joints: dict[str, str] = field(hash=False)
    chains: tuple[Chain, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "neck", check_place(self.neck, "neck"))
        object.__setattr__(self, "camera", check_place(self.camera, "camera"))
        check_axes(self.neck_joints)
        if not 1 <= sum(len(chain.links) for chain in self.chains) <= MOST_LINKS:
            raise ConfigError(f"own_body: expected 1 to {MOST_LINKS} links")

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of all joints that matter, each once."""
        names = dict.fromkeys(self.neck_joints)
        for chain in self.chains:
            for link in chain.links:
                names.update(dict.fromkeys(link.joints))
        return tuple(names)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; ``from_dict`` brings it back."""
        chains = [{"at": list(c.at), "links": [plain_fields(link) for link in c.links]} for c in self.chains]
        return {**plain_fields(self), "chains": chains}

    @classmethod
    def from_dict(cls, data: Any) -> OwnBody:
        """Raises ConfigError on unknown, missing or ill-typed keys."""
        values = read_fields(cls, data, "own_body")
        chains = []
        for number, item in enumerate(values["chains"]):
            where = f"own_body.chains[{number}]"
            chain = read_fields(Chain, item, where)
            links = [Link(**read_fields(Link, link, f"{where}.links[{i}]")) for i, link in enumerate(chain["links"])]
            chains.append(Chain(at=chain["at"], links=tuple(links)))
        return cls(**{**values, "chains": tuple(chains)})


def check_place(value: Any, what: str) -> tuple[float, ...]:
    """A place (3,) in m. Raises ConfigError."""
    if len(value) != 3 or not all(isinstance(item, int | float) and math.isfinite(item) for item in value):
        raise ConfigError(f"own_body: {what} is {value!r}; expected three numbers in m")
    return tuple(float(item) for item in value)


def check_axes(joints: Any) -> None:
    """Joint names to axes. Raises ConfigError."""
    if not isinstance(joints, Mapping) or not all(str(axis).removeprefix("-") in AXES for axis in joints.values()):
        raise ConfigError(
            f"own_body: joints {joints!r}; expected channel names, each with an axis x, y, z, -x, -y or -z"
        )
