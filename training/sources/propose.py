"""An embodiment for a robot that nobody has described yet, proposed from one recording of it.

Chooses camera and motion by type and name, a rate by the images' own, and fits limits and scales to the motion as the
converter would measure it. It sees numbers, never units: what it had to assume is marked "check:". Reads a bounded
number of messages from the start of the recording and decodes one picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from egowm_core.channels import Camera
from egowm_core.data.bag import base_name, candidates, describe
from egowm_core.data.jitter import SourceStats
from egowm_core.data.messages import MotionValue
from egowm_core.data.motion import Motion
from egowm_core.data.sync import TickSynchronizer
from egowm_core.data.values import (
    IMAGE_TYPES,
    JOINT_STATE,
    ODOMETRY,
    POSE_STAMPED,
    TWIST_TYPES,
    ImageValue,
    Recording,
    Stamped,
    Topic,
)
from egowm_core.errors import DataError, EgowmError
from egowm_core.types import FloatArray
from training.sources.drafts import Draft, Survey, draft
from training.sources.fitting import fit_channels, fit_states, moves, unit_remarks
from training.sources.proposal import Proposal, Remark

__all__ = ["Proposal", "propose_embodiment"]

_KINDS = {ODOMETRY: 0, JOINT_STATE: 1, **dict.fromkeys(TWIST_TYPES, 2), POSE_STAMPED: 3}  # by how well they measure
_COMMANDS = {"cmd", "command", "commands", "commanded", "target", "targets", "desired", "goal", "goals", "reference"}
_COMMANDS |= {"setpoint", "setpoints", "action", "actions", "plan", "planned", "truth", "gt"}  # or a simulator's truth
_NO_CAMERA = {"mask", "segmentation", "labels", "disparity", "infra", "infra1", "infra2", "ir", "debug", "costmap"}
_FRONT = {"front", "head", "ego", "forward"}
_FILLERS = {"image", "images", "raw", "rect", "color", "colour", "rgb", "compressed", "observation", "camera", "cam"}
_RATE_HZ = 5.0  # what is aimed at: the built-in embodiments tick at 4 to 5 Hz
_ROWS, _MULTIPLE, _WIDEST = 96, 16, 512  # of the model's picture
_MAX_TRIED = 6  # topics of a kind of which one is looked for
_SURVEYED = 3_000  # messages for rates and names
_MAX_IMAGES, _MAX_MESSAGES = 2_000, 20_000  # for the fit
_MAX_PICTURES = 8  # that are tried until one can be decoded
_WIDE = 1e12  # limits that exclude nothing
_MOTION = get_args(MotionValue)
_BLANK = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class _Seen:
    """A camera topic and what one picture of it tells."""

    topic: Topic
    height: int
    width: int
    frame: str


@dataclass(frozen=True)
class _Measured:
    """A draft, the actions (N,D) that the recording has by it, and its largest states (S,)."""

    draft: Draft
    actions: NDArray[np.float64]
    largest_state: NDArray[np.float64]
    remarks: tuple[Remark, ...]


def propose_embodiment(recording: Recording, *, name: str | None = None) -> Proposal:
    """An embodiment that converts this very recording, named after it where no ``name`` is given.

    Raises DataError where there is no picture or no motion to propose one from, saying what was found.
    """
    seen, about_camera = _camera(recording)
    found, about_motion = _motion(recording, seen)
    drafted = replace(found.draft.embodiment, name=_identifier(name or recording.name))
    if drafted.states:
        drafted = fit_states(drafted, found.largest_state)
    fitted = fit_channels(drafted, found.actions)
    remarks = [
        Remark("", f"Proposed from the recording {recording.name!r}. Mend what the lines with 'check' are about."),
        *(Remark("", line, check=True) for line in recording.damage),
        *about_motion,
        *found.remarks,
        *fitted.remarks,
        *unit_remarks(fitted.embodiment, found.actions, found.largest_state),
        *about_camera,
    ]
    return Proposal(fitted.embodiment, tuple(remarks), len(found.actions), fitted.outside, fitted.measured)


# ---- the camera -----------------------------------------------------------------------------------------------------


def _camera(recording: Recording) -> tuple[_Seen, list[Remark]]:
    """The camera that the robot sees by. Raises DataError where no image topic can be decoded."""
    found = sorted(candidates(recording.topics, IMAGE_TYPES), key=_camera_rank)
    failed: list[str] = []
    for topic in found[:_MAX_TRIED]:
        seen, why = _look(recording, topic)
        if seen is None:
            failed.append(f"{topic.name}: {why}")
            continue
        others = [other for other in found if other is not topic]
        remarks = [Remark("cameras", f"Recorded: {topic.name}, {seen.height}x{seen.width} pixels (height x width).")]
        if others:
            remarks.append(Remark("cameras", f"there are other cameras: {describe(others)}", check=True))
        if not seen.frame:
            remarks.append(Remark("cameras", "no frame_id was recorded, optical_frame is assumed", check=True))
        return seen, remarks
    raise DataError(
        f"recording {recording.name!r} has no camera to propose an embodiment for"
        f" ({'; '.join(failed) or 'no image topic'}); it has {describe(recording.topics.values())}"
    )


def _camera_rank(topic: Topic) -> tuple[bool, bool, int, str]:
    words = _words(topic.name)
    return bool(words & _NO_CAMERA), not words & _FRONT, -topic.count, topic.name


def _look(recording: Recording, topic: Topic) -> tuple[_Seen | None, str]:
    why = "none could be read"
    try:
        for item in _head(recording, [topic.name], _MAX_PICTURES):
            if not isinstance(item.value, ImageValue):
                continue
            try:
                height, width = item.value.decode().shape[:2]
            except DataError as error:
                why = str(error)
                continue
            frame = getattr(getattr(item.value.message, "header", None), "frame_id", "")
            return _Seen(topic, height, width, str(frame).strip("/")), ""
    except DataError as error:
        why = str(error)
    return None, why


def _model_camera(seen: _Seen) -> Camera:
    """96 rows and the picture's aspect, in whole multiples of 16 columns."""
    columns = round(_ROWS * seen.width / seen.height / _MULTIPLE) * _MULTIPLE
    topic = base_name(seen.topic.name).strip("/")
    told = [word for part in re.split(r"[/.]", topic) if (word := _without_fillers(part))]
    return Camera(
        name=told[-1] if told else "front",
        topic=topic,
        optical_frame=seen.frame or "camera_optical_frame",
        height=_ROWS,
        width=min(max(columns, _MULTIPLE), _WIDEST),
    )


