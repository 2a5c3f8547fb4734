"""Best of N: several predictions of one future, and one made or chosen of them, so that compute buys accuracy.

What differs between the N is a ``Draw``: the noise (``seeds``; ``samples``, with more denoising steps, so that each is
sharp and one of many futures), also the side the world is seen from (``mirror``: the picture and the actions mirrored,
the prediction mirrored back), or the way of sampling (``settings``). What becomes of them, knowing no future:

- ``mean``: their mean, picture by picture. One denoising step from noise is an estimate of the mean future with noise
  of its own, which goes down with the number of draws.
- ``medoid``: the one nearest to all others (self-consistency: what most draws agree on).
- ``hindsight``: the one whose way of drawing has just predicted the recent past best, by the SCS against what the
  camera then saw. Meaningful for settings, which have a skill; a seed's noise has none that lasts.

Knows models and scores; knows no dataset and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, RolloutError
from egowm_core.latent_rollout import SamplingPlan
from egowm_core.models.conditioning import WARPS
from egowm_core.schema import nearest
from egowm_core.scs import propose_structures, track_and_score
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSequence, FloatArray, Frames, ImageArray, Rollout
from egowm_core.world_model import WorldModel

CHOOSERS = ("mean", "medoid", "hindsight")
MOST_DRAWS = 64
SAMPLE_STEPS = 4  # denoising steps of samples, for each that the model takes by itself
_MIRRORED = np.array([1.0, -1.0, -1.0], np.float32)  # dx, dy, dyaw seen in a mirror


@dataclass(frozen=True)
class Draw:
    """One way to predict: the noise's ``seed``, ``mirrored`` or not, and what differs from the model's own sampling."""

    seed: int = 0
    mirrored: bool = False
    changes: Mapping[str, float | str] = field(default_factory=dict)  # fields of a SamplingPlan
    warp: str | None = None


@dataclass(frozen=True)
class Past:
    """What happened before the newest frame, for ``hindsight``: ``context`` (K,H,W,3), then ``actions`` (T,D) led to
    ``observed`` (T,H,W,3). ``state`` (S,) is the robot's at the last context frame, where a model takes one."""

    context: ImageArray
    actions: FloatArray
    observed: ImageArray
    state: FloatArray | None = None


@dataclass(frozen=True)
class BestOf:
    """The ``rollout`` that came of all ``images`` (N,T,H,W,3); ``chosen`` is its number, None of a mean.

    ``scores`` (N,) are what it was chosen by, higher is better; NaN of a mean.
    """

    rollout: Rollout
    images: ImageArray
    chosen: int | None
    scores: FloatArray


def seed_draws(model: WorldModel, n: int, *, seed: int = 0) -> tuple[Draw, ...]:
    """The same way ``n`` times, with other noise."""
    return tuple(Draw(seed + i) for i in range(n))


def sample_draws(model: WorldModel, n: int, *, seed: int = 0) -> tuple[Draw, ...]:
    """With other noise and ``SAMPLE_STEPS`` times the model's denoising steps: samples of the future, not its mean."""
    steps = SAMPLE_STEPS * model.num_denoising_steps
    return tuple(Draw(seed + i, changes={"num_denoising_steps": steps}) for i in range(n))


