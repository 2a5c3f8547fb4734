"""The robot's state: its names, and as a model's initial state (Z_s's input) scaled and carried on by actions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from egowm_core.data.measured import FIELDS, POSE_FIELDS, motion_sources
from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.types import FloatArray

_RIGID = {"se2": ("x", "y", "yaw"), "se3": POSE_FIELDS}


def state_names(embodiment: Embodiment) -> tuple[str, ...]:
    """Names of what a tick's ``state`` holds, in order.

    The embodiment's states; where it lists none, the pose for se2 and se3, else what its channels are measured by: the
    pose's field (x of a channel dx), or the channel's own name.
    """
    if embodiment.states:
        return tuple(state.name for state in embodiment.states)
    if embodiment.integrate in _RIGID:
        return _RIGID[embodiment.integrate]
    fields = {name for source in motion_sources(embodiment) for name in FIELDS.get(source.type, ())}
    names = tuple(c.source if c.source in POSE_FIELDS and c.source in fields else c.name for c in embodiment.channels)
    return names if len(set(names)) == len(names) else embodiment.channel_names


def normalize_state(state: ArrayLike, embodiment: Embodiment) -> FloatArray:
    """State (B,S) in units to about [-1,1] float32: each channel over its scale.

    Raises:
        EmbodimentError: another number of channels than the embodiment's states.
    """
    values = np.asarray(state, np.float64)
    names = [channel.name for channel in embodiment.states]
    if values.ndim != 2 or values.shape[1] != len(names):
        raise EmbodimentError(
            f"the state of {embodiment.name!r} is (B,{len(names)}) in the order {names}, got shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise EmbodimentError(f"the state of {embodiment.name!r} is not finite; check the source of the joint states")
    scaled: FloatArray = (values / np.array([channel.scale for channel in embodiment.states])).astype(np.float32)
    return scaled


def integrate_state(state: ArrayLike, actions: ArrayLike, embodiment: Embodiment) -> FloatArray:
    """The state (B,S) after ``actions`` (B,T,D), both in units.

    A state channel follows the action channel of its name: deltas are added up, velocities and absolute values replace
    it; one that no action moves stays. Later chunks of a rollout thus start from what was asked for, never from a
    recorded future.
    """
    values, moves = np.array(state, np.float32), np.asarray(actions, np.float32)
    column = {channel.name: index for index, channel in enumerate(embodiment.channels)}
    for index, channel in enumerate(embodiment.states):
        if (source := column.get(channel.name)) is None:
            continue
        if embodiment.channels[source].kind == "delta":
            values[:, index] += moves[:, :, source].sum(axis=1)
        else:
            values[:, index] = moves[:, -1, source]
    return values
