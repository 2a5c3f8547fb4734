"""What a robot is, as data: ordered action channels with units, limits and scales, rate, sources and cameras.

Reads and writes the embodiment YAML, packs named values into action vectors and refuses actions or robots that
disagree. It knows no message, no model and no recording.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from egowm_core.body import OwnBody
from egowm_core.channels import ActionTopic, Camera, Channel, StateChannel
from egowm_core.errors import ConfigError, EmbodimentError
from egowm_core.schema import nearest, plain_fields, read_fields
from egowm_core.types import FloatArray

INTEGRATIONS = ("se2", "se3", "sum")
_INTEGRATED = {"se2": ("dx", "dy", "dyaw"), "se3": ("dx", "dy", "dz", "droll", "dpitch", "dyaw")}
_MAX_YAML_BYTES = 1 << 20
_LIMIT_SLACK = 1e-5  # of the range: float32 rounding is not a violation


@dataclass(frozen=True, kw_only=True)
class Embodiment:
    """A robot. ``channels`` are in the order of the action vector; ``rate_hz`` is the model's tick rate.

    ``further_sources`` are topics beside ``action_source`` that measure some of the channels or states, such as a
    gripper's joint beside the pose of the hand. ``own_body`` is what its first camera may see of the robot itself.
    """

    name: str
    base_frame: str
    rate_hz: float
    integrate: str
    action_source: ActionTopic
    channels: tuple[Channel, ...]
    states: tuple[StateChannel, ...] = field(default=())
    cameras: tuple[Camera, ...] = field(default=())
    further_sources: tuple[ActionTopic, ...] = field(default=())
    own_body: OwnBody | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_hz) and 0 < self.rate_hz <= 1000):
            raise ConfigError(f"embodiment {self.name!r}: rate_hz {self.rate_hz} must lie in (0, 1000]")
        if self.integrate not in INTEGRATIONS:
            raise ConfigError(
                f"embodiment {self.name!r}: integrate {self.integrate!r} is not one of {', '.join(INTEGRATIONS)}"
            )
        if not self.channels:
            raise ConfigError(f"embodiment {self.name!r} has no action channels; list at least one under `channels`")
        groups: list[Sequence[Channel | StateChannel | Camera]] = [self.channels, self.states, self.cameras]
        for what, group in zip(("channel", "state", "camera"), groups, strict=True):
            names = [item.name for item in group]
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ConfigError(f"embodiment {self.name!r}: {what} {repeated[0]!r} is listed twice; names are unique")
        expected = _INTEGRATED.get(self.integrate)
        if expected is not None and len(self.channels) != len(expected):
            raise ConfigError(
                f"embodiment {self.name!r}: integrate {self.integrate} needs the channels {', '.join(expected)} in this"
                f" order, got {', '.join(self.channel_names)}; use integrate: sum for other actions"
            )

    @property
    def action_dim(self) -> int:
        """D, the number of action channels."""
        return len(self.channels)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Channel names in the order of the action vector."""
        return tuple(channel.name for channel in self.channels)

    @property
    def scales(self) -> NDArray[np.float64]:
        """(D,) divisor of each channel."""
        return np.array([channel.scale for channel in self.channels], np.float64)

    @property
    def limits(self) -> NDArray[np.float64]:
        """(D,2) lowest and highest value of each channel."""
        return np.array([channel.limits for channel in self.channels], np.float64)

    @property
    def period_ns(self) -> int:
        """Nanoseconds between two ticks."""
        return round(1e9 / self.rate_hz)

    def camera(self, name: str | None = None) -> Camera:
        """The camera of this name, or the first. Raises EmbodimentError where there is none."""
        for camera in self.cameras:
            if name is None or camera.name == name:
                return camera
        known = [camera.name for camera in self.cameras]
        raise EmbodimentError(f"embodiment {self.name!r} has no camera {name or ''!r}; it has {known}")

    def pack(self, values: Mapping[str, ArrayLike]) -> FloatArray:
        """Named values, each () or (T,), to an action array (D,) or (T,D) float32 in channel order.

        Raises EmbodimentError on a missing or unknown channel name, or on values of unequal length.
        """
        for name in values:
            if name not in self.channel_names:
                raise EmbodimentError(
                    f"embodiment {self.name!r} has no channel {name!r}{nearest(name, self.channel_names)}"
                )
        if missing := [name for name in self.channel_names if name not in values]:
            raise EmbodimentError(
                f"channel {missing[0]!r} of embodiment {self.name!r} has no value;"
                f" give all of {list(self.channel_names)}"
            )
        columns = [np.asarray(values[name], np.float32) for name in self.channel_names]
        if len({column.shape for column in columns}) != 1 or columns[0].ndim > 1:
            shapes = {name: column.shape for name, column in zip(self.channel_names, columns, strict=True)}
            raise EmbodimentError(f"channels to pack must all be scalars or all (T,), got {shapes}")
        return np.stack(columns, axis=-1)

    def unpack(self, values: ArrayLike) -> dict[str, FloatArray]:
        """Action array (...,D) to named arrays (...). Raises EmbodimentError when D differs."""
        array = np.asarray(values, np.float32)
        if array.ndim == 0 or array.shape[-1] != self.action_dim:
            raise EmbodimentError(
                f"actions of {self.name!r} end in {self.action_dim} channels"
                f" {list(self.channel_names)}, got shape {array.shape}"
            )
        return {name: array[..., i] for i, name in enumerate(self.channel_names)}

    def validate_actions(self, values: ArrayLike) -> FloatArray:
        """Actions (T,D) as float32, checked to be finite and inside every channel's limits.

        Raises EmbodimentError naming the first offending channel, its row, value, limits and the likely remedy.
        """
        array = np.asarray(values, np.float64)
        if array.ndim != 2 or array.shape[1] != self.action_dim:
            raise EmbodimentError(
                f"actions of {self.name!r} are (T,{self.action_dim}) in the order"
                f" {list(self.channel_names)}, got shape {array.shape}"
            )
        for row, column in zip(*np.nonzero(self._outside(array)), strict=True):
            channel, value = self.channels[column], array[row, column]
            low, high = channel.limits
            where = f"channel {channel.name!r} row {row}: value {value:g} {channel.unit}"
            if not math.isfinite(value):
                raise EmbodimentError(
                    f"{where} is not finite; expected {low:g}..{high:g}; check the source of the actions"
                )
            raise EmbodimentError(
                f"{where} is outside its limits {low:g}..{high:g}; {_excess_hint(value, channel, self.rate_hz)}"
            )
        return array.astype(np.float32)

    def within_limits(self, values: ArrayLike) -> bool:
        """Whether every value of (...,D) is finite and inside its channel's limits (rounding forgiven)."""
        return not bool(self._outside(np.asarray(values, np.float64)).any())

    def _outside(self, array: NDArray[np.float64]) -> NDArray[np.bool_]:
        low, high = self.limits[:, 0], self.limits[:, 1]
        slack = _LIMIT_SLACK * (high - low)
        return ~((array >= low - slack) & (array <= high + slack))

    def with_rate(self, rate_hz: float) -> Embodiment:
        """The same robot ticking at another rate: limits and scales of delta channels stretch with the period."""
        if not (math.isfinite(rate_hz) and rate_hz > 0):
            raise ConfigError(f"rate_hz {rate_hz} must be a positive number")
        if rate_hz == self.rate_hz:
            return self
        stretch = self.rate_hz / rate_hz
        channels = tuple(
            replace(c, limits=(c.limits[0] * stretch, c.limits[1] * stretch), scale=c.scale * stretch)
            if c.kind == "delta"
            else c
            for c in self.channels
        )
        return replace(self, rate_hz=float(rate_hz), channels=channels)

    def with_camera_size(self, height: int, width: int) -> Embodiment:
        """The same robot whose first camera is seen at this size in pixels (cropped to its aspect, then resized)."""
        first = replace(self.camera(), height=height, width=width)
        return replace(self, cameras=(first, *self.cameras[1:]))

    def differences(self, other: Embodiment) -> list[str]:
        """What keeps ``other``'s actions from being this robot's, one line each; empty when they agree."""
        found: list[str] = []
        mine, theirs = self.channel_names, other.channel_names
        found += [f"channel {name!r} is missing" for name in mine if name not in theirs]
        found += [f"channel {name!r} is not expected" for name in theirs if name not in mine]
        if not found and mine != theirs:
            found.append(f"channels are reordered: expected {list(mine)}, got {list(theirs)}")
        by_name = {channel.name: channel for channel in other.channels}
        for channel in self.channels:
            if (twin := by_name.get(channel.name)) is None:
                continue
            for key in ("unit", "kind"):
                if getattr(channel, key) != getattr(twin, key):
                    found.append(
                        f"{key} of {channel.name!r}: expected {getattr(channel, key)}, got {getattr(twin, key)}"
                    )
            if not math.isclose(channel.scale, twin.scale, rel_tol=1e-6):
                found.append(f"scale of {channel.name!r}: expected {channel.scale:g}, got {twin.scale:g}")
        if not math.isclose(self.rate_hz, other.rate_hz, rel_tol=1e-6):
            found.append(f"rate: expected {self.rate_hz:g} Hz, got {other.rate_hz:g} Hz")
        if self.integrate != other.integrate:
            found.append(f"integrate: expected {self.integrate}, got {other.integrate}")
        if (expected := [s.name for s in self.states]) != (got := [s.name for s in other.states]):
            found.append(f"states: expected {expected}, got {got}")
        return found

    def require_same(self, other: Embodiment) -> None:
        """Raise EmbodimentError listing every difference in channels, order, units, scales, rate or states."""
        if found := self.differences(other):
            raise EmbodimentError(
                f"embodiment {other.name!r} does not fit {self.name!r}: {'; '.join(found)}."
                f" Use the embodiment the model or dataset was made with, or convert and train anew"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; ``from_dict`` brings it back."""
        return {
            "name": self.name,
            "base_frame": self.base_frame,
            "rate_hz": self.rate_hz,
            "integrate": self.integrate,
            "action_source": plain_fields(self.action_source),
            **({"further_sources": [plain_fields(s) for s in self.further_sources]} if self.further_sources else {}),
            "channels": [plain_fields(channel) for channel in self.channels],
            "states": [plain_fields(state) for state in self.states],
            "cameras": [plain_fields(camera) for camera in self.cameras],
            **({"own_body": self.own_body.to_dict()} if self.own_body else {}),
        }

    def to_yaml(self) -> str:
        """The YAML text that ``load_embodiment`` reads back to an equal Embodiment."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=120)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Embodiment:
        """Raises ConfigError on unknown (nearest name given), missing or ill-typed keys."""
        values = read_fields(cls, data, "embodiment")
        values["action_source"] = ActionTopic(**read_fields(ActionTopic, values["action_source"], "action_source"))
        values["further_sources"] = tuple(
            ActionTopic(**read_fields(ActionTopic, item, f"further_sources[{i}]"))
            for i, item in enumerate(values.get("further_sources", ()))
        )
        values["channels"] = tuple(
            Channel(**read_fields(Channel, item, f"channels[{i}]")) for i, item in enumerate(values["channels"])
        )
        values["states"] = tuple(
            StateChannel(**read_fields(StateChannel, item, f"states[{i}]"))
            for i, item in enumerate(values.get("states", ()))
        )
        values["cameras"] = tuple(
            Camera(**read_fields(Camera, item, f"cameras[{i}]")) for i, item in enumerate(values.get("cameras", ()))
        )
        if values.get("own_body") is not None:
            values["own_body"] = OwnBody.from_dict(values["own_body"])
        return cls(**values)

    @classmethod
    def from_yaml(cls, text: str, *, where: str = "embodiment YAML") -> Embodiment:
        """Parse YAML text; ``where`` names it in errors. Raises ConfigError."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{where} is not valid YAML: {error}; compare with the built-in base_3dof.yaml"
            ) from error
        try:
            return cls.from_dict(data)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error


def builtin_embodiments() -> tuple[str, ...]:
    """Names of the embodiments shipped with the package."""
    folder = resources.files("egowm_core.embodiments")
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_embodiment(name_or_path: str | Path) -> Embodiment:
    """A built-in embodiment by name, or one from a YAML file.

    Raises ConfigError on an unknown name (nearest one given), an unreadable file or bad contents.
    """
    text_name = str(name_or_path)
    if isinstance(name_or_path, Path) or text_name.endswith((".yaml", ".yml")) or "/" in text_name:
        path = Path(name_or_path)
        try:
            if path.stat().st_size > _MAX_YAML_BYTES:
                raise ConfigError(f"embodiment file {path} is over {_MAX_YAML_BYTES} bytes; it cannot be an embodiment")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read embodiment file {path}: {error}; give a readable YAML file") from error
        return Embodiment.from_yaml(text, where=str(path))
    names = builtin_embodiments()
    if text_name not in names:
        raise ConfigError(
            f"no built-in embodiment {text_name!r}{nearest(text_name, names)};"
            f" built in: {', '.join(names)}; or give a .yaml path"
        )
    text = (resources.files("egowm_core.embodiments") / f"{text_name}.yaml").read_text(encoding="utf-8")
    return Embodiment.from_yaml(text, where=f"{text_name}.yaml")


def _excess_hint(value: float, channel: Channel, rate_hz: float) -> str:
    if channel.kind == "delta" and any(low <= value / rate_hz <= high for low, high in [channel.limits]):
        return f"it looks like a rate in {channel.unit}/s: deltas are per tick, divide by {rate_hz:g} Hz"
    return f"give {channel.unit} {'per tick' if channel.kind == 'delta' else ''}, not raw or normalised values".replace(
        "  ", " "
    )
