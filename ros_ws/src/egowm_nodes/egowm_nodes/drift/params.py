"""The parameters of the drift_monitor node, as they stand in ``config/drift_monitor.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from egowm_core.drift import DriftLimits
from egowm_core.errors import ConfigError
from egowm_core.given_baseline import LEARN
from egowm_nodes.runtime.image_input import TRANSPORTS
from egowm_nodes.runtime.params import Change, param

_INACTIVE = Change.INACTIVE


@dataclass(frozen=True, kw_only=True)
class DriftMonitorParams:
    """See each description; ``ros2 param describe`` shows them, too."""

    auto_start: bool = param(
        False, "configure and activate without being told by a lifecycle manager", change=Change.START
    )
    embodiment: str = param(
        "base_3dof",
        "this robot (built-in name or YAML path), as the world model's; rollouts of another are refused",
        change=Change.UNCONFIGURED,
    )
    baseline: str = param(
        LEARN,
        "what is usual: learn it in the first minute, or take a drift_baseline.json, or the one of a checkpoint"
        " (directory, embedded:NAME or hub id)",
        change=Change.UNCONFIGURED,
    )
    num_threads: int = param(
        1, "threads of OpenCV, 0 leaves its own choice", low=0, high=256, change=Change.UNCONFIGURED
    )
    image_transport: str = param(
        "both", "image, image/compressed, or whichever of both delivers", choices=TRANSPORTS, change=_INACTIVE
    )
    input_timeout_s: float = param(
        2.0, "an image topic silent for so long is reported", low=0.1, high=3600.0, change=_INACTIVE
    )
    horizons: tuple[int, ...] = param(
        (2, 4, 8), "horizons to score in frames, ascending; h covers predicted frames 1..h", change=_INACTIVE
    )
    max_structures: int = param(8, "structures to follow at most", low=1, high=64)
    score_every: int = param(1, "judge every n-th rollout of executed actions", low=1, high=1000)
    planned_period_s: float = param(
        2.0, "judge a planned (or held) rollout when it falls due, one in so many s; 0 for none", low=0.0, high=3600.0
    )
    buffer_s: float = param(10.0, "how long pictures are kept", low=0.5, high=120.0, change=_INACTIVE)
    buffer_mb: int = param(128, "how many MB of pictures are kept at most", low=1, high=4096, change=_INACTIVE)
    overlay_scale: int = param(3, "size of ~/overlay, times the model's picture", low=1, high=16)
    marker_lifetime_s: float = param(
        2.0, "markers vanish so long after the last ones of their kind came", low=0.1, high=60.0
    )
    learn_ticks: int = param(
        240, "ticks that make the baseline where none is given", low=48, high=100_000, change=_INACTIVE
    )
    error_at: float = param(
        1.5, "ERROR from so many times the evidence that makes the alarm (WARN)", low=1.0, high=2.5, change=_INACTIVE
    )
    hold_s: float = param(
        5.0, "how long an event (a knock, a change of light) stays reported", low=0.0, high=3600.0, change=_INACTIVE
    )
    warn_below: float = param(
        0.0, "WARN below this score of the longest horizon, 0 for none", low=0.0, high=100.0, change=_INACTIVE
    )
    error_below: float = param(
        0.0, "ERROR below this score of the longest horizon, 0 for none", low=0.0, high=100.0, change=_INACTIVE
    )
    stale_after_s: float = param(3.0, "no comparison for so long is STALE", low=0.1, high=3600.0, change=_INACTIVE)

    def __post_init__(self) -> None:
        numbers = list(self.horizons)
        if not numbers or numbers != sorted(set(numbers)) or not 1 <= numbers[0] <= numbers[-1] <= 256:
            raise ConfigError(f"parameter horizons is {numbers}; expected frame numbers 1..256, ascending, each once")
        self.limits()

    def limits(self) -> DriftLimits:
        """What the detector is given.

        Raises:
            ScoreError: the thresholds contradict each other.
        """
        return DriftLimits(
            learn_ticks=self.learn_ticks,
            error_at=self.error_at,
            hold_s=self.hold_s,
            warn_below=self.warn_below or None,
            error_below=self.error_below or None,
            stale_after_s=self.stale_after_s,
        )
