"""From the simulator to a score by the four commands, and what the embedded model owes its users in unseen rooms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from egowm_core import ActionSequence, Frames, load_world_model
from egowm_core.checkpoint import resolve
from egowm_sim import record
from training import evaluate
from training.convert import cli as convert
from training.dataset.reader import Dataset

EMBEDDED = "embedded:base_3dof"
UNSEEN_SEED = 700_000  # training rooms start at 10,000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rooms, recorded with truth and converted."""
    root = tmp_path_factory.mktemp("rooms")
    options = ["--rooms", "3", "--seed", str(UNSEEN_SEED), "--seconds", "15", "--truth"]
    assert record.main([str(root / "bags"), *options]) == 0
    assert convert.main([str(root / "bags"), str(root / "data"), "--embodiment", "base_3dof"]) == 0
    return root / "data"


@pytest.mark.timeout(900)  # it records, converts and evaluates: minutes on a busy machine
def test_the_embedded_model_follows_actions_in_unseen_rooms(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    arguments = [EMBEDDED, "--dataset", str(dataset), "--clips", "12", "--json", str(out), "--threads", "1"]
    assert evaluate.main(arguments) == 0
    rows = json.loads(out.read_text())["rows"]

    def at_frame_8(row: str, metric: str) -> float:
        return float(rows[row][metric]["8"])

    for baseline in ("copy_last", "model_wrong_actions"):
        assert at_frame_8("model", "psnr") > at_frame_8(baseline, "psnr") + 1.0
        assert at_frame_8("model", "scs_true") > at_frame_8(baseline, "scs_true") + 8.0
    assert at_frame_8("autoencoder", "psnr") > at_frame_8("model", "psnr")


def test_the_predicted_picture_turns_when_the_robot_turns(dataset: Path) -> None:
    """Turning left, what was straight ahead moves right: the best shift of the prediction onto the context says so."""
    model = load_world_model(EMBEDDED)
    shifts = {}
    for dyaw in (0.08, -0.08):
        found = []
        for episode in Dataset(dataset).episodes:
            image = episode.frames(0, 1)[0]
            context = Frames(image[None], np.array([0]))
            actions = ActionSequence(np.tile([0.0, 0.0, dyaw], (2, 1)).astype(np.float32))
            predicted = model.rollout(context, actions).frames.images[-1]
            found.append(best_shift(image, predicted))
        shifts[dyaw] = float(np.median(found))
    assert shifts[0.08] > 4
    assert shifts[-0.08] < -4


def best_shift(context: np.ndarray, predicted: np.ndarray) -> int:
    """Columns by which ``context`` has to move right to match ``predicted`` best."""

    def error(shift: int) -> float:
        inner = slice(32, 96)
        moved = np.roll(context.astype(np.float32), shift, axis=1)
        return float(np.abs(moved[:, inner] - predicted[:, inner].astype(np.float32)).mean())

    return min(range(-24, 25), key=error)


def test_the_embedded_checkpoint_is_small_and_says_what_it_is() -> None:
    directory = resolve(EMBEDDED)
    assert sum(file.stat().st_size for file in directory.iterdir()) <= 32 * 2**20
    card = (directory / "README.md").read_text()
    assert "## Training" in card and "| model |" in card
