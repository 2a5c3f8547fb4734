"""One recording into episodes: bag -> ticks -> segments -> episode directories, and a report of what was dropped.

Knows one recording at a time; numbering, resuming and tables are the converter's.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.bag import Bag, choose_topic
from egowm_core.data.episode import EpisodeData, write_episode
from egowm_core.data.messages import joint_vector
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import Tick, TickSynchronizer
from egowm_core.data.values import (
    IMAGE_TYPES,
    JOINT_STATE,
    ODOMETRY,
    TWIST_TYPES,
    ImageValue,
    JointsValue,
    OdometryValue,
    Stamped,
    TextValue,
    Topic,
    TwistValue,
)
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.types import ImageArray
from training.convert.lag import estimate_lag

SEGMENTATION_TOPIC = "/truth/segmentation/compressed"
STRUCTURES_TOPIC = "/truth/structures"
TOO_SHORT = "segment too short"
TRUTH_UNDECODABLE = "truth undecodable"
_TRUTH_KEPT = 64  # truth images waiting for their tick


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How to convert. ``min_length`` and ``max_length`` are frames per episode; longer segments are split."""

    embodiment: Embodiment
    image_topic: str | None = None
    odom_topic: str | None = None
    min_length: int = 9
    max_length: int = 2048
    image_lag_s: float | None = None  # None: estimated, and corrected where the estimate convinces

    def __post_init__(self) -> None:
        if not 2 <= self.min_length <= self.max_length:
            raise ConfigError(f"min_length {self.min_length} must lie in 2..{self.max_length} (max_length)")


@dataclass(kw_only=True)
class RecordingReport:
    """What became of one recording. ``reasons`` counts drops and breaks; ``kept`` are the frames in its episodes."""

    recording: str
    image_topic: str = ""
    odom_topic: str = ""
    frames_in: int = 0
    ticks: int = 0
    kept: int = 0
    dropped: int = 0
    segments: int = 0
    episodes: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    tick_rate_hz: float | None = None
    lag_frames: int | None = None
    lag_confidence: float | None = None
    image_lag_s: float = 0.0  # what was corrected
    has_truth: bool = False
    largest_action: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def motion_types(embodiment: Embodiment, *, explicit: bool) -> tuple[str, ...]:
    """Topic types that can measure this embodiment's actions; velocities only where a topic was named explicitly.

    Raises ConfigError for a source that cannot be converted.
    """
    source = embodiment.action_source.type
    if source == ODOMETRY and embodiment.integrate == "se2":
        return (ODOMETRY, *TWIST_TYPES) if explicit else (ODOMETRY,)
    if source in TWIST_TYPES and embodiment.integrate == "se2":
        return TWIST_TYPES
    if source == JOINT_STATE and embodiment.integrate == "sum":
        if other := [c.name for c in embodiment.channels if c.kind != "delta"]:
            raise ConfigError(
                f"channel {other[0]!r} of {embodiment.name!r} is not a delta; joints are converted as deltas"
            )
        return (JOINT_STATE,)
    raise ConfigError(
        f"embodiment {embodiment.name!r} takes actions from {source} with integrate {embodiment.integrate};"
        f" expected {ODOMETRY} or {TWIST_TYPES[0]} with se2, or {JOINT_STATE} with sum"
    )


def choose_topics(bag: Bag, options: ConvertOptions) -> tuple[Topic, Topic]:
    """The image and the motion topic of a recording. Raises DataError listing candidates, with the remedy."""
    embodiment, topics = options.embodiment, bag.topics
    image = choose_topic(
        topics, embodiment.camera().topic, IMAGE_TYPES, explicit=options.image_topic, option="--image-topic"
    )
    types = motion_types(embodiment, explicit=options.odom_topic is not None)
    try:
        motion = choose_topic(
            topics, embodiment.action_source.topic, types, explicit=options.odom_topic, option="--odom-topic"
        )
    except DataError as error:
        twists = [t.name for t in topics.values() if t.type in TWIST_TYPES and t.count]
        if twists and ODOMETRY in types and options.odom_topic is None:
            raise DataError(
                f"{error}; record odometry, or, where {twists[0]} is in m/s and rad/s, integrate it with"
                f" --odom-topic {twists[0]}"
            ) from error
        raise
    return image, motion


