"""What the world_model node reports in the diagnostics: four statuses out of figures. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from egowm_core.deadline import DeadlineScheduler
from egowm_nodes.guards.actions import ActionGuard
from egowm_nodes.guards.frames import FrameGuard
from egowm_nodes.plans.chooser import ActionChooser, Choice, counts_in_words
from egowm_nodes.prediction.params import WorldModelParams
from egowm_nodes.prediction.predictor import Predictor
from egowm_nodes.runtime.diagnostics import Durations, Level, RateMeter, Status, judge
from egowm_nodes.runtime.notices import Notices

_SLOW_TICKS = 0.85  # of the wanted rate
_SETTLE_S = 5.0
_LATE = 0.1  # share of predictions over their budget that is worth a word


class Figures:
    """Counts, rates and durations since the node was activated. ``clock`` is steady, in s."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.started_s = clock()
        self.ticks, self.live, self.hindsight = RateMeter(clock), RateMeter(clock), RateMeter(clock)
        self.latency = Durations()  # from the picture's arrival to the published rollout
        self.waiting = Durations()  # of that: until odometry reached the picture's stamp
        self.queued = Durations()  # of that: until the inference thread was free
        self.model = Durations()
        self.overhead = Durations()  # from the predicted frames to the published rollout
        self.failures = 0


def world_model_statuses(
    *,
    parameters: WorldModelParams,
    predictor: Predictor,
    figures: Figures,
    notices: Notices,
    missing: Sequence[str],
    images_hz: float,
    transport: str,
    odometry_hz: float,
    drops: Mapping[str, int],
    replaced: Mapping[str, int],
    choice: Choice | None,
    chooser: ActionChooser,
    refused: Mapping[str, int],
    frame_guard: FrameGuard,
    deadline: DeadlineScheduler | None,
) -> list[Status]:
    """The statuses ``inputs``, ``inference``, ``plan`` and ``guards``."""
    recent = notices.recent()
    of = {
        kind: [(Level.WARN, notice.text) for notice in recent if notice.key.startswith(f"{kind}:")]
        for kind in ("input", "plan", "inference", "guard")
    }
    settled = figures.clock() - figures.started_s > _SETTLE_S and not missing
    wanted_hz = predictor.model.embodiment.rate_hz

    inputs = [(Level.STALE, text) for text in missing] + of["input"]
    if settled and figures.ticks.rate_hz() < _SLOW_TICKS * wanted_hz:
        inputs.append(
            (
                Level.WARN,
                f"{figures.ticks.rate_hz():.1f} ticks a second, the model wants {wanted_hz:g}: images come at"
                f" {images_hz:.1f} Hz, which should be a multiple of it, and odometry at {odometry_hz:.1f} Hz",
            )
        )
    if predictor.foreign_rate:
        text = f"ticks at {wanted_hz:g} Hz, the checkpoint was trained at {predictor.native_rate_hz:g} Hz"
        inputs.append((Level.WARN, text))

    inference = [(Level.ERROR, text) for _, text in of["inference"]]
    span_s = predictor.horizon / wanted_hz
    if figures.latency.percentile_s(50) > span_s:
        inference.append(
            (
                Level.WARN,
                f"predictions of {span_s:g} s take {figures.latency.percentile_s(50):.1f} s: lower num_denoising_steps",
            )
        )

    if deadline is not None and deadline.runs > 20 and deadline.miss_share > _LATE:
        text = (
            f"{deadline.miss_share:.0%} of predictions take longer than budget_ms, {1e3 * deadline.budget_s:.0f}: give"
            " them more, or the processor less to do"
        )
        inference.append((Level.WARN, text))

    level, message = judge(inputs, fine="images and odometry flow")
    dropped = {f"dropped: {reason}": str(count) for reason, count in sorted(drops.items())}
    flow = {
        "images_hz": f"{images_hz:.1f}",
        "transport": transport,
        "odometry_hz": f"{odometry_hz:.1f}",
        "ticks_hz": f"{figures.ticks.rate_hz():.2f}",
        "ticks": str(figures.ticks.count),
    }
    statuses = [Status("inputs", level, message, flow | dropped)]

    level, message = judge(inference, fine="predicting" if figures.live.count else "waiting for a first context")
    statuses.append(
        Status(
            "inference",
            level,
            message,
            {
                "rollouts_hz": f"{figures.live.rate_hz():.2f}",
                "rollouts": str(figures.live.count),
                "hindsight_hz": f"{figures.hindsight.rate_hz():.2f}",
                "hindsight": str(figures.hindsight.count),
                "latency_ms p50 / p99": figures.latency.text(),
                "model_ms p50 / p99": figures.model.text(),
                "odometry_wait_ms p50 / p99": figures.waiting.text(),
                "queue_ms p50 / p99": figures.queued.text(),
                "publish_ms p50 / p99": figures.overhead.text(),
                "replaced live": str(replaced.get("live", 0)),
                "replaced hindsight": str(replaced.get("hindsight", 0)),
                "failures": str(figures.failures),
                "num_denoising_steps": str(parameters.num_denoising_steps or predictor.model.num_denoising_steps),
                "horizon": str(predictor.horizon),
                "device": str(predictor.model.device),
            }
            | _budget(deadline),
        )
    )

    return [
        *statuses,
        _plan_status(choice, chooser, refused, of["plan"], asked=figures.ticks.count > 0),
        _guard_status(chooser.guard, frame_guard, of["guard"]),
    ]


