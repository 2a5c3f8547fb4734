"""The drives of the drift bench: which faults, in which rooms, and what the monitor's evidence of each was.

A drive is recorded into a bag, as a robot's would be, and watched in hindsight by the very parts that the nodes use.
Its evidence is kept as arrays: baselines and thresholds can be tried again without simulating anew. Decides nothing.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.bag import Bag
from egowm_core.data.values import ImageValue, TextValue, TwistValue
from egowm_core.drift import Evidence, drift_tracker, judge_comparison
from egowm_core.hindsight import HindsightOptions, hindsight
from egowm_core.types import ActionSource
from egowm_core.world_model import WorldModel
from egowm_sim.faults import Fault, FaultKind, parse_fault
from egowm_sim.record import Drive, record_drive
from egowm_sim.robot_simulation import START_NS

HORIZONS = (2, 4, 8)
FAULT_AT_S, FAULT_DRIVE_S, FREE_DRIVE_S = 20.0, 40.0, 60.0
CAMERA_NOISE = 1.5  # gray levels; without any, a standing robot's pictures would be identical
TOLD_TO_MOVE = 0.1  # m/s or rad/s: below, a wheel's fault cannot show
SEEN = 0.02  # share of the picture that people must cover to be there
SEVERITIES: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.WHEEL_SLIP: ("wheel_slip:0.95", "wheel_slip:0.85"),
    FaultKind.STUCK_WHEEL: ("stuck_wheel", "stuck_wheel.left"),
    FaultKind.CAMERA_YAW: ("camera_yaw:10", "camera_yaw:-10", "camera_yaw:6"),
    FaultKind.CAMERA_PITCH: ("camera_pitch:10", "camera_pitch:-10", "camera_pitch:6"),
    FaultKind.OCCLUSION: ("occlusion:0.5", "occlusion:0.3", "occlusion:1"),
    FaultKind.FROZEN_FRAME: ("frozen_frame",),
    FaultKind.TIME_LAG: ("time_lag:0.5", "time_lag:1"),
    FaultKind.ENCODER_BIAS: ("encoder_bias:0.2", "encoder_bias:-0.2", "encoder_bias.left:0.3"),
    FaultKind.LIGHTS_OUT: ("lights_out:0.95", "lights_out:0.9"),
    FaultKind.GAIN_CHANGE: ("gain_change:2", "gain_change:0.6", "gain_change:1.5"),
    FaultKind.PEOPLE: ("people:1", "people:2"),
}
_FIELDS = (
    "frame_scs", "motion", "predicted_motion", "change", "surprise", "gain", "fixed", "brightness", "texture", "torn",
    "echo",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One drive: ``name``, the room's ``seed``, its length, and its fault, if any (as ``parse_fault`` reads it)."""

    name: str
    seed: int
    seconds: float
    fault: str = ""


@dataclass(frozen=True, eq=False)
class Watched:
    """What came of a run: ``evidence`` in order of time, ``commands`` (n,3) of seconds, m/s and rad/s.

    ``onset_s``: seconds from the start to the first moment at which the fault could show, NaN where it never did or
    there is none.
    """

    run: Run
    evidence: list[Evidence]
    commands: NDArray[np.float64]
    onset_s: float


def plan_runs(*, free_minutes: float, per_fault: int, learn_minutes: float, seed: int) -> list[Run]:
    """Drives without fault, to judge (``free``) and to learn from (``learn``), and ``per_fault`` drives of each kind.

    No two drives share a room.
    """
    runs = [Run(f"learn_{i:02d}", seed + i, FREE_DRIVE_S) for i in range(math.ceil(learn_minutes * 60 / FREE_DRIVE_S))]
    first = seed + 1000
    runs += [Run(f"free_{i:02d}", first + i, FREE_DRIVE_S) for i in range(math.ceil(free_minutes * 60 / FREE_DRIVE_S))]
    for number, (kind, forms) in enumerate(SEVERITIES.items()):
        for i in range(per_fault):
            at_s = FAULT_AT_S + round(0.17 * (i % 7), 2)  # not always at the same phase of a tick
            room = seed + 2000 + 100 * number + i
            runs.append(Run(f"{kind}_{i:02d}", room, FAULT_DRIVE_S, f"{forms[i % len(forms)]}@{at_s:g}"))
    return runs


