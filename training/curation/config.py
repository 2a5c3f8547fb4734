"""How strictly recordings are curated: a YAML file, or a preset by name, into a checked value."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from egowm_core.errors import ConfigError
from egowm_core.schema import nearest, read_fields

_PREFIX = "curate_"
_MAX_YAML_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """Limits; a filter whose limit is None is off. Levels are grey values of 0..255, scales those of the channels.

    A tick's motion is the largest of its channels' |action| over scale; of an ``absolute`` channel, whose value says
    nothing of motion, the change of the action.
    """

    split_at_cuts: bool = False
    cut_tracked_share: float = 0.3  # fewer corners than this found again, and less of the colours in common than
    cut_colour_overlap: float = 0.72  # this: another scene
    cut_sudden_share: float = 0.18  # or: almost no corner found again, where before and after most of them are

    pause_s: float | None = None  # standing still for longer is cut out
    pause_motion_scales: float = 0.05  # below it, the robot stands still

    frozen_s: float | None = None  # a picture that stays the same for longer, while the robot moves
    frozen_change_levels: float = 0.25  # a thumbnail's mean change up to which a picture is the same
    frozen_motion_scales: float = 1.0  # summed up over the time: at least this, else it is not moving

    min_brightness_levels: float | None = None  # mean of the picture
    max_brightness_levels: float | None = None
    max_saturated_share: float | None = None  # of the pixels, at 250 or above
    min_contrast_levels: float | None = None  # standard deviation of the picture
    min_sharpness_share: float | None = None  # of the recording's own running median

    min_episode_motion_scales: float | None = None  # mean over an episode's ticks
    min_episode_contrast_levels: float | None = None

    duplicate_similarity: float | None = None  # cosine of two episodes' embeddings from which the later one is dropped

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None or isinstance(value, bool):
                continue
            highest = 1.0 if item.name.endswith(("_share", "_overlap", "_similarity")) else math.inf
            if not (math.isfinite(value) and 0 <= value <= highest):
                upper = "a number from 0 on" if highest == math.inf else "a number from 0 to 1"
                raise ConfigError(f"curation: {item.name} is {value}; expected {upper}, or null to turn it off")


def curation_presets() -> tuple[str, ...]:
    """Names of the presets shipped with the package."""
    names = (item.name for item in resources.files("training.configs").iterdir())
    return tuple(sorted(n.removeprefix(_PREFIX)[:-5] for n in names if n.startswith(_PREFIX) and n.endswith(".yaml")))


def load_curation(name_or_path: str | Path) -> CurationConfig:
    """A preset by name, or a YAML file.

    Raises ConfigError on an unknown name (nearest one given), an unreadable file, unknown keys or values out of range.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name_or_path)
        try:
            if path.stat().st_size > _MAX_YAML_BYTES:
                raise ConfigError(f"curation file {path} is over {_MAX_YAML_BYTES} bytes; it cannot be a configuration")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read curation file {path}: {error}; give a readable YAML file") from error
        return _parsed(text, str(path))
    presets = curation_presets()
    if name not in presets:
        raise ConfigError(
            f"no curation preset {name!r}{nearest(name, presets)}; there are {', '.join(presets)}; or give a .yaml path"
        )
    file = f"{_PREFIX}{name}.yaml"
    return _parsed((resources.files("training.configs") / file).read_text(encoding="utf-8"), file)


def _parsed(text: str, where: str) -> CurationConfig:
    try:
        values: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}; compare with curate_standard.yaml") from error
    try:
        return CurationConfig(**read_fields(CurationConfig, {} if values is None else values, "curation"))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
