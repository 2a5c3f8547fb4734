"""Predicted and observed videos as clips: found by name, brought together by rules that are named, never in silence.

Frames pair by their number. Different lengths, sizes or rates are refused with the option that allows them. Knows
videos and pictures, no bag and no metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from egowm_core.data.preprocess import Preprocess
from egowm_core.errors import DataError, ScoreError
from egowm_core.metrics import psnr
from egowm_core.types import ImageArray
from training.score.clip import Clip
from training.score.videos import VIDEO_SUFFIXES, Video, natural_key, pictures_in, read_picture, read_video

ROW = "predicted"
SAME_CONTEXT_DB = 20.0  # PSNR of two encodings of one picture is far above, of two pictures of a moving camera below


@dataclass(frozen=True)
class PairOptions:
    """How videos are brought together. ``context`` is a picture before both, or None: both begin with it.

    ``horizon`` frames are judged, or as many as there are where it is None.
    """

    context: Path | None = None
    cut: bool = False
    resize: bool = False
    ignore_rate: bool = False
    horizon: int | None = None


@dataclass
class Notes:
    """What a reader should know: ``warnings`` of what was done, ``damage`` of what could not be read."""

    warnings: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def find_pairs(predicted: Path, observed: Path) -> list[tuple[str, Path, Path]]:
    """Name, predicted and observed video of each clip: one of two files or picture folders, many of two folders.

    Raises:
        DataError: one does not exist, they are of different kinds, or a video has no namesake.
    """
    for path in (predicted, observed):
        if not path.exists():
            raise DataError(f"{path} does not exist; give a video file, a folder of pictures or of videos, or a bag")
    if not (predicted.is_dir() and observed.is_dir()):
        return [(predicted.stem if predicted.is_file() else predicted.name, predicted, observed)]
    alone = [bool(pictures_in(path)) for path in (predicted, observed)]
    if all(alone):
        return [(predicted.name, predicted, observed)]
    if any(alone):
        flat, deep = (predicted, observed) if alone[0] else (observed, predicted)
        raise DataError(f"{flat} is a folder of pictures (one clip) but {deep} is not; give two of one kind")
    members = [_members(path) for path in (predicted, observed)]
    for one, other, where in ((members[0], members[1], observed), (members[1], members[0], predicted)):
        lonely = [name for name in one if name not in other]
        if lonely:
            named = ", ".join(lonely[:5]) + (f" and {len(lonely) - 5} more" if len(lonely) > 5 else "")
            raise DataError(f"{where} has no namesake of {named}; add or move them, so that every clip has a partner")
    if not members[0]:
        raise DataError(f"{predicted} and {observed} hold no videos ({', '.join(VIDEO_SUFFIXES)}) and no pictures")
    return [(name, path, members[1][name]) for name, path in members[0].items()]


def _members(directory: Path) -> dict[str, Path]:
    """The clips of a folder by name: video files without suffix, and folders of pictures."""
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir(), key=natural_key):
        is_video = path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES
        if is_video or (path.is_dir() and pictures_in(path)):
            name = path.stem if is_video else path.name
            if name in found:
                raise DataError(
                    f"{directory} has {found[name].name} and {path.name}: one name for two clips; rename one"
                )
            found[name] = path
    return found


def load_pair(name: str, predicted: Path, observed: Path, options: PairOptions, notes: Notes) -> Clip:
    """One clip of two videos, brought together as ``options`` allow; what was done or damaged goes to ``notes``.

    Raises:
        DataError: a video cannot be read at all.
        ScoreError: the videos do not fit together; the message names the option that makes them.
    """
    first = 0 if options.context else 1
    limit = None if options.horizon is None else options.horizon + first
    videos = [read_video(path, limit=limit) for path in (predicted, observed)]
    notes.damage += [f"{video.path}: {video.damage}; scored up to there" for video in videos if video.damage]
    _check_lengths(name, videos, options, notes)
    _check_rates(name, videos, options)
    images, resize = _one_size(name, videos, options, notes)
    count = min(len(video.images) for video in videos)
    images = [frames[:count] for frames in images]
    if count <= first:
        raise ScoreError(f"clip {name} has {count} frames: none to judge after the context; give longer videos")
    if options.context:
        context = read_picture(options.context)
        context = resize(context) if context.shape != images[1].shape[1:] and options.resize else context
        if context.shape != images[1].shape[1:]:
            raise ScoreError(
                f"the context {options.context} is {context.shape[0]}x{context.shape[1]}, the videos"
                f" {images[1].shape[1]}x{images[1].shape[2]}; give --resize, or a picture of that size"
            )
    else:
        context = images[1][0]
        _check_context(name, images)
    rate = videos[1].rate_hz or videos[0].rate_hz
    return Clip(name, context, images[1][first:], {ROW: images[0][first:]}, rate_hz=rate)


def _check_context(name: str, images: list[ImageArray]) -> None:
    likeness = float(psnr(images[0][:1], images[1][:1])[0])
    if likeness < SAME_CONTEXT_DB:
        raise ScoreError(
            f"clip {name}: the first frames differ (PSNR {likeness:.1f} dB, the same picture has over"
            f" {SAME_CONTEXT_DB:.0f}): both videos should begin with the context frame that they share; cut them so, or"
            " give that frame with --context IMAGE when they begin after it"
        )


def _check_lengths(name: str, videos: list[Video], options: PairOptions, notes: Notes) -> None:
    lengths = [video.length for video in videos]
    if lengths[0] == lengths[1] or any(video.damage for video in videos):
        return
    told = f"clip {name}: {lengths[0]} predicted frames against {lengths[1]} observed ones"
    if not options.cut:
        raise ScoreError(
            f"{told}; give --cut to judge the first {min(lengths)}, if frame i shows the same moment in both"
        )
    notes.warnings.append(f"{told}: the first {min(lengths)} are used (--cut)")


def _check_rates(name: str, videos: list[Video], options: PairOptions) -> None:
    rates = [video.rate_hz for video in videos]
    if options.ignore_rate or not rates[0] or not rates[1] or abs(rates[0] / rates[1] - 1) < 0.01:
        return
    raise ScoreError(
        f"clip {name}: predicted at {rates[0]:.3g} frames a second, observed at {rates[1]:.3g}: frame i is not the"
        " same moment in both; encode both at one rate, or give --ignore-rate when only the files say so"
    )


def _one_size(
    name: str, videos: list[Video], options: PairOptions, notes: Notes
) -> tuple[list[ImageArray], Callable[[ImageArray], ImageArray]]:
    """Frames of both in one size, and the function that brings a picture to it."""
    sizes = [video.images.shape[1:3] for video in videos]
    smaller = min(sizes, key=lambda size: size[0] * size[1])
    resize = Preprocess(*smaller)
    if sizes[0] == sizes[1]:
        return [video.images for video in videos], resize
    told = f"clip {name}: predicted frames are {sizes[0][0]}x{sizes[0][1]}, observed ones {sizes[1][0]}x{sizes[1][1]}"
    if not options.resize:
        raise ScoreError(f"{told}; give --resize to bring the larger to the smaller")
    notes.warnings.append(f"{told}: cropped to one aspect and resized to {smaller[0]}x{smaller[1]} (--resize)")
    return [
        video.images if size == smaller else np.stack([resize(frame) for frame in video.images])
        for video, size in zip(videos, sizes, strict=True)
    ], resize