def _without_fillers(part: str) -> str:
    return "_".join(word for word in re.findall(r"[a-z0-9]+", part.lower()) if word not in _FILLERS)


# ---- the motion -----------------------------------------------------------------------------------------------------


def _motion(recording: Recording, seen: _Seen) -> tuple[_Measured, list[Remark]]:
    """The first topic by kind and name that moves, else the first that was measured at all. Raises DataError."""
    found = sorted(candidates(recording.topics, tuple(_KINDS)), key=_motion_rank)
    failed: list[str] = []
    still: list[tuple[Topic, _Measured]] = []
    for topic in found[:_MAX_TRIED]:
        try:
            measured = _measure(recording, seen, topic)
        except EgowmError as error:  # an absurd rate makes no embodiment
            failed.append(f"{topic.name}: {error}")
            continue
        if moves(measured.actions):
            return measured, _about_motion(topic, found, [quiet for quiet, _ in still], failed)
        still.append((topic, measured))
    if not still:
        raise DataError(
            f"recording {recording.name!r} has no motion to propose an embodiment for"
            f" ({'; '.join(failed) or 'no odometry, joints, twist or pose'}); it has"
            f" {describe(recording.topics.values())}"
        )
    return still[0][1], _about_motion(still[0][0], found, [quiet for quiet, _ in still], failed)


def _motion_rank(topic: Topic) -> tuple[int, bool, bool, int, str]:
    return _KINDS[topic.type], bool(_words(topic.name) & _COMMANDS), bool(topic.custom), -topic.count, topic.name


def _about_motion(chosen: Topic, found: list[Topic], quiet: list[Topic], failed: list[str]) -> list[Remark]:
    lines = []
    if chosen in quiet:
        lines.append("nothing moves in what was read, so the scales are assumed: propose one from another recording")
    elif quiet:
        lines.append(f"passed over, as nothing moves: {describe(quiet)}")
    lines += [f"passed over: {why}" for why in failed]
    if _words(chosen.name) & _COMMANDS and chosen.type not in TWIST_TYPES:
        lines.append("its name is that of a command or a simulator's truth, not of a measurement")
    if others := [topic for topic in found if topic is not chosen and topic not in quiet]:
        lines.append(f"other topics tell of motion: {describe(others)}")
    return [Remark("action_source", line, check=True) for line in lines]


