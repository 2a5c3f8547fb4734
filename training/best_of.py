"""`egowm-best-of CHECKPOINT --dataset DIR --out OUT`: what best of N buys, on recordings that no model was trained on.

Each clip is predicted by every draw of every way (``egowm_core.best_of``); what choosers make of the first N is scored
by the SCS, wholly tracked and, where the dataset has the simulator's masks, by those. ``oracle`` chooses by that very
score: an upper bound for any chooser, no method. Clips go to OUT/clips.jsonl one by one; run again to go on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from egowm_core.best_of import (
    MOST_DRAWS,
    WAYS,
    Draw,
    Past,
    can_mirror,
    check_mirror,
    choose,
    draws,
    hindsight_scores,
    mean_of,
    predict_draw,
    predict_past,
)
from egowm_core.data.normalize import normalize
from egowm_core.errors import ConfigError, DataError, EgowmError
from egowm_core.files import fsync, without_nan, write_text
from egowm_core.loading import load_world_model
from egowm_core.schema import nearest
from egowm_core.scs import choose_ids, masks_of
from egowm_core.types import ImageArray
from egowm_core.world_model import WorldModel
from training.best_of_curve import ORACLE, best_of_figures, plot_curves, row_name, table
from training.dataset.reader import Dataset, Episode
from training.held_out import EvaluationClip
from training.score.cli import parse_horizons
from training.score.clip import Clip
from training.score.measure import ClipScore, Measures, measure

RECORDS = "clips.jsonl"
METHODS: dict[str, tuple[str, ...]] = {
    "seeds": ("mean", "medoid", ORACLE),
    "samples": ("mean", "medoid", ORACLE),
    "mirror": ("mean", "medoid", ORACLE),
    "settings": ("hindsight", "mean", ORACLE),
}
"""What is tried: who chooses, by way. A seed's noise has no skill that lasts, so hindsight is for settings."""


@dataclass(frozen=True)
class Lesson:
    """A clip to predict, and what happened right before it."""

    clip: EvaluationClip
    past: Past


def choose_lessons(
    dataset: Path, model: WorldModel, *, count: int, horizon: int, min_motion: float, seed: int
) -> list[Lesson]:
    """``count`` clips drawn evenly over the episodes, each with ``horizon`` frames of past, moving enough.

    Raises:
        DataError: not a dataset, or fewer such clips.
        EmbodimentError: of another robot.
    """
    data = Dataset(dataset)
    data.embodiment.require_same(model.embodiment)
    rng = np.random.default_rng(seed)
    known = model.context_frames + horizon  # frames up to now
    pools = []
    for episode in data.episodes:
        moved = np.abs(normalize(episode.actions, model.embodiment)).sum(axis=1)
        starts = [int(start) for start in episode.windows(known, horizon)]
        moving = [s for s in starts if moved[s + known - 1 :][:horizon].sum() >= min_motion * horizon / 8]
        pools.append(list(rng.permutation(moving)))
    lessons: list[Lesson] = []
    while len(lessons) < count and any(pools):
        for episode, pool in zip(data.episodes, pools, strict=True):
            if pool and len(lessons) < count:
                lessons.append(_lesson(episode, int(pool.pop()), model, horizon))
    if len(lessons) < count:
        raise DataError(
            f"{dataset}: {len(lessons)} clips have a past of {horizon} frames and move enough, {count} were asked for;"
            " lower --clips or record more"
        )
    return lessons


def _lesson(episode: Episode, start: int, model: WorldModel, horizon: int) -> Lesson:
    context = model.context_frames
    past = episode.sample(start, context=context, horizon=horizon)
    sample = episode.sample(start + horizon, context=context, horizon=horizon)
    now = start + horizon + context - 1
    masks = None
    if (labels := episode.labels(now, now + 1 + horizon)) is not None:
        static = {int(key) for key, value in (episode.structures or {}).items() if value.get("static", True)}
        masks = masks_of(labels, choose_ids(labels[0], allowed=static))
    name = f"episode {episode.index} from frame {now}"
    state = episode.states[now] if model.embodiment.states else None
    clip = EvaluationClip(sample.context_images, sample.future_images, sample.actions, masks, state, name)
    was = episode.states[start + context - 1] if model.embodiment.states else None
    return Lesson(clip, Past(past.context_images, past.actions, past.future_images, was))


