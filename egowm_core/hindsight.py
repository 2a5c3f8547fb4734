"""A recording watched as the drift monitor watches a robot: ticks -> rollouts of executed actions -> comparisons.

What the nodes do live over topics, this does over a recording as fast as the machine goes: the same synchroniser, the
same model, the same comparison. Knows recordings and models; knows no detector and no ROS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from egowm_core.data.bag import choose_topic
from egowm_core.data.messages import MotionValue
from egowm_core.data.motion import Motion, motion_sources, motion_types
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import TickSynchronizer
from egowm_core.data.ticks import Tick
from egowm_core.data.values import IMAGE_TYPES, ImageValue, Recording
from egowm_core.data.window import ContextBuffer, Sample
from egowm_core.drift.comparison import Comparison
from egowm_core.errors import ConfigError
from egowm_core.types import ActionSource, FloatArray, ImageArray
from egowm_core.world_model import WorldModel


@dataclass(frozen=True)
class HindsightOptions:
    """A comparison ``every`` so many ticks; ``horizon`` 0 is the model's; ``image_lag_s`` as the converter has it."""

    every: int = 2
    horizon: int = 0
    image_topic: str | None = None
    motion_topic: str | None = None
    image_lag_s: float = 0.0
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 1 or self.horizon < 0 or self.batch_size < 1:
            raise ConfigError(
                f"every {self.every} and batch_size {self.batch_size} are at least 1, horizon {self.horizon} at least 0"
            )


def recorded_ticks(recording: Recording, model: WorldModel, options: HindsightOptions) -> Iterator[Tick]:
    """The recording on the model's rate, in the model's picture size, with executed actions.

    Raises:
        DataError: no usable camera or motion topic; lists what is there.
        ConfigError: an embodiment whose motion no recording measures.
    """
    embodiment, topics = model.embodiment, recording.topics
    image = choose_topic(
        topics, embodiment.camera().topic, IMAGE_TYPES, explicit=options.image_topic, option="--image-topic"
    )
    types = motion_types(embodiment, explicit=options.motion_topic is not None)
    main, *further = motion_sources(embodiment)
    motions = [choose_topic(topics, main.topic, types, explicit=options.motion_topic, option="--motion-topic")]
    motions += [choose_topic(topics, source.topic, (source.type,), option="the embodiment") for source in further]
    sync = TickSynchronizer.for_embodiment(embodiment, image_lag_s=options.image_lag_s)
    motion, preprocess = Motion(embodiment, sync), Preprocess.for_camera(embodiment.camera())
    for item in recording.read([image.name, *dict.fromkeys(topic.name for topic in motions)]):
        if isinstance(item.value, ImageValue):
            yield from sync.add_image(item.stamp_ns, partial(_frame, preprocess, item.value))
        elif isinstance(item.value, MotionValue):
            yield from motion.add(item.stamp_ns, item.value, topic=item.topic)
    motion.finish()
    sync.finish()


def _frame(preprocess: Preprocess, value: ImageValue) -> ImageArray:
    return preprocess(value.decode())


def hindsight(recording: Recording, model: WorldModel, options: HindsightOptions | None = None) -> Iterator[Comparison]:
    """Comparisons of executed actions with what the camera then saw, in order of time.

    Raises:
        DataError, ConfigError: as ``recorded_ticks``.
        RolloutError: the model refuses a context or its actions.
    """
    options = options or HindsightOptions()
    horizon = options.horizon or model.horizon
    buffer = ContextBuffer(model.context_frames, horizon)
    states: deque[tuple[int, FloatArray]] = deque(maxlen=model.context_frames + horizon)
    batch: list[tuple[Sample, FloatArray]] = []  # with the state at the last context frame
    since = options.every
    for tick in recorded_ticks(recording, model, options):
        since = options.every if buffer.push(tick) else since + 1
        states.append((tick.stamp_ns, tick.state))
        if since < options.every or (sample := buffer.hindsight()) is None:
            continue
        since = 0
        context_ns = int(sample.context_stamps[-1])
        batch.append((sample, next(state for at_ns, state in states if at_ns == context_ns)))
        if len(batch) == options.batch_size:
            yield from _compared(model, batch, options.seed)
            batch = []
    if batch:
        yield from _compared(model, batch, options.seed)


def _compared(model: WorldModel, batch: list[tuple[Sample, FloatArray]], seed: int) -> Iterator[Comparison]:
    actions = np.stack([model.embodiment.validate_actions(sample.actions) for sample, _ in batch])
    predicted = model.predict(
        np.stack([sample.context_images for sample, _ in batch]),
        actions,
        state=np.stack([state for _, state in batch]) if model.embodiment.states else None,
        seed=seed,
    ).images
    for number, (sample, _) in enumerate(batch):
        yield Comparison(
            source=ActionSource.EXECUTED,
            context_stamp_ns=int(sample.context_stamps[-1]),
            stamps_ns=sample.future_stamps,
            context=sample.context_images[-1],
            predicted=predicted[number],
            observed=sample.future_images,
            actions=actions[number],
        )