def _measure(recording: Recording, seen: _Seen, topic: Topic) -> _Measured:
    """What the recording's actions are when this topic measures them. Raises DataError where there are none."""
    survey = _survey(recording, seen.topic, topic)
    rate_hz, about_rate = _rate(survey)
    made = draft(topic, survey, rate_hz, camera=_model_camera(seen), limit=_WIDE)
    actions: list[FloatArray] = []
    sync = TickSynchronizer.for_embodiment(made.embodiment, on_action=actions.append)
    motion = Motion(made.embodiment, sync)
    first_ns: int | None = None
    last_ns = 0
    for item in _head(recording, [seen.topic.name, topic.name], _MAX_MESSAGES):
        first_ns, last_ns = item.stamp_ns if first_ns is None else first_ns, item.stamp_ns
        if isinstance(item.value, _MOTION):
            motion.add(item.stamp_ns, item.value, topic=item.topic)
        elif isinstance(item.value, ImageValue):
            sync.add_image(item.stamp_ns, _BLANK)
            if sync.images_in >= _MAX_IMAGES:
                break
    motion.finish()
    sync.finish()
    if not actions:
        why = ", ".join(f"{reason.value} {count}" for reason, count in sync.drops.items()) or "too few pictures"
        raise DataError(f"it measures nothing between two of {sync.images_in} pictures of {seen.topic.name} ({why})")
    remarks = [*about_rate, *made.remarks, *(Remark("channels", line, check=True) for line in motion.problems())]
    seconds = (last_ns - (first_ns or 0)) * 1e-9
    if seconds < 0.9 * recording.duration_s:
        text = f"of {recording.duration_s:.0f} s only the first {seconds:.0f} s were read"
        remarks.append(Remark("channels", text, check=True))
    largest = np.zeros(0) if sync.largest_state is None else np.asarray(sync.largest_state, np.float64)
    return _Measured(made, np.asarray(actions, np.float64), largest, tuple(remarks))


def _survey(recording: Recording, image: Topic, motion: Topic) -> Survey:
    survey = Survey(SourceStats(10**12), SourceStats(10**12))
    for item in _head(recording, [image.name, motion.name], _SURVEYED):
        if item.topic == motion.name and isinstance(item.value, _MOTION):
            survey.add_motion(item.stamp_ns, item.value)
        elif item.topic == image.name:
            survey.images.add(item.stamp_ns)
    return survey


def _rate(survey: Survey) -> tuple[float, list[Remark]]:
    """The images' rate over a whole number, near 5 Hz, and not above what the motion is measured at."""
    rates = [stats.interval_s(0.5) for stats in (survey.images, survey.motion)]
    if rates[0] is None or rates[1] is None:
        raise DataError("it has less than two pictures or measurements with stamps that differ")
    images_hz, motion_hz = (_nominal(1.0 / interval) for interval in rates if interval)
    fewest = max(1, math.floor(images_hz / _RATE_HZ))
    every = min((fewest, fewest + 1), key=lambda n: abs(math.log(images_hz / n / _RATE_HZ)))
    every = max(every, math.ceil(images_hz / motion_hz - 0.1))
    remarks = [Remark("rate_hz", f"Pictures come at {images_hz:g} Hz, motion at {motion_hz:g} Hz.")]
    if images_hz / every < 3.5 or images_hz / every > 6.5:
        remarks.append(Remark("rate_hz", "4 to 6 Hz is usual; this is what the recording allows", check=True))
    rate_hz = float(f"{images_hz / every:.6g}")
    remarks.append(Remark("rate_hz", "Every picture is used." if every == 1 else f"One picture in {every} is used."))
    return rate_hz, remarks


def _nominal(rate_hz: float) -> float:
    """The whole number that was meant, where it is within 2 %, else three digits."""
    return float(round(rate_hz)) if abs(rate_hz - round(rate_hz)) < 0.02 * rate_hz else float(f"{rate_hz:.3g}")


# ---- words and messages ---------------------------------------------------------------------------------------------


def _head(recording: Recording, topics: list[str], count: int) -> Iterator[Stamped]:
    """The first values of some topics."""
    return islice(recording.read(topics), count)


def _words(topic: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", topic.lower()))


def _identifier(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "my_robot"