def judge(
    lesson: Lesson, model: WorldModel, *, ways: Sequence[str], counts: Sequence[int], horizons: tuple[int, ...]
) -> dict[str, Any]:
    """Everything that came of a clip, as a record (see ``best_of_curve``)."""
    clip = lesson.clip
    pictures: dict[str, ImageArray] = {}  # what is equal in two ways or rows is predicted and scored once
    shown: dict[str, str] = {}  # row to picture
    picks: dict[str, dict[str, int]] = {}
    several = [number for number in counts if number > 1]
    drawn = {way: draws(model, max(counts), way=way) for way in ways}
    for draw in {repr(draw): draw for each in drawn.values() for draw in each}.values():
        pictures[repr(draw)] = _predict(model, draw, clip)
    upper = _upper(clip, pictures, horizons[-1])
    for way, way_draws in drawn.items():
        keys = [repr(draw) for draw in way_draws]
        predicted = np.stack([pictures[key] for key in keys])
        past = None
        if "hindsight" in METHODS[way]:
            past = hindsight_scores(predict_past(model, way_draws, lesson.past), lesson.past)
        shown[row_name(way, "", 1)] = keys[0]
        for by, n in product(METHODS[way], several):
            row = row_name(way, by, n)
            if by == ORACLE:
                chosen: int | None = int(np.argmax([upper[key] for key in keys[:n]]))
            else:
                chosen, _ = choose(predicted[:n], by=by, past_scores=None if past is None else past[:n])
            if chosen is None:
                pictures[row], shown[row] = mean_of(predicted[:n]), row
            else:
                shown[row] = keys[chosen]
                picks.setdefault(way, {})[f"{by}_{n}"] = chosen
    wanted = {key: pictures[key] for key in dict.fromkeys(shown.values())}
    scores = _measured(clip, wanted, Measures(horizons, metrics=("psnr",)))
    return {"clip": clip.name, "rows": {row: _plain(scores[key]) for row, key in shown.items()}, "picks": picks}


def _predict(model: WorldModel, draw: Draw, clip: EvaluationClip) -> ImageArray:
    state = None if clip.state is None else clip.state[None]
    return np.asarray(predict_draw(model, draw, clip.context[None], clip.actions[None], state=state)[0])


def _upper(clip: EvaluationClip, pictures: dict[str, ImageArray], horizon: int) -> dict[str, float]:
    """What the oracle chooses by: each picture's SCS by true masks, where there are none the tracked one."""
    kind = "scs" if clip.masks is None or not len(clip.masks) else "scs_true"
    scores = _measured(clip, pictures, Measures((horizon,), metrics=("psnr",), tracked=kind == "scs"))
    found = {key: float(score.scs[kind][horizon]) for key, score in scores.items()}
    return {key: value if np.isfinite(value) else -1.0 for key, value in found.items()}


def _measured(clip: EvaluationClip, predicted: dict[str, ImageArray], measures: Measures) -> dict[str, ClipScore]:
    made = Clip(
        clip.name,
        clip.context[-1],
        clip.observed,
        predicted,
        true_structures=None if clip.masks is None else clip.masks[:, 0],
        observed_masks=None if clip.masks is None else clip.masks[:, 1:],
    )
    return {score.row: score for score in measure([made], measures).scores}


def _plain(score: ClipScore) -> dict[str, Any]:
    ious = {
        kind: [[round(float(v), 4) if np.isfinite(v) else None for v in row] for row in iou]
        for kind, iou in score.iou.items()
    }
    return {**ious, "psnr": [round(float(value), 3) for value in np.minimum(score.series["psnr"], 60.0)]}


