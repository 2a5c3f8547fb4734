"""A room's tasks, tried by every policy in the simulator and in the model; or, to learn the verifier, only shown to it.

A task is driven with real wheels and contacts, which says what is true. Then every policy drives the same task, from
the same first picture and with the same chance, where nothing but the model answers it. Judges nothing: keeps distances
of pictures and of poses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from egowm_core.loading import load_world_model
from egowm_core.policy import ImaginedWorlds, PolicyRun, drive
from egowm_core.types import ImageArray
from egowm_core.world_model import WorldModel
from egowm_sim.policy_eval.arena import Arena, ArenaWorld, RampActuator, error_of
from egowm_sim.policy_eval.pictures import save_strips
from egowm_sim.policy_eval.policies import POLICIES
from egowm_sim.policy_eval.tasks import Success, Task, draw_tasks
from egowm_sim.policy_eval.verifier import picture_costs

LEARN_EVERY = 2  # ticks between two pictures that the verifier learns from


@dataclass(frozen=True)
class Settings:
    """What is tried: ``tasks`` a room, each of ``ticks``, by ``policies``, in a model of ``checkpoint``."""

    checkpoint: str = "embedded:base_3dof"
    tasks: int = 3
    ticks: int = 12
    policies: tuple[str, ...] = tuple(POLICIES)
    num_denoising_steps: int | None = None

    def record(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "policies": list(self.policies)}


@lru_cache(1)
def loaded(checkpoint: str) -> WorldModel:
    """The model, once a process."""
    return load_world_model(checkpoint)


def try_room(seed: int, settings: Settings, *, learn: bool, strips: Path | None = None) -> dict[str, Any]:
    """All that came of a room: ``{"seed", "learn", "tasks": [...]}``; pictures of its first task go to ``strips``.

    With ``learn`` the model is shown what was done in the simulator, and its predictions are kept with the true errors;
    without, the policies act inside the model themselves.

    Raises:
        ConfigError: a checkpoint of another robot.
        SimulationError: the room can't be simulated.
    """
    model = loaded(settings.checkpoint)
    tried = []
    with Arena(seed=seed, embodiment=model.embodiment) as arena:
        for task in draw_tasks(arena, settings.tasks, first=seed * settings.tasks):
            record, driven = _drive(arena, task, settings, model)
            context = np.repeat(driven[0].frames[:1], model.context_frames, axis=0)  # it stands still before
            if learn:
                _show(record, task, driven, context, settings, model)
            else:
                imagined = _imagine(record, task, context, settings, model)
                if strips is not None and not tried:
                    pairs = {
                        name: (driven[number].frames, imagined[number].frames)
                        for number, name in enumerate(settings.policies)
                    }
                    save_strips(strips / f"{task.name}.png", pairs, task.goal_image)
            tried.append(record)
    return {"seed": seed, "learn": learn, "tasks": tried}


def _seeds(task: Task, settings: Settings) -> list[list[int]]:
    """Of each policy's chance: the same in both worlds."""
    return [[task.room, task.number, number] for number in range(len(settings.policies))]


def _drive(arena: Arena, task: Task, settings: Settings, model: WorldModel) -> tuple[dict[str, Any], list[PolicyRun]]:
    """Every policy with real physics: a record, and the runs with actions as they were asked for."""
    success, runs, found = Success(), [], {}
    for name, seed in zip(settings.policies, _seeds(task, settings), strict=True):
        world = ArenaWorld(arena, task.start, model.embodiment)
        (run,) = drive(
            world,
            [POLICIES[name]()],
            [task.goal_image],
            ticks=settings.ticks,
            seeds=[seed],
            embodiment=model.embodiment,
        )
        errors = [error_of(pose, task.goal) for pose in world.poses[1:]]
        found[name] = {
            "success": success(errors[-1]),
            "distance_m": round(errors[-1].distance_m, 4),
            "angle_deg": round(errors[-1].angle_deg, 3),
            "way_m": round(float(np.hypot(*np.diff(np.stack(world.poses)[:, :2], axis=0).T).sum()), 3),
            "touched": arena.touched_ticks > 0,
            "done": [success(error) for error in errors],
            "costs": _last(picture_costs(run.frames[-1:], task.goal_image)),
        }
        runs.append(run)
    start = _last(picture_costs(runs[0].frames[:1], task.goal_image))
    return {"name": task.name, "condition": task.condition, "start": start, "simulator": found, "model": {}}, runs


def _show(
    record: dict[str, Any],
    task: Task,
    driven: list[PolicyRun],
    context: ImageArray,
    settings: Settings,
    model: WorldModel,
) -> None:
    """The model predicts what was done; costs of every picture, where ``done`` says whether it was so."""
    moves = []
    for run in driven:
        actuator = RampActuator(model.embodiment)
        moves.append(np.stack([actuator(action) for action in run.actions]))
    predicted = model.predict(
        np.repeat(context[None], len(driven), axis=0),
        np.stack(moves),
        num_denoising_steps=settings.num_denoising_steps,
    ).images
    for name, frames in zip(settings.policies, predicted, strict=True):
        costs = picture_costs(frames, task.goal_image)
        done = record["simulator"][name]["done"]
        record["model"][name] = {
            "examples": [
                {"costs": {kind: values[t] for kind, values in costs.items()}, "done": done[t]}
                for t in range(LEARN_EVERY - 1, settings.ticks, LEARN_EVERY)
            ]
        }


def _imagine(
    record: dict[str, Any], task: Task, context: ImageArray, settings: Settings, model: WorldModel
) -> list[PolicyRun]:
    """Every policy inside the model, which is all that answers it."""
    count = len(settings.policies)
    runs = drive(
        ImaginedWorlds(
            model, np.repeat(context[None], count, axis=0), num_denoising_steps=settings.num_denoising_steps
        ),
        [POLICIES[name]() for name in settings.policies],
        [task.goal_image] * count,
        ticks=settings.ticks,
        seeds=_seeds(task, settings),
        embodiment=model.embodiment,
        actuators=[RampActuator(model.embodiment) for _ in range(count)],
    )
    for name, run in zip(settings.policies, runs, strict=True):
        record["model"][name] = {"costs": _last(picture_costs(run.frames[-1:], task.goal_image))}
    return runs


def _last(costs: dict[str, list[float]]) -> dict[str, float]:
    return {kind: round(values[-1], 6) for kind, values in costs.items()}
