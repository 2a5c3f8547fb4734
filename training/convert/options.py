"""How recordings are converted: everything that decides what a dataset holds, in one value that travels to workers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from training.curation.config import CurationConfig, load_curation
from training.dataset.video import VideoCodec

REPORT_LAG, CORRECT_LAG = "report", "correct"


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How to convert. ``min_length`` and ``max_length`` are frames per episode; longer segments are split.

    ``lag``: "report" leaves the stamps alone and warns, "correct" shifts each recording by its own estimate where that
    convinces, a number of seconds shifts all of them by it. Gap limits default to two periods of the embodiment.
    ``blur_faces``: "" leaves them, "builtin" or a detector's model file blurs them on the way in.
    """

    embodiment: Embodiment
    image_topic: str | None = None
    motion_topic: str | None = None
    task: str = ""
    min_length: int = 9
    max_length: int = 2048
    max_image_gap_s: float | None = None
    max_motion_gap_s: float | None = None
    lag: str | float = REPORT_LAG
    curation: CurationConfig = field(default_factory=lambda: load_curation("standard"))
    codec: VideoCodec = field(default_factory=VideoCodec)
    blur_faces: str = ""

    def __post_init__(self) -> None:
        if not 2 <= self.min_length <= self.max_length:
            raise ConfigError(f"min_length {self.min_length} must lie in 2..{self.max_length} (max_length)")
        if isinstance(self.lag, str) and self.lag not in (REPORT_LAG, CORRECT_LAG):
            raise ConfigError(f"lag {self.lag!r} is none of report, correct and a number of seconds")
        if isinstance(self.lag, float) and not (math.isfinite(self.lag) and abs(self.lag) < 60):
            raise ConfigError(f"lag {self.lag} must be a number of seconds below a minute")
        for name in ("max_image_gap_s", "max_motion_gap_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} {value} must be a positive number of seconds")

    def settings(self) -> dict[str, Any]:
        """What must be the same for all recordings of a dataset, as JSON holds it; the embodiment is kept apart.

        Names of topics and tasks may differ from one recording to the next.
        """
        return {
            "min_length": self.min_length,
            "max_length": self.max_length,
            "max_image_gap_s": self.max_image_gap_s,
            "max_motion_gap_s": self.max_motion_gap_s,
            "lag": self.lag,
            "curation": asdict(self.curation),
            "codec": asdict(self.codec),
            "blur_faces": self.blur_faces,
        }
