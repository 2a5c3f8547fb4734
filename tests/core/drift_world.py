"""A made drive for tests of the drift detector: figures of evidence by a known law, and hands to disturb them.

A base turns and drives; turning shifts the picture, driving makes it grow by as much as things are near. Scores fall
with motion, as a model's do. Everything is arrays over ticks, so that a test spoils exactly what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np

from egowm_core.drift import BaselineLearner, DriftBaseline, DriftDetector, DriftReport, Evidence
from egowm_core.drift.expectation import MotionExpectation
from egowm_core.drift.signs import TickSigns
from egowm_core.types import ActionSource

TICK_S = 0.25
TICK_NS = 250_000_000
SCALES = np.array([0.5, 1.0], np.float32)  # m/s forward, rad/s to the left
LAW = np.array([[0.0, 12.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # px per scale, and constant
NOISE_PX = 0.2
HORIZONS = (2, 4, 8)
LENGTH = 8  # ticks of a comparison
EVERY = 2  # ticks between comparisons
STILL_SCS, SCS_PER_PX, SCS_NOISE = 92.0, 0.15, 2.0


def by_law(actions: np.ndarray) -> np.ndarray:
    """(n,4) px for actions (n,2) in units, at usual nearness."""
    return actions / SCALES @ LAW[:, :2].T + LAW[:, 2]


def wandering(count: int, rng: np.random.Generator, *, lively: bool = False) -> np.ndarray:
    """Actions (n,2) in units, some half of the scale: a base with inertia, or (``lively``) one without."""
    raw = np.zeros((count, 2))
    pull, now = np.zeros(2), rng.normal(size=2)
    for t in range(count):
        noise = rng.normal(size=2)
        pull = noise if lively else 0.6 * pull + 0.8 * noise
        now = 0.8 * now + (0.6 if lively else 0.35) * pull
        raw[t] = now
    return (np.clip(raw * 0.6, -1, 1) * SCALES).astype(np.float32)


@dataclass
class Drive:
    """``count`` ticks without fault; every array (n,...) is a test's to change. ``drop`` (n,) points of lost score."""

    count: int
    seed: int = 0
    nearness: float = 0.0  # standard deviation of its logarithm
    lively: bool = False
    actions: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        n = self.count
        self.actions = wandering(n, rng, lively=self.lively)
        far = np.convolve(rng.normal(0, 1, n + 11), np.ones(12) / np.sqrt(12), "valid")  # walls come and go slowly
        near = np.exp(np.clip(far, -2, 2) * self.nearness)
        self.motion = by_law(self.actions) * np.stack([np.ones(n), np.ones(n), near, np.ones(n)], axis=1)
        self.motion += rng.normal(0, NOISE_PX, (n, 4))
        self.predicted = by_law(self.actions) + rng.normal(0, 2 * NOISE_PX, (n, 4))
        self.change = 3.0 + np.abs(rng.normal(0, 0.5, n))
        self.surprise = np.abs(rng.normal(0, 0.015, n))
        self.gain = rng.normal(0, 0.01, n)
        self.fixed = np.abs(rng.normal(0, 0.01, n))
        self.brightness = 120.0 + rng.normal(0, 3, n)
        self.texture = np.clip(0.7 + rng.normal(0, 0.03, n), 0, 1)
        self.torn = 8.0 + np.abs(rng.normal(0, 2, n))
        self.noise = rng.normal(0, SCS_NOISE, n)
        self.echo = np.zeros(n)
        self.drop = np.zeros(n)

    def stamp(self, tick: int) -> int:
        """Of the picture after tick ``tick`` of the drive."""
        return (tick + 1) * TICK_NS

    def evidence(self, end: int) -> Evidence:
        """Of the comparison whose last tick is ``end - 1``."""
        rows = slice(end - LENGTH, end)
        gone = np.cumsum(np.linalg.norm(by_law(self.actions[rows]), axis=1))
        scores = np.clip(STILL_SCS - SCS_PER_PX * gone + self.noise[rows] - self.drop[rows], 0, 100)
        given = {
            "source": ActionSource.EXECUTED,
            "context_stamp_ns": self.stamp(end - LENGTH - 1),
            "stamps_ns": np.array([self.stamp(t) for t in range(end - LENGTH, end)], np.int64),
            "scs": {h: float(scores[:h].mean()) for h in HORIZONS},
            "num_structures": dict.fromkeys(HORIZONS, 6),
            "psnr": dict.fromkeys(HORIZONS, 22.0),
            "frame_scs": scores.astype(np.float32),
            "predicted_motion": self.predicted[rows].astype(np.float32),
        }
        named = [one.name for one in fields(Evidence) if one.name not in given]
        return Evidence(**given, **{name: getattr(self, name)[rows].astype(np.float32) for name in named})

    def comparisons(self) -> Iterator[Evidence]:
        """One every other tick, oldest first."""
        for end in range(LENGTH, self.count + 1, EVERY):
            yield self.evidence(end)


def learned(count: int = 240, *, seed: int = 100, nearness: float = 0.0, lively: bool = False) -> DriftBaseline:
    """The baseline of a minute without fault."""
    learner = BaselineLearner(SCALES)
    for evidence in Drive(count, seed=seed, nearness=nearness, lively=lively).comparisons():
        learner.add(evidence)
    return learner.learn()


def detector(baseline: DriftBaseline | None = None, **options) -> DriftDetector:
    """A detector of this robot."""
    return DriftDetector(SCALES, tick_s=TICK_S, baseline=baseline, **options)


def watch(watcher: DriftDetector, drive: Drive) -> list[DriftReport]:
    """The reports of a whole drive."""
    return [watcher.update(evidence) for evidence in drive.comparisons()]


def exact_law(**changes) -> MotionExpectation:
    """The drive's own law, with the noise that it has."""
    one, parts = np.ones(4), {}
    parts |= {"weights": LAW.copy(), "scales": SCALES.astype(np.float64), "low": one, "high": one}
    parts |= {"sigma0": 0.25 * one, "sigma1": 0.0 * one, "foretold": np.array([0.99, 0.0, 0.95, 0.0])}
    return MotionExpectation(**(parts | changes))


def sign(tick: int = 0, *, expected=(0, 0, 0, 0), observed=None, **changes) -> TickSigns:
    """An unremarkable tick; it moves as it should unless told otherwise, 0.25 px being one sigma."""
    expected = np.asarray(expected, np.float32)
    observed = expected.copy() if observed is None else np.asarray(observed, np.float32)
    values = {
        "stamp_ns": (tick + 1) * TICK_NS,
        "action": np.zeros(2, np.float32),
        "expected": expected,
        "observed": observed,
        "off": (observed - expected) / np.float32(0.25),
        "trust": 1.0,
        "change": 3.0,
        "surprise": 0.0,
        "gain": 0.0,
        "fixed": 0.0,
        "torn": 8.0,
        "brightness": 120.0,
        "texture": 0.7,
        "echo": 0.0,
    }
    return TickSigns(**(values | changes))