def convert_recording(path: Path, name: str, staging: Path, options: ConvertOptions) -> RecordingReport:
    """Write the episodes of one recording as ``staging/000000``, ... and report.

    Raises DataError when the recording cannot be read or holds no episode, ConfigError on an unfit embodiment.
    """
    embodiment = options.embodiment
    preprocess = Preprocess.for_camera(embodiment.camera())
    with Bag(path) as bag:
        image, motion = choose_topics(bag, options)
        lag = estimate_lag(bag, image, motion)
        image_lag_s = options.image_lag_s
        if image_lag_s is None:
            image_lag_s = lag.seconds if lag is not None and lag.convincing else 0.0
        sync = TickSynchronizer.for_embodiment(embodiment, image_lag_s=image_lag_s)
        topics, structures = [image.name, motion.name], None
        if SEGMENTATION_TOPIC in bag.topics:
            topics.append(SEGMENTATION_TOPIC)
            structures = _read_structures(bag)
        writer = SegmentWriter(name, staging, options, structures, preprocess)
        for item in bag.read(topics):
            if item.topic == SEGMENTATION_TOPIC:
                writer.add_truth(item)
            else:
                for tick in feed(sync, item, embodiment, preprocess):
                    writer.add(tick)
        sync.finish()
        writer.finish()
    report = writer.report
    report.image_topic, report.odom_topic, report.frames_in = image.name, motion.name, sync.images_in
    report.image_lag_s = round(image_lag_s, 9)
    if lag is not None:
        report.lag_confidence = round(lag.confidence, 4)
        report.lag_frames = lag.frames if lag.confidence >= 0.5 else None
    reasons = Counter({reason.value: count for reason, count in sync.drops.items()}) + Counter(report.reasons)
    report.reasons = dict(sorted(reasons.items()))
    report.dropped = sum(count for reason, count in reasons.items() if not reason.endswith("(break)"))
    if sync.largest_action is not None:
        values = (float(v) for v in sync.largest_action)
        report.largest_action = dict(zip(embodiment.channel_names, values, strict=True))
    _judge(report, embodiment, options)
    return report


def feed(
    sync: TickSynchronizer, item: Stamped, embodiment: Embodiment, preprocess: Callable[[ImageArray], ImageArray]
) -> list[Tick]:
    """Hand one recorded value to the synchronizer; images are decoded and preprocessed only when they become ticks."""
    match item.value:
        case ImageValue() as value:
            return sync.add_image(item.stamp_ns, lambda: preprocess(value.decode()))
        case OdometryValue(pose=pose):
            return sync.add_pose(item.stamp_ns, pose)
        case TwistValue(twist=twist):
            return sync.add_twist(item.stamp_ns, twist)
        case JointsValue(positions=positions):
            return sync.add_pose(item.stamp_ns, joint_vector(positions, embodiment))
        case _:
            return []


class SegmentWriter:
    """Gathers the ticks of a segment, with their truth, and writes it as one or more episodes. Holds one episode."""

    def __init__(
        self,
        name: str,
        staging: Path,
        options: ConvertOptions,
        structures: dict[str, dict[str, Any]] | None,
        preprocess: Preprocess,
    ) -> None:
        self.report = RecordingReport(recording=name)
        self._staging, self._options, self._structures, self._preprocess = staging, options, structures, preprocess
        self._reasons: Counter[str] = Counter()
        self._ticks: list[Tick] = []
        self._labels: dict[int, NDArray[np.uint16]] = {}
        self._waiting: OrderedDict[int, ImageValue] = OrderedDict()
        self._steps_ns: list[int] = []
        self._last_ns = 0

    def add(self, tick: Tick) -> None:
        """Take the next tick of the synchronizer."""
        if tick.action_from_previous is None:
            self._flush()
            self.report.segments += 1
        else:
            self._steps_ns.append(tick.stamp_ns - self._last_ns)
            if len(self._ticks) >= self._options.max_length:
                self._flush()
        self._last_ns = tick.stamp_ns
        self._ticks.append(tick)
        self.report.ticks += 1
        if (truth := self._waiting.pop(tick.stamp_ns, None)) is not None:
            self._keep_truth(tick.stamp_ns, truth)

    def add_truth(self, item: Stamped) -> None:
        """Take a truth image; it may come before or shortly after the tick of the same stamp."""
        if not isinstance(item.value, ImageValue):
            return
        if any(tick.stamp_ns == item.stamp_ns for tick in self._ticks[-8:]):
            self._keep_truth(item.stamp_ns, item.value)
            return
        self._waiting[item.stamp_ns] = item.value
        if len(self._waiting) > _TRUTH_KEPT:
            self._waiting.popitem(last=False)

    def finish(self) -> None:
        """Write what is left and complete the report."""
        self._flush()
        self.report.reasons = dict(self._reasons)
        if self._steps_ns:
            self.report.tick_rate_hz = round(1e9 / float(np.median(self._steps_ns)), 4)

    def _keep_truth(self, stamp_ns: int, truth: ImageValue) -> None:
        try:
            self._labels[stamp_ns] = self._preprocess.labels(truth.labels())
        except DataError:  # the frames are good without it: only this episode's truth is lost
            self._reasons[TRUTH_UNDECODABLE] += 1

    def _flush(self) -> None:
        ticks, labels = self._ticks, self._labels
        self._ticks, self._labels = [], {}
        if not ticks:
            return
        if len(ticks) < self._options.min_length:
            self._reasons[TOO_SHORT] += len(ticks)
            return
        truth = [labels.get(tick.stamp_ns) for tick in ticks]
        known = [label for label in truth if label is not None]
        complete = len(known) == len(ticks)
        data = EpisodeData(
            frames=np.stack([tick.frame for tick in ticks]),
            stamps_ns=np.array([tick.stamp_ns for tick in ticks], np.int64),
            actions=np.stack([t.action_from_previous for t in ticks[1:] if t.action_from_previous is not None]),
            segmentation=np.stack(known) if complete else None,
            structures=self._structures if complete else None,
        )
        embodiment = self._options.embodiment
        write_episode(
            self._staging / f"{self.report.episodes:06d}",
            data,
            embodiment=embodiment.name,
            rate_hz=embodiment.rate_hz,
            recording=self.report.recording,
            channels=embodiment.channel_names,
        )
        self.report.has_truth = complete and (self.report.has_truth or not self.report.episodes)
        self.report.episodes += 1
        self.report.kept += len(ticks)