def _records(path: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Clips judged before, by name. Raises DataError when they are another run's; a torn last line is left out."""
    if not path.is_file():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("settings") != settings:
            raise DataError(f"{path} is of a run with other settings; give another --out, or remove it")
        found[record["clip"]] = record
    return found


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-best-of",
        description="How much N predictions of one future improve on one: SCS over N by several ways to differ and to"
        " choose, with an upper bound. Run it again to continue.",
        epilog="example: egowm-best-of embedded:base_3dof --dataset data/rooms_heldout --out out/best_of",
    )
    add = parser.add_argument
    add("checkpoint", help="checkpoint directory, embedded:NAME or hub id")
    add("--dataset", type=Path, required=True, help="dataset made by egowm-convert")
    add("--out", type=Path, required=True, metavar="DIR", help="for clips.jsonl, best_of.json and best_of.png")
    add("--clips", type=int, default=48, help="how many clips (default %(default)s)")
    add("--n", default="1,2,4,8", metavar="N,...", help="how many draws, 1 among them (default %(default)s)")
    add("--ways", default="", help=f"how draws differ, of {','.join(WAYS)} (default: all that fit the robot)")
    add("--horizons", default="2,4,8", help="frames to report, from 1 (default %(default)s)")
    add("--min-motion", type=float, default=1.5, help="leave out stiller clips (default %(default)s; 0 keeps all)")
    add("--seed", type=int, default=0, help="which clips (default %(default)s)")
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, default=0, help="CPU threads (default all)")
    add("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        horizons = parse_horizons(arguments.horizons)
        counts = tuple(sorted({int(item) for item in arguments.n.split(",")}))
    except ValueError as error:
        parser.error(f"{error}; --n and --horizons are whole numbers with commas between them")
    if counts[0] != 1 or counts[-1] > MOST_DRAWS or arguments.clips < 1 or arguments.threads < 0:
        parser.error(f"--n starts with 1 and ends at {MOST_DRAWS} at most, --clips is 1 or more, --threads 0 or more")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        _run(arguments, counts, horizons)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except (EgowmError, OSError) as error:
        print(f"egowm-best-of: {error}", file=sys.stderr)
        return 1
    return 0


def _ways(text: str, model: WorldModel) -> tuple[str, ...]:
    """The ways that were asked for, or all that fit the robot. Raises ConfigError."""
    ways = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for way in ways:
        if way not in WAYS:
            raise ConfigError(f"--ways {way!r}{nearest(way, WAYS)}; there are: {', '.join(WAYS)}")
    if "mirror" in ways:
        check_mirror(model.embodiment)
    return ways or tuple(way for way in WAYS if way != "mirror" or can_mirror(model.embodiment))


def _run(arguments: argparse.Namespace, counts: tuple[int, ...], horizons: tuple[int, ...]) -> None:
    model = load_world_model(arguments.checkpoint, device=arguments.device)
    ways = _ways(arguments.ways, model)
    settings = {name: getattr(arguments, name) for name in ("checkpoint", "clips", "min_motion", "seed")}
    settings |= {"n": list(counts), "ways": list(ways), "horizons": list(horizons), "dataset": arguments.dataset.name}
    lessons = choose_lessons(
        arguments.dataset,
        model,
        count=arguments.clips,
        horizon=horizons[-1],
        min_motion=arguments.min_motion,
        seed=arguments.seed,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / RECORDS
    records = _records(path, settings)
    if path.is_file():  # a torn line must not swallow the next
        write_text(path, "\n".join(json.dumps(record) for record in records.values()))
    with path.open("a", encoding="utf-8") as file:
        for lesson in tqdm(lessons, desc="predicting and scoring", unit="clip"):
            if lesson.clip.name in records:
                continue
            record = {"settings": settings, **judge(lesson, model, ways=ways, counts=counts, horizons=horizons)}
            file.write(json.dumps(without_nan(record)) + "\n")
            fsync(file)
            records[lesson.clip.name] = record
    chosen = {way: METHODS[way] for way in ways}
    judged = [records[lesson.clip.name] for lesson in lessons]
    figures = best_of_figures(judged, choosers=chosen, counts=counts, horizons=horizons)
    text = json.dumps(without_nan({"settings": settings, **figures}), indent=1)
    for target in (arguments.out / "best_of.json", *([arguments.json] if arguments.json else [])):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text)
    plot_curves(arguments.out / "best_of.png", figures, horizon=horizons[-1])
    for score in ("scs_true", "scs"):
        print(table(figures, counts=counts, score=score), end="\n\n")


if __name__ == "__main__":
    sys.exit(main())
