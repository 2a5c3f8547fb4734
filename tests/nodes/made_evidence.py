"""Evidence of a robot that turns to and fro, without any picture: numbers that obey one law, with noise."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from egowm_core.drift import Evidence
from egowm_core.types import ActionSource

TICK_NS = 250_000_000
START_NS = 1_700_000_000_000_000_000
PX_PER_RAD = 80.0
TICKS = 8
PLAIN = ("source", "context_stamp_ns", "stamps_ns", "actions", "scs", "num_structures", "psnr")
ROWS = [field.name for field in fields(Evidence) if field.name not in PLAIN]  # one figure a tick; 0 is nothing odd


def tick_ns(tick: int) -> int:
    return START_NS + tick * TICK_NS


def action_at(tick: int) -> np.ndarray:
    """What was done in the tick: (dx, dy, dyaw)."""
    return np.array([0.0, 0.0, 0.05 * np.sin(0.2 * tick)], np.float32)


def evidence(newest: int, *, frozen: bool = False, scs: float = 80.0, source: ActionSource = ActionSource.EXECUTED):
    """A comparison over the eight ticks up to ``newest``; ``frozen``: the picture did not change."""
    ticks = np.arange(newest - TICKS + 1, newest + 1)
    rng = np.random.default_rng(newest)
    actions = np.stack([action_at(tick) for tick in ticks])
    noise = rng.normal(0, 0.1, (TICKS, 4))
    law = np.stack([actions[:, 2] * PX_PER_RAD, *np.zeros((3, TICKS))], axis=1)
    motion = (noise if frozen else law + noise).astype(np.float32)

    def row(value: float) -> np.ndarray:
        return np.full(TICKS, value, np.float32)

    score = scs + float(rng.normal(0, 1))
    known = {
        "motion": motion,
        "predicted_motion": (law + rng.normal(0, 0.1, law.shape)).astype(np.float32),
        "frame_scs": row(score),
        "change": row(0.0 if frozen else 5.0),
        "surprise": row(0.05),
        "brightness": row(100.0),
        "texture": row(0.8),
        "torn": row(5.0),
    }
    calm = {name: known.get(name, row(0.0)) for name in ROWS}
    return Evidence(
        source=source,
        context_stamp_ns=tick_ns(newest - TICKS),
        stamps_ns=np.array([tick_ns(tick) for tick in ticks], np.int64),
        actions=actions,
        scs={2: score, 8: score - 5},
        num_structures={2: 5, 8: 4},
        psnr={2: 25.0, 8: 20.0},
        **calm,
    )
