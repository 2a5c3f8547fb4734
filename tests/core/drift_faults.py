"""Faults of a made drive from its ONSET on, each with the cause that should be found; for tests of the detector."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from egowm_core.drift import Cause, DriftBaseline, DriftReport, DriftState
from tests.core.drift_world import LENGTH, Drive, by_law, detector, watch

ONSET = 120
COUNT = ONSET + 32  # eight seconds to find out
LONG = ONSET + 80
AFTER = slice(ONSET, None)
SEEDS = (1, 2, 3, 4)


def frozen(drive: Drive) -> None:
    """One picture again and again."""
    drive.change[AFTER], drive.surprise[AFTER], drive.motion[AFTER], drive.gain[AFTER] = 0, 0, 0, 0
    drive.drop[AFTER] = 40


def dark(drive: Drive) -> None:
    """Lights out: nothing is seen."""
    drive.gain[ONSET], drive.surprise[ONSET] = -3, 0.9
    drive.brightness[AFTER], drive.texture[AFTER], drive.motion[AFTER] = 4, 0, np.nan
    drive.noise[AFTER] = np.nan


def partly_covered(drive: Drive) -> None:
    """Something over half the lens."""
    drive.surprise[ONSET], drive.fixed[AFTER], drive.drop[AFTER] = 0.5, 0.45, 30


def wholly_covered(drive: Drive) -> None:
    """A textured thing over all of the lens: it stands still."""
    drive.surprise[ONSET], drive.motion[AFTER], drive.drop[AFTER] = 0.9, 0, 60
    drive.motion[AFTER] += np.random.default_rng(0).normal(0, 0.05, drive.motion[AFTER].shape)


def brighter(drive: Drive) -> None:
    """Twice the exposure from one tick to the next."""
    drive.gain[ONSET], drive.brightness[AFTER] = math.log(2), 220


def knocked(drive: Drive) -> None:
    """The camera turned to the left and down, once."""
    drive.motion[ONSET] += (22, -9, 0, 0)
    drive.surprise[ONSET], drive.drop[ONSET : ONSET + LENGTH] = 0.2, 50


def late(drive: Drive, ticks: int = 3) -> None:
    """From the onset on pictures show the world of so many ticks ago: first they go back."""
    true = drive.motion.copy()
    drive.motion[ONSET] = -true[ONSET - ticks + 1 : ONSET].sum(axis=0)
    drive.motion[ONSET + 1 :] = true[ONSET + 1 - ticks : -ticks]
    drive.drop[AFTER], drive.surprise[ONSET] = 25, 0.1


def slipping(drive: Drive) -> None:
    """A fifth of the motion that wheels report."""
    drive.motion[AFTER] *= 0.2
    drive.drop[AFTER] = 30


def pushed(drive: Drive) -> None:
    """Somebody turns the robot, whose wheels rest."""
    drive.actions[AFTER] = 0
    drive.predicted[AFTER] = 0
    drive.motion[AFTER] = by_law(drive.actions[AFTER]) + np.array([9, 0, 0, 0])
    drive.drop[AFTER] = 30


def miscounting(drive: Drive) -> None:
    """One encoder counts too little: the picture turns more than odometry says."""
    drive.motion[AFTER] += (6, 0, 0, 0)
    drive.drop[AFTER] = 20


def walking_by(drive: Drive) -> None:
    """People."""
    drive.torn[AFTER] = 45


def strange(drive: Drive) -> None:
    """A scene that is predicted badly, though it moves as it should."""
    drive.drop[AFTER] = 45


FAULTS: dict[Callable[[Drive], None], tuple[Cause, str, DriftState]] = {
    frozen: (Cause.FROZEN, "same picture", DriftState.ERROR),
    dark: (Cause.DARK, "mean gray 4, usually 120", DriftState.ERROR),
    partly_covered: (Cause.OCCLUDED, "45% of the picture stands still", DriftState.ERROR),
    wholly_covered: (Cause.OCCLUDED, "lens is covered", DriftState.ERROR),
    brighter: (Cause.EXPOSURE, "2 times as bright", DriftState.WARN),
    knocked: (Cause.CAMERA_MOVED, "knocked", DriftState.ERROR),
    late: (Cause.LAG, "older", DriftState.ERROR),
    slipping: (Cause.SLIP, "wheels slip", DriftState.ERROR),
    pushed: (Cause.PUSHED, "pushed", DriftState.ERROR),
    miscounting: (Cause.ODOMETRY, "to the left", DriftState.ERROR),
    walking_by: (Cause.MOVING_THINGS, "by themselves", DriftState.WARN),
    strange: (Cause.NOVEL_SCENE, "predicted badly", DriftState.ERROR),
}


def thawed(drive: Drive, after: int = 24) -> None:
    """Frozen for so many ticks; then pictures go on from where the robot has come to by now."""
    rest = Drive(drive.count, seed=drive.seed)
    frozen(drive)
    thaw = ONSET + after
    for name in ("change", "surprise", "motion", "gain", "drop"):
        getattr(drive, name)[thaw:] = getattr(rest, name)[thaw:]
    drive.motion[thaw] = rest.motion[ONSET : thaw + 1].sum(axis=0)


def spoiled(fault: Callable[..., None], seed: int = 1, *, count: int = COUNT, lively: bool = False, **options) -> Drive:
    drive = Drive(count, seed=seed, lively=lively)
    fault(drive, **options)
    return drive


def split(usual: DriftBaseline, drive: Drive) -> tuple[list[DriftReport], list[DriftReport]]:
    """Reports before the onset, and from then on."""
    reports = watch(detector(usual), drive)
    at = drive.stamp(ONSET)
    return [r for r in reports if r.stamp_ns < at], [r for r in reports if r.stamp_ns >= at]
