"""Experiment trackers, as accelerate has them: a name checked before the run, pictures where a tracker shows them."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from egowm_core.errors import ConfigError
from egowm_core.schema import nearest
from egowm_core.types import ImageArray

NONE = "none"


def checked_tracker(name: str) -> str | None:
    """The tracker to give accelerate, None for none.

    Raises:
        ConfigError: accelerate has none of this name, or its package is not installed.
    """
    if name == NONE:
        return None
    known = sorted(LOGGER_TYPE_TO_CLASS)
    if name not in known:
        raise ConfigError(f"tracker {name!r}{nearest(name, known)}; there are: {NONE}, {', '.join(known)}")
    if name not in map(str, get_available_trackers()):  # accelerate itself would train on in silence
        raise ConfigError(f"tracker {name} is not installed; pip install {name.replace('_', '-')}, or use {NONE}")
    return name


def start_tracking(accelerator: Accelerator, name: str, settings: dict[str, Any], *, step: int) -> None:
    """Open the trackers for a run that goes on at ``step``; what an interrupted one had logged beyond it is dropped."""
    if not accelerator.log_with:
        return
    values = {key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in settings.items()}
    accelerator.init_trackers(name, config=values, init_kwargs={"tensorboard": {"purge_step": step}})


def log_picture(accelerator: Accelerator, name: str, picture: ImageArray, *, step: int) -> None:
    """Show ``picture`` (H,W,3) uint8 in every tracker that shows pictures."""
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            tracker.log_images({name: picture[None]}, step=step, **_options(tracker.name))


def _options(tracker: str) -> dict[str, Any]:
    """SummaryWriter takes channels first unless it is told."""
    return {"dataformats": "NHWC"} if tracker == "tensorboard" else {}