def _budget(deadline: DeadlineScheduler | None) -> dict[str, str]:
    """What was chosen to keep to the budget, how often, and how often in vain."""
    if deadline is None:
        return {"budget": "none"}
    chosen = {f"{steps} x {horizon} frames": n for (steps, horizon, _), n in dict(deadline.chosen).items()}
    found = {key if key == "budget" else f"budget: {key}": value for key, value in deadline.figures().items()}
    return found | {"budget: chosen": counts_in_words(chosen)}


def _plan_status(
    choice: Choice | None,
    chooser: ActionChooser,
    refused: Mapping[str, int],
    notices: Sequence[tuple[Level, str]],
    *,
    asked: bool,
) -> Status:
    """Which actions predictions are made with, how old they are, and what of them was made up."""
    passed_over = "; ".join((chooser.unused | chooser.stale).values())
    findings = list(notices)
    if choice is None and asked:
        why = passed_over or "no fresh plan, and nothing to hold"
        findings.append((Level.WARN, f"no actions to predict with: {why}"))
    level, message = judge(findings, fine="nothing chosen yet" if choice is None else choice.origin)
    values = {
        "source": "none" if choice is None else choice.actions.source.value,
        "kind": "none" if choice is None else choice.kind,
        "origin": "" if choice is None else choice.origin,
        "age_s": "" if choice is None or math.isnan(choice.age_s) else f"{choice.age_s:.2f}",
        "extended_rows": "0" if choice is None else str(choice.extended),
        "led_in_rows": "0" if choice is None else str(choice.led_in),
        "passed_over": passed_over,
        "plans_taken": str(chooser.plans_taken),
        "taken": counts_in_words(chooser.taken),
        "plans_refused": str(sum(refused.values())),
        "refused": counts_in_words(refused),
    }
    return Status("plan", level, message, values)


def _guard_status(actions: ActionGuard, frames: FrameGuard, notices: Sequence[tuple[Level, str]]) -> Status:
    """What was kept from the model, and what of it from everybody else."""
    given, shown = actions.counts(), frames.counts()
    level, message = judge(notices, fine="actions and predictions pass")
    values = {
        "action_guard": actions.mode,
        "actions_checked": str(given.checked),
        "actions_refused": str(given.refused),
        "values_clipped": counts_in_words(given.clipped),
        "frame_guard": frames.mode,
        "predictions_checked": str(shown.checked),
        "predictions_dropped": str(shown.dropped),
        "predictions_flagged": str(shown.flagged),
        "found": counts_in_words(shown.found),
        "faces_blurred": str(shown.faces) if frames.blurs else "off",
    }
    return Status("guards", level, message, values)
