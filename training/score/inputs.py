"""What `egowm-score` was asked to score, as clips: videos or rollouts, with the structures that were named for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from egowm_core.errors import DataError, ScoreError
from training.score.annotation import Segmenter, annotation_masks, read_annotation, read_label_picture, read_mask
from training.score.clip import Clip
from training.score.pairs import Notes, PairOptions, find_pairs, load_pair
from training.score.rollouts import is_bag, load_rollouts

PROPOSE = "propose"


@dataclass(frozen=True)
class Asked:
    """Where the clips are and how they are read. ``horizon`` is the longest that is judged."""

    predicted: Path
    observed: Path
    options: PairOptions
    horizon: int
    clips: int = 64
    sources: tuple[str, ...] = ()
    rollout_topic: str | None = None
    image_topic: str | None = None
    structures: str = PROPOSE
    own_body: Path | None = None
    segmenter: Segmenter | None = None


def load_clips(asked: Asked, notes: Notes) -> list[Clip]:
    """The clips, with masks of the structures and of the robot's own body where they were given.

    Of many clips one that cannot be used is left out and told in ``notes.damage``; of a single one it is an error.

    Raises:
        DataError, ScoreError: nothing can be scored; the message names the remedy.
    """
    bags = [is_bag(path) for path in (asked.predicted, asked.observed)]
    if any(bags):
        if not all(bags):
            raise DataError(
                f"{asked.predicted} and {asked.observed} are of two kinds: score rollouts of a bag against a bag"
                " (it may be the same), videos against videos"
            )
        clips = load_rollouts(
            asked.predicted,
            asked.observed,
            notes,
            horizon=asked.horizon,
            count=asked.clips,
            rollout_topic=asked.rollout_topic,
            image_topic=asked.image_topic,
            **({"sources": asked.sources} if asked.sources else {}),
        )
    else:
        clips = _load_pairs(asked, notes)
    return [_with_masks(clip, asked, single=len(clips) == 1) for clip in clips]


def _load_pairs(asked: Asked, notes: Notes) -> list[Clip]:
    pairs = find_pairs(asked.predicted, asked.observed)
    clips = []
    for name, predicted, observed in pairs:
        try:
            clips.append(load_pair(name, predicted, observed, asked.options, notes))
        except DataError as error:  # of ScoreError the remedy is an option, which is the same for all clips
            if len(pairs) == 1:
                raise
            notes.damage.append(f"{error}; this clip is left out")
    if not clips:
        raise DataError(f"none of {len(pairs)} clips can be read: {notes.damage[0]}")
    sizes = sorted({clip.context.shape[:2] for clip in clips})
    if len(sizes) > 1:
        named = ", ".join(f"{height}x{width}" for height, width in sizes)
        notes.warnings.append(f"clips are of several sizes ({named}): figures of pixels are not comparable among them")
    return clips


def _with_masks(clip: Clip, asked: Asked, *, single: bool) -> Clip:
    height, width = clip.context.shape[:2]
    if asked.own_body is not None:
        clip = replace(clip, own_body=read_mask(asked.own_body, height, width))
    if asked.structures == PROPOSE:
        return clip
    path = _structures_file(Path(asked.structures), clip.name, single=single)
    if path.suffix.lower() == ".json":
        masks, names = annotation_masks(read_annotation(path), clip.context, segmenter=asked.segmenter)
    else:
        masks, names = read_label_picture(path, height, width)
    return replace(clip, structures=np.asarray(masks), structure_names=names)


def _structures_file(path: Path, clip: str, *, single: bool) -> Path:
    """The file that marks the structures of a clip: the one that is given, or its namesake in the folder given."""
    if path.is_dir():
        found = [path / f"{clip}{suffix}" for suffix in (".json", ".png") if (path / f"{clip}{suffix}").is_file()]
        if not found:
            raise ScoreError(f"{path} has no {clip}.json or {clip}.png with the structures of that clip; mark them")
        return found[0]
    if path.suffix.lower() not in (".json", ".png") or not path.is_file():
        raise ScoreError(
            f"--structures {path} is no file; give {PROPOSE}, a JSON of egowm-annotate, a label PNG, or a folder"
            " of them"
        )
    if not single:
        raise ScoreError(
            f"--structures {path} marks the first frame of one clip, but there are several; give a folder with one file"
            " of each clip's name"
        )
    return path
