"""Candidate action sequences for ``egowm-imagine``: a fan of turns, or out of a YAML or CSV file. Knows no ROS."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.types import FloatArray

Named = dict[str, FloatArray]
MOST_CANDIDATES, MOST_ROWS = 1024, 4096
_MOST_BYTES = 4 << 20
_SPEED, _TURN = 0.5, 0.6  # of the limits


def fan(embodiment: Embodiment, frames: int, count: int = 5) -> Named:
    """``count`` ways ahead of ``frames`` rows: at half of the speed limit, turning evenly from left to right.

    Raises:
        ConfigError: not a planar robot, or fewer than one.
    """
    if embodiment.integrate != "se2" or embodiment.action_dim != 3:
        raise ConfigError(
            f"--fan is for planar robots, {embodiment.name} has channels {', '.join(embodiment.channel_names)}; give"
            " --candidates FILE"
        )
    if not 1 <= count <= MOST_CANDIDATES:
        raise ConfigError(f"--fan {count}: expected 1..{MOST_CANDIDATES} candidates")
    forward, turn = _SPEED * embodiment.limits[0, 1], _TURN * embodiment.limits[2, 1]
    shares = np.linspace(1.0, -1.0, count) if count > 1 else np.zeros(1)
    found: Named = {}
    for share in shares:
        side = "straight" if abs(share) < 1e-9 else f"{'left' if share > 0 else 'right'}_{abs(share) * turn:.3f}"
        found[side] = np.tile(np.array([forward, 0.0, share * turn], np.float32), (frames, 1))
    return found


def read_candidates(path: Path, embodiment: Embodiment, frames: int) -> Named:
    """Candidates by name, ``frames`` rows each: where a file has fewer, the last is held.

    YAML: a mapping of names to rows, each a list of the channels' values. CSV: a header ``candidate`` and the channels'
    names, and a line for each row.

    Raises:
        DataError: a file that cannot be read or is none of these; names what was expected.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} is over {_MOST_BYTES} bytes; it holds no candidates")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; give a YAML or CSV file") from error
    rows = _csv_rows(text, path, embodiment) if path.suffix.lower() == ".csv" else _yaml_rows(text, path)
    if not 1 <= len(rows) <= MOST_CANDIDATES:
        raise DataError(f"{path} has {len(rows)} candidates; expected 1..{MOST_CANDIDATES}")
    return {name: _filled(name, values, path, embodiment, frames) for name, values in rows.items()}


def _yaml_rows(text: str, path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise DataError(
            f"{path} is no YAML: {why}; expected names with rows, such as straight: [[0.1, 0, 0]]"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no mapping; expected names with rows, such as straight: [[0.1, 0, 0]]")
    return {str(name): values for name, values in found.items()}


def _csv_rows(text: str, path: Path, embodiment: Embodiment) -> dict[str, Any]:
    reader = csv.DictReader(io.StringIO(text))
    wanted = ["candidate", *embodiment.channel_names]
    if reader.fieldnames is None or sorted(reader.fieldnames) != sorted(wanted):
        raise DataError(f"{path} has columns {reader.fieldnames}; expected {','.join(wanted)}")
    found: dict[str, Any] = {}
    for line in reader:
        found.setdefault(str(line["candidate"]), []).append([line[name] for name in embodiment.channel_names])
    return found


def _filled(name: str, values: Any, path: Path, embodiment: Embodiment, frames: int) -> FloatArray:
    try:
        rows = np.array(values, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: candidate {name!r} has something that is no number ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != embodiment.action_dim or not 1 <= len(rows) <= MOST_ROWS:
        raise DataError(
            f"{path}: candidate {name!r} has shape {rows.shape}; expected 1..{MOST_ROWS} rows of"
            f" {', '.join(embodiment.channel_names)}"
        )
    if not np.isfinite(rows).all():
        raise DataError(f"{path}: candidate {name!r} has something that is no number; give a finite one everywhere")
    held = np.repeat(rows[-1:], max(0, frames - len(rows)), axis=0)
    return np.concatenate([rows, held])[:frames]
