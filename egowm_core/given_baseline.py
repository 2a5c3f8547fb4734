"""Where a drift baseline comes from when somebody names one: a file, or the one beside a checkpoint's weights.

Knows checkpoints' files and hashes; knows no model and no detector.
"""

from __future__ import annotations

from pathlib import Path

from egowm_core.drift import BASELINE_FILE, DriftBaseline, load_baseline
from egowm_core.errors import CheckpointError, ScoreError

LEARN = "learn"


def given_baseline(where: str, *, channels: int) -> DriftBaseline | None:
    """The baseline that ``where`` names for a robot of so many action channels, or None for ``learn``.

    ``where``: ``learn``, a .json file, or a checkpoint (directory, ``embedded:NAME`` or hub id) that has one.

    Raises:
        ScoreError: empty, absent, damaged, or made for another robot.
        CheckpointError: no such checkpoint, or its baseline was altered.
    """
    if not where:
        raise ScoreError(f"the baseline is not named; give {LEARN}, a {BASELINE_FILE} or a checkpoint that has one")
    if where == LEARN:
        return None
    path = Path(where) if where.endswith(".json") else checkpoint_baseline(where)
    if path is None:
        raise ScoreError(
            f"{where} has no {BASELINE_FILE}; make one from recordings without fault with egowm-watch --learn, or let"
            f" it be learned in the first minute ({LEARN})"
        )
    return load_baseline(path, channels=channels)


def checkpoint_baseline(checkpoint: str) -> Path | None:
    """A checkpoint's baseline, or None where it has none.

    Raises:
        CheckpointError: no such checkpoint, or the file is not the one whose hash is recorded.
    """
    from egowm_core.checkpoint import HASHES, recorded_hashes, resolve, sha256_of  # torch: not needed to learn

    directory = resolve(checkpoint, also=(BASELINE_FILE,))
    path = directory / BASELINE_FILE
    if not path.is_file():
        return None
    recorded = recorded_hashes(directory).get(BASELINE_FILE) if (directory / HASHES).is_file() else None
    if recorded is not None and sha256_of(path) != recorded:
        raise CheckpointError(f"{path} is not the file that {HASHES} records; get the checkpoint again")
    return path