def _read_structures(bag: Bag) -> dict[str, dict[str, Any]] | None:
    if STRUCTURES_TOPIC not in bag.topics:
        return None
    for item in _texts(bag):
        try:
            found = json.loads(item)
        except ValueError as error:
            raise DataError(f"{STRUCTURES_TOPIC} of {bag.path} is not JSON: {error}; record it again") from error
        if isinstance(found, dict) and all(isinstance(v, dict) for v in found.values()):
            return {str(key): dict(value) for key, value in found.items()}
        raise DataError(f"{STRUCTURES_TOPIC} of {bag.path} must map ids to objects; record it again")
    return None


def _texts(bag: Bag) -> Iterator[str]:
    for item in bag.read([STRUCTURES_TOPIC]):
        if isinstance(item.value, TextValue):
            yield item.value.text


def _judge(report: RecordingReport, embodiment: Embodiment, options: ConvertOptions) -> None:
    """Warn about what a reader of the dataset should know; raise DataError when nothing came of the recording."""
    low, high = embodiment.limits[:, 0], embodiment.limits[:, 1]
    excess = [
        f"{c.name} up to {report.largest_action[c.name]:.3g} {c.unit} a tick (limit {max(-a, b):.3g})"
        for c, a, b in zip(embodiment.channels, low, high, strict=True)
        if c.name in report.largest_action and report.largest_action[c.name] > max(-a, b) * 1.0001
    ]
    if report.image_lag_s:
        report.warnings.append(
            f"the camera lags odometry by {report.image_lag_s:.3g} s (correlation {report.lag_confidence}): corrected;"
            f" a live node on this robot needs image_lag_s {report.image_lag_s:.3g}"
        )
    if excess:
        report.warnings.append(
            f"motion beyond the limits of {embodiment.name}: {'; '.join(excess)}: segments were cut there;"
            f" a faster robot needs an embodiment with its own limits"
        )
    if report.tick_rate_hz is not None and abs(report.tick_rate_hz / embodiment.rate_hz - 1) > 0.15:
        report.warnings.append(
            f"ticks come at {report.tick_rate_hz:.3g} Hz, the embodiment says {embodiment.rate_hz:g} Hz:"
            f" the images are too slow or too sparse for it; convert with --rate-hz {report.tick_rate_hz:.3g}"
        )
    if report.episodes:
        return
    why = ", ".join(f"{reason} {count}" for reason, count in report.reasons.items()) or "nothing was dropped"
    hint = "; ".join(report.warnings) or f"give a longer recording or a --min-length below {options.min_length}"
    raise DataError(
        f"recording {report.recording!r} holds no segment of {options.min_length} ticks at {embodiment.rate_hz:g} Hz:"
        f" {report.frames_in} images gave {report.ticks} ticks in {report.segments} segments ({why}); {hint}"
    )
