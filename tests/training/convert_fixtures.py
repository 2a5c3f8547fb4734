"""Options for converting the small bags of these tests, and what came out, for every test of egowm-convert."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from training.convert.options import ConvertOptions
from training.curation.config import load_curation
from training.dataset.reader import Dataset, Episode
from training.dataset.video import VideoCodec

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bags"
BASE = load_embodiment("base_3dof")
ALL = load_curation("none")  # the pictures of these bags jump from each to the next
OPTIONS = ConvertOptions(embodiment=BASE, curation=ALL, codec=VideoCodec("lossless"))
CIRCLE = [0.4 / 0.3 * np.sin(0.075), 0.4 / 0.3 * (1 - np.cos(0.075)), 0.075]  # a tick of known_pose
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real recordings are not here")


def options(**changes: object) -> ConvertOptions:
    return replace(OPTIONS, **changes)


def episodes_of(dataset: Path) -> list[Episode]:
    return Dataset(dataset).episodes