def mirror_draws(model: WorldModel, n: int, *, seed: int = 0) -> tuple[Draw, ...]:
    """Each noise as it is and, next, in the mirror.

    Raises:
        ConfigError: a robot of which it isn't known what a mirror makes of its actions.
    """
    check_mirror(model.embodiment)
    return tuple(Draw(seed + i // 2, mirrored=i % 2 == 1) for i in range(n))


def setting_draws(model: WorldModel, n: int, *, seed: int = 0) -> tuple[Draw, ...]:
    """The model's own way first, then others: more or less noise to begin with, more steps, another warp."""
    high = model.plan.sigma_max
    other = [warp for warp in WARPS[::-1] if warp not in (model.warp, "none")] if model.warp != "none" else []
    ways: list[tuple[dict[str, float | str], str | None]] = [({}, None), ({"sigma_max": 2 * high}, None)]
    ways += [({}, warp) for warp in other]
    ways += [({"num_denoising_steps": 2 * model.num_denoising_steps}, None), ({"sigma_max": 4 * high}, None)]
    ways += [({"sigma_max": 2 * high}, warp) for warp in other]
    ways += [({"num_denoising_steps": 4 * model.num_denoising_steps}, None), ({"sigma_max": high / 2}, None)]
    return tuple(
        Draw(seed + i // len(ways), changes=ways[i % len(ways)][0], warp=ways[i % len(ways)][1]) for i in range(n)
    )


WAYS: Mapping[str, Callable[..., tuple[Draw, ...]]] = MappingProxyType(
    {"seeds": seed_draws, "samples": sample_draws, "mirror": mirror_draws, "settings": setting_draws}
)
"""How draws differ, by name: (model, n, seed=) to draws. Except of samples, the first is the model's own prediction."""


def draws(model: WorldModel, n: int, *, way: str = "mirror", seed: int = 0) -> tuple[Draw, ...]:
    """``n`` draws of a way of ``WAYS``; fewer are always the first of more.

    Raises:
        ConfigError: no such way, not for this robot, or ``n`` out of range.
    """
    if way not in WAYS:
        raise ConfigError(f"draws by {way!r}{nearest(way, WAYS)}; there are: {', '.join(WAYS)}")
    if not 1 <= n <= MOST_DRAWS:
        raise ConfigError(f"n is {n} draws; expected 1 to {MOST_DRAWS}")
    return WAYS[way](model, n, seed=seed)


def can_mirror(embodiment: Embodiment) -> bool:
    """Whether it is known what a mirror makes of the robot's actions: of a planar base without further states."""
    return embodiment.integrate == "se2" and embodiment.action_dim == 3 and not embodiment.states


def check_mirror(embodiment: Embodiment) -> None:
    """Raises ConfigError unless the robot :func:`can_mirror`."""
    if not can_mirror(embodiment):
        raise ConfigError(
            f"what a mirror makes of the actions of {embodiment.name!r} isn't known, only of a base that moves by "
            "dx, dy, dyaw; use draws by 'seeds'"
        )


def predict_draw(
    model: WorldModel, draw: Draw, context: ImageArray, actions: FloatArray, *, state: FloatArray | None = None
) -> ImageArray:
    """What a draw predicts (B,T,H,W,3) from ``context`` (B,K,H,W,3), ``actions`` (B,T,D) and ``state`` (B,S) in units.

    Raises:
        ConfigError: a mirror for a robot that has none, or sampling that doesn't exist.
        RolloutError: shapes that do not fit.
    """
    plan: SamplingPlan = replace(model.plan, **draw.changes)  # type: ignore[arg-type]  # it checks itself
    if draw.mirrored:
        check_mirror(model.embodiment)
        context, actions = context[..., ::-1, :], actions * _MIRRORED
    images = model.predict(context, actions, state=state, seed=draw.seed, plan=plan, warp=draw.warp).images
    return np.ascontiguousarray(images[..., ::-1, :]) if draw.mirrored else images


def mean_of(images: ImageArray) -> ImageArray:
    """The mean (...) uint8 of N predictions (N,...) uint8."""
    return np.asarray(np.round(images.mean(axis=0, dtype=np.float64)), np.uint8)


def agreement(images: ImageArray) -> FloatArray:
    """How well each of N predictions (N,T,H,W,3) agrees with the others (N,), higher is better, 0 at best.

    Minus the mean of its root mean square differences (of values in 0..1) from the others: not squared, so that one
    that is far off doesn't decide. Equal for two: then the first counts as the best.
    """
    if images.ndim != 5 or not len(images):
        raise RolloutError(f"predictions to choose from are (N,T,H,W,3) with N >= 1, got {images.shape}")
    values = images.reshape(len(images), -1).astype(np.float32) / 255
    apart = np.array([[np.sqrt(np.mean((a - b) ** 2)) for a in values] for b in values])
    return np.asarray(-apart.sum(axis=1) / max(len(images) - 1, 1), np.float32)


def hindsight_scores(images: ImageArray, past: Past) -> FloatArray:
    """SCS (N,) in 0..100 of N predictions (N,T,H,W,3) of the past, all on the same structures; NaN if none is judged.

    Raises:
        ScoreError: the predictions do not fit what was observed.
    """
    context, horizon = past.context[-1], len(past.observed)
    structures = propose_structures(context)
    scored = [
        track_and_score(frames, past.observed, context=context, structures=structures, horizons=(horizon,)).scores
        for frames in images
    ]
    return np.array([scores.scs[horizon] for scores in scored], np.float32)


def predict_past(model: WorldModel, ways: Sequence[Draw], past: Past) -> ImageArray:
    """What each of N draws would have predicted of the past (N,T,H,W,3). Raises as ``predict_draw``."""
    state = None if past.state is None else past.state[None]
    drawn = [predict_draw(model, draw, past.context[None], past.actions[None], state=state) for draw in ways]
    return np.concatenate(drawn)


def choose(images: ImageArray, *, by: str, past_scores: FloatArray | None = None) -> tuple[int | None, FloatArray]:
    """The number of the best of N predictions (N,T,H,W,3) and the scores (N,) that say so; None and NaN of a mean.

    Raises:
        ConfigError: no such chooser.
        RolloutError: hindsight without scores of the past, one a draw.
    """
    if by not in CHOOSERS:
        raise ConfigError(f"best by {by!r}{nearest(by, CHOOSERS)}; there are: {', '.join(CHOOSERS)}")
    if by == "mean":
        return None, np.full(len(images), np.nan, np.float32)
    if by == "medoid":
        scores = agreement(images)
        return int(np.argmax(scores)), scores
    if past_scores is None or past_scores.shape != (len(images),):
        raise RolloutError(f"hindsight chooses by the SCS of each of {len(images)} draws over the past; give the past")
    judged = np.isfinite(past_scores)
    return (int(np.nanargmax(past_scores)) if judged.any() else 0), past_scores


def best_of(
    model: WorldModel,
    context: Frames,
    actions: ActionSequence,
    *,
    n: int = 4,
    way: str = "mirror",
    by: str = "mean",
    past: Past | None = None,
    state: FloatArray | None = None,
    seed: int = 0,
) -> BestOf:
    """As ``WorldModel.rollout``, with ``n`` draws of a ``way`` of which one is made or chosen ``by`` a chooser.

    It costs ``n`` rollouts, with hindsight twice as many and the scoring of ``n`` short videos.

    Raises:
        ConfigError: no such way or chooser, or not for this robot.
        RolloutError, EmbodimentError: as ``WorldModel.rollout``; hindsight without a past.
    """
    if by == "hindsight" and past is None:
        raise RolloutError("hindsight chooses by what was just seen; give the past")
    ways = draws(model, n, way=way, seed=seed)
    values = model.embodiment.validate_actions(actions.values)
    if len(context) < model.context_frames:
        raise RolloutError(f"{len(context)} context frames given, {model.name} needs {model.context_frames}")
    given = None if state is None else state[None]
    images = np.concatenate([predict_draw(model, d, context.images[None], values[None], state=given) for d in ways])
    past_scores = None
    if by == "hindsight" and past is not None:
        past_scores = hindsight_scores(predict_past(model, ways, past), past)
    chosen, scores = choose(images, by=by, past_scores=past_scores)
    last_ns, period_ns = int(context.stamps_ns[-1]), NANOSECONDS_PER_SECOND / model.embodiment.rate_hz
    rollout = Rollout(
        frames=Frames(
            mean_of(images) if chosen is None else images[chosen],
            last_ns + np.round(period_ns * np.arange(1, len(values) + 1)).astype(np.int64),
        ),
        actions=ActionSequence(values, actions.source),
        context_stamp_ns=last_ns,
        num_denoising_steps=int(ways[chosen or 0].changes.get("num_denoising_steps", model.num_denoising_steps)),
        seed=seed if chosen is None else ways[chosen].seed,
    )
    return BestOf(rollout, images, chosen, scores)
