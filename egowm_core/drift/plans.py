"""Plans kept until it is known what the robot did instead. Knows stamps and actions; no picture and no score."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.drift.evidence import Evidence
from egowm_core.types import FloatArray

_MOST_PLANS = 256
_SAME = 1e-5  # scales


class PlanBook:
    """The first action of each plan, by the stamp of the frame it starts from. ``scales`` (D,) are the channels'."""

    def __init__(self, scales: NDArray[np.floating[Any]]) -> None:
        self._scales = np.asarray(scales, np.float64)
        self._plans: OrderedDict[int, FloatArray] = OrderedDict()

    def add(self, context_stamp_ns: int, actions: FloatArray) -> None:
        """Keep what was planned (T,D) at a frame; of several plans from one frame, the last."""
        self._plans[context_stamp_ns] = np.asarray(actions[0], np.float32)
        while len(self._plans) > _MOST_PLANS:
            self._plans.popitem(last=False)

    def gaps(self, evidence: Evidence) -> NDArray[np.float64]:
        """(T,): largest difference of executed and planned action over the channels, in scales; NaN without a plan.

        Holding what was executed last is no plan: where no command is known, a world model does just that.
        """
        before = [evidence.context_stamp_ns, *evidence.stamps_ns[:-1].tolist()]
        gaps = np.full(len(before), np.nan)
        for t, stamp_ns in enumerate(before):
            if (planned := self._plans.get(int(stamp_ns))) is not None and len(planned) == len(self._scales):
                held = t > 0 and np.allclose(
                    planned, evidence.actions[t - 1], rtol=0.0, atol=_SAME * self._scales.min()
                )
                gaps[t] = np.nan if held else float(np.max(np.abs(evidence.actions[t] - planned) / self._scales))
        return gaps

    def clear(self) -> None:
        """Forget everything."""
        self._plans.clear()
