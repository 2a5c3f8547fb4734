"""Tiny pretrained models adapted to a robot, for tests of what adapting gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egowm_core import WorldModel
from egowm_core.adapt import adapt_backbone
from egowm_core.embodiment import Embodiment

SIZE = (32, 48)  # pixels; height is not width, so that one taken for the other shows
HORIZON = 8  # camera frames


def adapted(backbone: str, source: Path, embodiment: Embodiment | str = "base_3dof", **options: Any) -> WorldModel:
    options = {"size": SIZE, "text": "zeros", "horizon": HORIZON, **options}
    model = adapt_backbone(backbone, embodiment, source=source, **options)
    model.bf16 = False
    return model