def watch(run: Run, model: WorldModel, folder: Path, *, every: int) -> Watched:
    """Record a run (unless its bag is there), replay it through the model, and gather all evidence.

    Raises:
        SimulationError, DataError: the drive can't be made or read.
    """
    kept = folder / f"{run.name}.npz"
    if kept.is_file() and (known := _load(kept, run, every)) is not None:
        return known
    bag_path = folder / "bags" / run.name
    faults = (parse_fault(run.fault),) if run.fault else ()
    people = any(fault.kind is FaultKind.PEOPLE for fault in faults)
    if not (bag_path / "metadata.yaml").is_file():
        record_drive(Drive(bag_path, run.seed, run.seconds, truth=people, faults=faults, camera_noise=CAMERA_NOISE))
    tracker = drift_tracker()
    with Bag(bag_path) as bag:
        commands = np.array(
            [
                ((item.stamp_ns - START_NS) * 1e-9, item.value.twist[0], item.value.twist[-1])
                for item in bag.read(["/cmd_vel"])
                if isinstance(item.value, TwistValue)
            ]
        ).reshape(-1, 3)
        evidence = [
            judge_comparison(comparison, HORIZONS, max_structures=8, tracker=tracker).evidence
            for comparison in hindsight(bag, model, HindsightOptions(every=every))
        ]
        onset_s = _onset_s(faults[0], commands, _people_shares(bag) if people else None) if faults else math.nan
    watched = Watched(run, evidence, commands, onset_s)
    _save(kept, watched, every)
    shutil.rmtree(bag_path)
    return watched


def _onset_s(fault: Fault, commands: NDArray[np.float64], people: NDArray[np.float64] | None) -> float:
    """When the fault could first show: people when they are seen, what needs motion when the robot is told to move."""
    if people is not None:
        seen = people[(people[:, 0] >= fault.start_s) & (people[:, 1] >= SEEN), 0]
        return float(seen[0]) if len(seen) else math.nan
    needs_motion = {
        FaultKind.WHEEL_SLIP, FaultKind.STUCK_WHEEL, FaultKind.ENCODER_BIAS, FaultKind.FROZEN_FRAME, FaultKind.TIME_LAG
    }  # fmt: skip
    if fault.kind not in needs_motion:
        return fault.start_s
    told = np.max(np.abs(commands[:, 1:]), axis=1) >= TOLD_TO_MOVE
    moments = np.maximum(commands[told, 0], fault.start_s)
    later = moments[commands[told, 0] >= fault.start_s - 0.1]
    return float(later[0]) if len(later) else math.nan


def _people_shares(bag: Bag) -> NDArray[np.float64]:
    """(n,2): seconds, and the share of the picture that people cover."""
    ids: list[int] = []
    shares: list[tuple[float, float]] = []
    for item in bag.read(["/truth/structures", "/truth/segmentation/compressed"]):
        if isinstance(item.value, TextValue):
            known = json.loads(item.value.text)
            ids = [int(key) for key, value in known.items() if not value.get("static", True)]
        elif isinstance(item.value, ImageValue):
            labels = item.value.labels()
            shares.append(((item.stamp_ns - START_NS) * 1e-9, float(np.isin(labels, ids).mean())))
    return np.array(shares).reshape(-1, 2)


def _save(path: Path, watched: Watched, every: int) -> None:
    head = {
        "run": [watched.run.name, watched.run.seed, watched.run.seconds, watched.run.fault],
        "every": every,
        "onset_s": watched.onset_s if math.isfinite(watched.onset_s) else None,
        "comparisons": [
            {
                "context": e.context_stamp_ns,
                **{
                    name: {str(h): _plain(v) for h, v in getattr(e, name).items()}
                    for name in ("scs", "num_structures", "psnr")
                },
            }
            for e in watched.evidence
        ],
    }
    arrays: dict[str, Any] = {
        name: np.stack([getattr(e, name) for e in watched.evidence]) for name in ("stamps_ns", "actions", *_FIELDS)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial.npz")
    np.savez_compressed(partial, head=np.array(json.dumps(head)), commands=watched.commands, **arrays)
    partial.replace(path)


def _load(path: Path, run: Run, every: int) -> Watched | None:
    """A run watched before; None when it was another one."""
    with np.load(path, allow_pickle=False) as data:
        head = json.loads(str(data["head"]))
        if head["run"] != [run.name, run.seed, run.seconds, run.fault] or head["every"] != every:
            return None
        arrays = {name: data[name] for name in ("stamps_ns", "actions", *_FIELDS)}
        commands = data["commands"]
    evidence = [
        Evidence(
            source=ActionSource.EXECUTED,
            context_stamp_ns=int(one["context"]),
            **{name: {int(h): _number(v) for h, v in one[name].items()} for name in ("scs", "psnr")},
            num_structures={int(h): int(v) for h, v in one["num_structures"].items()},
            **{name: values[i] for name, values in arrays.items()},
        )
        for i, one in enumerate(head["comparisons"])
    ]
    return Watched(run, evidence, commands, _number(head["onset_s"]))


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def held_plans(watched: Watched, tick_s: float) -> dict[int, NDArray[np.float32]]:
    """By stamp of each frame, the action (1,3) of holding the last command for a tick: what the robot was told."""
    stamps: Sequence[int] = sorted({int(s) for e in watched.evidence for s in (e.context_stamp_ns, *e.stamps_ns)})
    times, plans = watched.commands[:, 0], {}
    for stamp_ns in stamps:
        at = int(np.searchsorted(times, (stamp_ns - START_NS) * 1e-9, side="right")) - 1
        if at >= 0:
            v, w = watched.commands[at, 1:]
            plans[stamp_ns] = np.array([[v * tick_s, 0.0, w * tick_s]], np.float32)
    return plans
