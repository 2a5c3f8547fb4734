"""Recorded rollouts of a world model against a recorded camera, as clips: frames pair by the times they predict.

Reads ``egowm_msgs/msg/Rollout`` by the definition that the bag carries, and the camera as the converter does: cropped
and resized as the model sees it. Rollouts of planned, held and executed actions are rows of their own. Knows no metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.bag import Bag, choose_topic
from egowm_core.data.containers import FILE_SUFFIXES, Container
from egowm_core.data.images import decode_image
from egowm_core.data.message_types import MessageType, MessageTypes
from egowm_core.data.messages import stamp_ns
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.values import IMAGE_TYPES, ImageValue
from egowm_core.errors import DataError
from egowm_core.schema import nearest
from egowm_core.types import NANOSECONDS_PER_SECOND, ImageArray, StampArray
from training.score.clip import Clip
from training.score.pairs import Notes

ROLLOUT = "egowm_msgs/msg/Rollout"
SOURCES = ("planned", "held", "executed")
_MAX_FRAMES = 4096  # of one rollout


@dataclass(frozen=True)
class _Recorded:
    """A rollout without its pictures: where it is in the bag, what it starts from and what it predicts."""

    number: int
    context_ns: int
    stamps_ns: StampArray
    source: str

    @property
    def wanted_ns(self) -> StampArray:
        return np.concatenate([[self.context_ns], self.stamps_ns])

    @property
    def tick_ns(self) -> int:
        return int(np.median(np.diff(self.wanted_ns)))


def is_bag(path: Path) -> bool:
    """Whether a path is a recording rather than a video or a folder of them."""
    if path.is_file():
        return path.suffix in FILE_SUFFIXES
    return path.is_dir() and ((path / "metadata.yaml").is_file() or any(path.glob("*.mcap")) or any(path.glob("*.db3")))


def load_rollouts(
    predicted: Path,
    observed: Path,
    notes: Notes,
    *,
    horizon: int,
    count: int = 64,
    sources: tuple[str, ...] = SOURCES,
    rollout_topic: str | None = None,
    image_topic: str | None = None,
) -> list[Clip]:
    """Up to ``count`` clips a source, evenly over the recording, of rollouts that were observed to ``horizon`` frames.

    The camera's picture of a frame is the nearest within a quarter of a tick. Rollouts that reach beyond the recording
    are left out and counted in ``notes``.

    Raises:
        DataError: a bag cannot be read, has no such topic, or no rollout was observed far enough.
    """
    recorded = list(_rollouts(predicted, rollout_topic, notes))
    if not recorded:
        raise DataError(f"{predicted} has no readable rollouts; record the rollout topic of a running world model")
    camera = _Camera(observed, image_topic, notes)
    chosen: list[_Recorded] = []
    unseen = short = 0
    for source in sources:
        fitting = []
        for rollout in (r for r in recorded if r.source == source):
            if len(rollout.stamps_ns) < horizon:
                short += 1
            elif camera.saw(rollout, horizon):
                fitting.append(rollout)
            else:
                unseen += 1
        picks = np.unique(np.linspace(0, len(fitting) - 1, min(count, len(fitting))).round().astype(int))
        chosen += [fitting[i] for i in picks]
    if not chosen:
        raise DataError(
            f"none of {len(recorded)} rollouts of {predicted} was observed to frame {horizon} in {observed} ({short}"
            f" predict fewer frames, {unseen} have no camera picture in time); lower --horizons, or give the recording"
            " of the same drive"
        )
    if unseen:
        notes.warnings.append(f"{unseen} rollouts were not observed to frame {horizon} and are left out")
    return _clips(predicted, chosen, camera, horizon, rollout_topic, notes)


def _clips(
    path: Path, chosen: list[_Recorded], camera: _Camera, horizon: int, topic: str | None, notes: Notes
) -> list[Clip]:
    wanted = {rollout.number: rollout for rollout in chosen}
    frames: dict[int, ImageArray] = {}
    for number, message in _messages(path, topic, notes, only=set(wanted)):
        try:
            frames[number] = np.stack([decode_image(frame) for frame in message.frames[:horizon]])
        except (DataError, ValueError) as error:
            notes.damage.append(f"rollout {number} of {path} cannot be decoded: {error}; it is left out")
    if not frames:
        raise DataError(f"no rollout of {path} can be decoded; record it again")
    height, width = next(iter(frames.values())).shape[1:3]
    pictures = camera.pictures([r for r in chosen if r.number in frames], horizon, Preprocess(height, width))
    begun_ns = min(rollout.context_ns for rollout in chosen)
    clips = []
    for rollout in chosen:
        if rollout.number not in frames:
            continue
        start_s = (rollout.context_ns - begun_ns) / NANOSECONDS_PER_SECOND
        seen = [pictures.get(camera.nearest(at)) for at in rollout.wanted_ns[: horizon + 1].tolist()]
        known = [picture for picture in seen if picture is not None]
        if len(known) < len(seen):
            notes.damage.append(f"the pictures of the rollout at {start_s:.2f} s cannot be decoded; it is left out")
            continue
        clips.append(
            Clip(
                f"{rollout.source}_{start_s:.2f}s",
                known[0],
                np.stack(known[1:]),
                {rollout.source: frames[rollout.number]},
                rate_hz=NANOSECONDS_PER_SECOND / rollout.tick_ns,
                start_s=start_s,
            )
        )
    if not clips:
        raise DataError(f"no camera picture of {camera.path} can be decoded; record it again")
    return clips


class _Camera:
    """The camera of a recording: when it took its pictures, and those pictures on demand."""

    def __init__(self, path: Path, topic: str | None, notes: Notes) -> None:
        self.path = path
        with Bag(path) as bag:
            self._topic = choose_topic(bag.topics, "image", IMAGE_TYPES, explicit=topic, option="--image-topic").name
            stamps = {item.stamp_ns for item in bag.read([self._topic])}
            notes.damage += [line for line in bag.damage if line not in notes.damage]
        if not stamps:
            raise DataError(f"{path} has no readable pictures on {self._topic}; choose another with --image-topic")
        self._stamps: NDArray[np.int64] = np.array(sorted(stamps), np.int64)

    def nearest(self, at_ns: int) -> int:
        """The stamp nearest to a time."""
        right = int(np.searchsorted(self._stamps, at_ns))
        near = self._stamps[max(0, right - 1) : right + 1]
        return int(near[np.abs(near - at_ns).argmin()])

    def saw(self, rollout: _Recorded, horizon: int) -> bool:
        """Whether each frame up to the horizon, and the context, was taken within a quarter of a tick."""
        wanted = rollout.wanted_ns[: horizon + 1].tolist()
        return all(abs(self.nearest(at) - at) <= rollout.tick_ns // 4 for at in wanted)

    def pictures(self, rollouts: list[_Recorded], horizon: int, preprocess: Preprocess) -> dict[int, ImageArray]:
        """The pictures that these rollouts need, by stamp, as the model sees them; undecodable ones are absent."""
        wanted = {self.nearest(at) for r in rollouts for at in r.wanted_ns[: horizon + 1].tolist()}
        found: dict[int, ImageArray] = {}
        with Bag(self.path) as bag:
            for item in bag.read([self._topic]):
                if item.stamp_ns in wanted and item.stamp_ns not in found and isinstance(item.value, ImageValue):
                    try:
                        found[item.stamp_ns] = preprocess(item.value.decode())
                    except DataError:
                        continue
        return found


def _rollouts(path: Path, topic: str | None, notes: Notes) -> Iterator[_Recorded]:
    for number, message in _messages(path, topic, notes):
        stamps = np.array([at.sec * NANOSECONDS_PER_SECOND + at.nanosec for at in message.stamps], np.int64)
        context_ns = stamp_ns(message)
        fits = 0 < len(stamps) == len(message.frames) <= _MAX_FRAMES
        if not fits or (np.diff(np.concatenate([[context_ns], stamps])) <= 0).any():
            notes.damage.append(f"rollout {number} of {path} has {len(stamps)} stamps that do not fit; it is left out")
            continue
        source = int(message.actions.source)
        yield _Recorded(number, context_ns, stamps, SOURCES[source] if source < len(SOURCES) else str(source))


def _messages(
    path: Path, topic: str | None, notes: Notes, *, only: set[int] | None = None
) -> Iterator[tuple[int, Any]]:
    """Rollout messages with their number in the bag; ``only`` some of them are decoded."""
    if not path.exists():
        raise DataError(f"bag {path} does not exist; give a recording with rollouts")
    container = Container(path)
    try:
        types = MessageTypes(ros2=container.ros2)
        found = {c.topic: c for c in container.connections if c.msgtype == ROLLOUT and c.msgcount}
        if topic is not None and topic not in found:
            raise DataError(f"{path} has no rollouts on {topic!r}{nearest(topic, found)}; it has {_listed(found)}")
        if topic is None and len(found) != 1:
            remedy = "choose one with --rollout-topic" if found else "record the world model's rollout topic"
            raise DataError(f"{path} has rollouts on {_listed(found)}; {remedy}")
        connection = found[topic] if topic else next(iter(found.values()))
        try:
            kind: MessageType = types.of(connection)
        except ValueError as error:
            raise DataError(f"the rollouts of {path} cannot be read: {error}; record them again") from error
        broken: Counter[str] = Counter()
        for number, (_, _, raw) in enumerate(container.messages({(connection.topic, ROLLOUT)})):
            if only is not None and number not in only:
                continue
            try:
                message = kind.decode(raw)
            except Exception as error:  # rosbags lets index, struct and unicode errors through
                broken[" ".join(str(error).split())[:80]] += 1
                continue
            yield number, message
        if only is None:  # the second reading finds the same again
            notes.damage += [f"{n} rollouts of {path} cannot be read: {text}" for text, n in broken.items()]
            notes.damage += [f"bag {path} is damaged: {text}" for text in container.notes]
    finally:
        container.close()


def _listed(found: dict[str, Any]) -> str:
    return ", ".join(sorted(found)) or "no topic"
