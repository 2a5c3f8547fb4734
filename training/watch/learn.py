"""Baselines as files: learned from recordings without fault, put beside a checkpoint's files.

Knows recordings, models and checkpoint directories; judges nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egowm_core.checkpoint import HASHES, publish, verify
from egowm_core.drift import (
    BASELINE_FILE,
    BaselineLearner,
    DriftBaseline,
    DriftLimits,
    Evidence,
)
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.world_model import WorldModel
from training.watch.figures import Seen, Watched, summary
from training.watch.run import new_detector


@dataclass(frozen=True)
class Lesson:
    """The evidence of one recording without fault, in order of time."""

    name: str
    evidence: list[Evidence]


def learn_baseline(lessons: Iterable[Lesson], model: WorldModel) -> DriftBaseline:
    """One baseline of all lessons, as it will be read from its file.

    Raises:
        ScoreError: too few ticks, or hardly anything that could be judged.
    """
    learner = BaselineLearner(model.embodiment.scales)
    for lesson in lessons:
        for evidence in lesson.evidence:
            learner.add(evidence)
    return DriftBaseline.from_json(learner.learn().to_json())


def heard_again(
    lessons: Iterable[Lesson], model: WorldModel, baseline: DriftBaseline, limits: DriftLimits
) -> dict[str, Any]:
    """``figures.summary`` of the lessons themselves, judged by what was learned from them: alarms there mean that one
    of them was not without fault, or that they differ too much to be one baseline.
    """
    watched = []
    for lesson in lessons:
        if not lesson.evidence:
            continue
        detector = new_detector(model, limits, baseline)
        one = Watched(lesson.name, tuple(lesson.evidence[0].scs), limits.stale_after_s)
        one.start_ns = lesson.evidence[0].context_stamp_ns
        newest_ns = one.start_ns
        for evidence in lesson.evidence:
            stamp_ns = int(evidence.stamps_ns[-1])
            if stamp_ns < newest_ns:
                detector.reset()
            newest_ns = stamp_ns
            one.seen.append(Seen(stamp_ns, detector.update(evidence), evidence.psnr, evidence.num_structures))
        watched.append(one)
    return summary(watched)


def check_place(place: str) -> Path:
    """Where ``put_baseline`` can write: a .json file, or a checkpoint directory that is whole.

    Raises:
        ConfigError: neither.
        CheckpointError: the checkpoint is damaged.
    """
    path = Path(place)
    if path.is_dir():
        if not (path / HASHES).is_file():
            raise ConfigError(f"{place} is a directory but no checkpoint ({HASHES} is missing); give FILE.json")
        verify(path)
        if folders := sorted(item.name for item in path.iterdir() if item.is_dir()):
            raise CheckpointError(f"{place} has a folder {folders[0]!r}: a checkpoint is files alone; move it away")
    elif path.suffix != ".json":
        raise ConfigError(f"{place} is neither FILE.json nor a checkpoint directory here; give one of them")
    return path


def put_baseline(place: Path, baseline: DriftBaseline) -> Path:
    """Write a baseline to a .json file, or into a checkpoint directory with all hashes renewed, whole or not at all.

    Returns the path of the file. Raises OSError where it cannot be written.
    """
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        baseline.save(place)
        return place
    partial = place.with_name(place.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(place, partial)
        baseline.save(partial / BASELINE_FILE)
        publish(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place / BASELINE_FILE
