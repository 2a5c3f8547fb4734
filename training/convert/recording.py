"""One recording into staged episodes: values -> ticks -> curation -> episodes on disk, and a report of all of it.

Knows one recording at a time; numbering, resuming and tables are the converter's.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from egowm_core.data.bag import Bag, choose_topic
from egowm_core.data.jitter import SourceStats
from egowm_core.data.messages import MotionValue
from egowm_core.data.motion import Motion, motion_sources, motion_types
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import TickSynchronizer
from egowm_core.data.units import suspicious_units
from egowm_core.data.values import IMAGE_TYPES, TWIST_TYPES, ImageValue, Recording, Stamped, TextValue, Topic
from egowm_core.errors import DataError
from egowm_core.faces import FaceBlur
from egowm_core.files import fsync, write_text
from egowm_core.types import ImageArray
from training.convert.entry import RecordingReport, judge
from training.convert.facts import ActionHistogram, Timeline, save_strip
from training.convert.lag import LagEstimate, estimate_lag
from training.convert.options import CORRECT_LAG, REPORT_LAG, ConvertOptions
from training.convert.segments import SegmentWriter, as_json
from training.sources.find import Source

SEGMENTATION_TOPIC = "/truth/segmentation/compressed"
STRUCTURES_TOPIC = "/truth/structures"
REPORT, EMBEDDINGS, STRIP = "report.json", "embeddings.npy", "strip.jpg"
_KEPT = "kept"
_MOTION = get_args(MotionValue)


def choose_topics(recording: Recording, options: ConvertOptions) -> tuple[Topic, tuple[Topic, ...]]:
    """The image topic of a recording and its motion topics, the main one first.

    Raises DataError listing candidates, with the remedy.
    """
    embodiment, topics = options.embodiment, recording.topics
    image = choose_topic(
        topics, embodiment.camera().topic, IMAGE_TYPES, explicit=options.image_topic, option="--image-topic"
    )
    types = motion_types(embodiment, explicit=options.motion_topic is not None)
    main, *further = motion_sources(embodiment)
    try:
        motion = choose_topic(topics, main.topic, types, explicit=options.motion_topic, option="--motion-topic")
    except DataError as error:
        twists = [topic.name for topic in topics.values() if topic.type in TWIST_TYPES and topic.count]
        if twists and options.motion_topic is None and set(TWIST_TYPES) <= set(motion_types(embodiment, explicit=True)):
            raise DataError(
                f"{error}; record odometry, or, where {twists[0]} is in m/s and rad/s, integrate it with"
                f" --motion-topic {twists[0]}"
            ) from error
        raise
    others = [choose_topic(topics, source.topic, (source.type,), option="the embodiment") for source in further]
    return image, (motion, *others)


def convert_recording(source: Source, directory: Path, options: ConvertOptions) -> RecordingReport:
    """Write the episodes of one recording into ``directory``, which appears whole or not at all, and report.

    Raises DataError when the recording cannot be read or holds no episode, ConfigError on an unfit embodiment.
    """
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        report = _Conversion(source, partial, options).run()
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return report


class _Conversion:
    """The parts that one recording passes through, and the report that they add up to."""

    def __init__(self, source: Source, staging: Path, options: ConvertOptions) -> None:
        self._source, self._staging, self._options = source, staging, options
        self._preprocess = Preprocess.for_camera(options.embodiment.camera())
        self._blur = FaceBlur(options.blur_faces) if options.blur_faces else None
        self._histogram = ActionHistogram(options.embodiment)
        self._faces = 0

    def run(self) -> RecordingReport:
        embodiment = self._options.embodiment
        with self._source.open() as recording:
            image, motions = choose_topics(recording, self._options)
            lag = estimate_lag(recording, image, motions[0], embodiment)
            corrected_s = _correction(self._options.lag, lag)
            sync = TickSynchronizer.for_embodiment(
                embodiment,
                image_lag_s=corrected_s,
                max_gap_s=self._options.max_image_gap_s,
                max_odom_gap_s=self._options.max_motion_gap_s,
                on_action=self._histogram.add,
            )
            motion = Motion(embodiment, sync)
            structures = _read_structures(recording)
            topics = [image.name, *dict.fromkeys(topic.name for topic in motions)]
            timeline = Timeline([*topics, _KEPT])
            writer = SegmentWriter(
                self._staging,
                self._options,
                self._preprocess,
                structures=structures,
                on_kept=lambda stamp_ns: timeline.add(_KEPT, stamp_ns),
            )
            for item in recording.read([*topics, SEGMENTATION_TOPIC] if structures is not None else topics):
                if item.topic == SEGMENTATION_TOPIC:
                    writer.add_truth(item)
                    continue
                timeline.add(item.topic, item.stamp_ns)
                for tick in self._feed(sync, motion, item):
                    writer.add(tick)
            motion.finish()
            sync.finish()
            writer.finish()
            report = RecordingReport(
                recording=self._source.name,
                kind="bag" if isinstance(recording, Bag) else "episode",
                fingerprint=self._source.fingerprint(),
                duration_s=round(recording.duration_s, 6),
                start_ns=timeline.start_ns or 0,
                image_topic=image.name,
                motion_topic=", ".join(topic.name for topic in motions),
                task=self._options.task or recording.task,
                damage=list(recording.damage),
                warnings=[*recording.damage, *recording.notes, *motion.problems()],
                timeline=timeline.facts(kept=_KEPT),
            )
            stats = {image.name: sync.image_stats, **motion.stats}
            report.topics = [_topic_facts(recording.topics[name], stats.get(name)) for name in topics]
        self._tell(report, writer, sync, stats, lag, corrected_s)
        judge(report, embodiment, min_length=self._options.min_length)
        self._save(report, writer)
        return report

    def _feed(self, sync: TickSynchronizer, motion: Motion, item: Stamped) -> list[Any]:
        if isinstance(item.value, ImageValue):
            return list(sync.add_image(item.stamp_ns, self._picture(item.value)))
        if isinstance(item.value, _MOTION):
            return motion.add(item.stamp_ns, item.value, topic=item.topic)
        return []

    def _picture(self, value: ImageValue) -> Callable[[], ImageArray]:
        """Decodes and preprocesses an image that becomes a tick; faces are blurred at full resolution, before."""

        def decode() -> ImageArray:
            image = value.decode()
            if self._blur is not None:
                image, faces = self._blur(image)
                self._faces += faces
            return self._preprocess(image)

        return decode

    def _tell(
        self,
        report: RecordingReport,
        writer: SegmentWriter,
        sync: TickSynchronizer,
        stats: dict[str, SourceStats],
        lag: LagEstimate | None,
        corrected_s: float,
    ) -> None:
        embodiment = self._options.embodiment
        report.frames_in, report.ticks, report.kept = sync.images_in, writer.ticks, writer.kept
        report.segments, report.episodes = writer.segments, len(writer.embeddings)
        reasons = Counter({reason.value: count for reason, count in sync.drops.items()}) + writer.reasons
        report.reasons = dict(sorted(reasons.items()))
        report.dropped = sum(count for reason, count in reasons.items() if not reason.endswith("(break)"))
        report.exclusions = as_json(writer.exclusions)
        report.excluded_frames = sum(item.frames for item in writer.exclusions)
        report.tick_rate_hz = writer.tick_rate_hz
        report.gaps = [
            {"topic": name, "start_ns": start, "end_ns": end, "seconds": round((end - start) * 1e-9, 6)}
            for name, source in stats.items()
            for start, end in source.gaps
        ]
        report.lag = None
        if lag is not None:
            told = self._options.lag == REPORT_LAG  # what correcting would give, otherwise what it gave
            after = lag.correlation_best if told else lag.correlation_at(corrected_s)
            report.lag = {**lag.to_json(), "corrected_s": corrected_s, "correlation_after": round(after, 4)}
        report.histograms = self._histogram.facts()
        report.quality, report.has_truth = writer.quality, writer.has_truth and writer.kept > 0
        report.faces_blurred = self._faces
        if sync.largest_action is not None:
            sizes = (round(float(value), 9) for value in sync.largest_action)
            report.largest_action = dict(zip(embodiment.channel_names, sizes, strict=True))
            if (typical := sync.typical_action()) is not None:
                report.warnings += suspicious_units(
                    sync.largest_action, typical, embodiment, largest_state=sync.largest_state
                )
        if writer.strip:
            report.strip = f"report/strips/{self._source.name}.jpg"

    def _save(self, report: RecordingReport, writer: SegmentWriter) -> None:
        if writer.strip:
            save_strip(self._staging / STRIP, writer.strip)
        with (self._staging / EMBEDDINGS).open("wb") as file:
            np.save(file, np.stack(writer.embeddings), allow_pickle=False)
            fsync(file)
        write_text(self._staging / REPORT, json.dumps(report.to_json(), indent=1))


def _correction(wanted: str | float, lag: LagEstimate | None) -> float:
    if wanted == REPORT_LAG:
        return 0.0
    if wanted == CORRECT_LAG:
        return round(lag.seconds, 9) if lag is not None and lag.convincing else 0.0
    return float(wanted)


def _topic_facts(topic: Topic, stats: SourceStats | None) -> dict[str, Any]:
    found = {} if stats is None else stats.summary()
    return {"name": topic.name, "type": topic.type, **found, "count": topic.count}


def _read_structures(recording: Recording) -> dict[str, dict[str, Any]] | None:
    if SEGMENTATION_TOPIC not in recording.topics or STRUCTURES_TOPIC not in recording.topics:
        return None
    for item in _texts(recording):
        try:
            found = json.loads(item)
        except ValueError as error:
            raise DataError(f"{STRUCTURES_TOPIC} of {recording.path} is not JSON: {error}; record it again") from error
        if isinstance(found, dict) and all(isinstance(v, dict) for v in found.values()):
            return {str(key): dict(value) for key, value in found.items()}
        raise DataError(f"{STRUCTURES_TOPIC} of {recording.path} must map ids to objects; record it again")
    return None


def _texts(recording: Recording) -> Iterator[str]:
    for item in recording.read([STRUCTURES_TOPIC]):
        if isinstance(item.value, TextValue):
            yield item.value.text
