"""The parts of an embodiment: action and state channels, where actions are measured, cameras. They check themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass

from egowm_core.errors import ConfigError

CHANNEL_KINDS = ("velocity", "delta", "absolute")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One action channel. ``limits`` and ``scale`` are in ``unit``, per tick for deltas.

    ``kind``: ``delta``, the change of the source from one tick to the next; ``velocity``, its mean over that time;
    ``absolute``, its value at the later tick. ``source`` names the joint or message field (x, y, z, roll, pitch, yaw of
    a pose; linear.x, linear.y, angular.z of a twist) that drives it, where that is not ``name`` itself.
    """

    name: str
    unit: str
    kind: str
    limits: tuple[float, float]
    scale: float
    source: str | None = None

    def __post_init__(self) -> None:
        where = f"channel {self.name!r}"
        if self.kind not in CHANNEL_KINDS:
            raise ConfigError(f"{where}: kind {self.kind!r} is not one of {', '.join(CHANNEL_KINDS)}")
        low, high = self.limits
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"{where}: limits {list(self.limits)} must be two finite numbers, low before high")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"{where}: scale {self.scale} must be a positive number that maps it to about [-1, 1]")


@dataclass(frozen=True, kw_only=True)
class StateChannel:
    """One channel of the robot's initial state (what its camera cannot see of it)."""

    name: str
    unit: str
    scale: float = 1.0
    source: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"state {self.name!r}: scale {self.scale} must be a positive number")


@dataclass(frozen=True, kw_only=True)
class ActionTopic:
    """Where executed actions are measured: a topic name and its ROS type."""

    topic: str
    type: str


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera and the picture the model gets of it; the geometry is optional.

    ``hfov_deg`` horizontal field of view, ``pitch_deg`` downwards positive, ``height_m`` above the floor and
    ``forward_m`` ahead of the base frame, all of the original camera. Where the actions aren't a planar base's own
    (``integrate: se2``) the last three say by which channels the body moves it: ``moves_forward`` a speed in m/s,
    ``turns_left`` speeds of the base in rad/s and joints between base and camera, ``tilts_down`` joints; of joints, all
    deltas in rad, the states know the position at the context frame.
    """

    name: str
    topic: str
    optical_frame: str
    height: int
    width: int
    hfov_deg: float | None = None
    pitch_deg: float | None = None
    height_m: float | None = None
    forward_m: float | None = None
    moves_forward: str | None = None
    turns_left: tuple[str, ...] | None = None
    tilts_down: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for group in ("turns_left", "tilts_down"):
            names = getattr(self, group)
            if names is not None and not all(isinstance(name, str) for name in names):
                raise ConfigError(f"camera {self.name!r}: {group} is {names!r}; expected a list of channel names")
            object.__setattr__(self, group, None if names is None else tuple(names))
        if not (0 < self.height <= 8192 and 0 < self.width <= 8192):
            raise ConfigError(f"camera {self.name!r}: size {self.height}x{self.width} must lie in 1..8192 pixels")
        if self.hfov_deg is not None and not 0 < self.hfov_deg < 180:
            raise ConfigError(f"camera {self.name!r}: hfov_deg {self.hfov_deg} must lie between 0 and 180")
