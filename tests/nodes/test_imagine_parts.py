"""What ``imagine`` and the budget are made of, without ROS's graph: batches, candidates' files, feedback, inference."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_core import load_embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.imagination import ImaginedChunk
from egowm_core.types import ActionSequence, ActionSource, Frames, Rollout
from egowm_nodes.guards.frames import FrameGuard
from egowm_nodes.imagine import cli, results
from egowm_nodes.imagine.candidates import fan, read_candidates
from egowm_nodes.imagine.pace import Pace
from egowm_nodes.imagine.work import Step
from egowm_nodes.prediction.inference import Inference
from egowm_nodes.prediction.params import WorldModelParams
from egowm_nodes.prediction.predictor import Request
from egowm_nodes.prediction.status import Figures
from tests.fixtures.tiny_checkpoint import made_up_picture

ROBOT = load_embodiment("base_3dof")
PICTURE = made_up_picture(96, 128, seed=3)


def test_the_batch_is_what_the_budget_allows() -> None:
    free = Pace(batch=8, budget_s=0.0, num_denoising_steps=2, frames=4)
    assert free.choose() == 8  # nothing to be careful about
    free.record(8, 100.0)
    assert free.choose() == 8
    tight = Pace(batch=8, budget_s=0.5, num_denoising_steps=2, frames=4)
    assert tight.choose() == 1  # nothing is known yet
    for _ in range(30):
        batch = tight.choose()
        tight.record(batch, 0.1 * batch)
    assert tight.choose() in (2, 4) and "500 ms" in tight.figures()["budget"]


def test_memory_that_runs_out_halves_the_batch_until_there_is_none() -> None:
    pace = Pace(batch=6, budget_s=0.0, num_denoising_steps=1, frames=4)
    assert pace.choose() == 6
    assert [pace.out_of_memory(), pace.out_of_memory(), pace.out_of_memory()] == [3, 1, 0]
    assert "3 times" in pace.figures()["out of memory"]


def test_a_fan_turns_evenly_from_left_to_right_within_limits() -> None:
    found = fan(ROBOT, 8, 5)
    assert list(found)[2] == "straight" and len(found) == 5 and next(iter(found)).startswith("left")
    turns = [float(rows[0, 2]) for rows in found.values()]
    np.testing.assert_allclose(np.diff(turns), turns[1] - turns[0], rtol=1e-5)
    assert turns[0] == -turns[-1] > 0 and all(rows.shape == (8, 3) for rows in found.values())
    assert all(ROBOT.within_limits(rows) for rows in found.values())
    assert list(fan(ROBOT, 2, 1)) == ["straight"]
    with pytest.raises(ConfigError, match="for planar robots, humanoid_25dof"):
        fan(load_embodiment("humanoid_25dof"), 8)


def test_candidates_are_read_from_yaml_and_csv_alike(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("slow: [[0.1, 0, 0]]\nturn: [[0.1, 0, 0.05], [0.1, 0, 0]]\n")
    (tmp_path / "c.csv").write_text("candidate,dyaw,dx,dy\nslow,0,0.1,0\nturn,0.05,0.1,0\nturn,0,0.1,0\n")
    by_yaml, by_csv = (read_candidates(tmp_path / name, ROBOT, 3) for name in ("c.yaml", "c.csv"))
    assert list(by_yaml) == list(by_csv) == ["slow", "turn"]
    for name, rows in by_yaml.items():
        np.testing.assert_array_equal(rows, by_csv[name])
    np.testing.assert_allclose(by_yaml["turn"], [[0.1, 0, 0.05], [0.1, 0, 0], [0.1, 0, 0]])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "- 1", "no mapping"),
        ("a.yaml", "a: [[1, 2]]", r"shape \(1, 2\); expected 1..4096 rows of dx, dy, dyaw"),
        ("a.yaml", "a: [[x, 0, 0]]", "no number"),
        ("a.yaml", "a: [", "no YAML"),
        ("a.yaml", "{}", "0 candidates"),
        ("a.csv", "name,dx\n", "expected candidate,dx,dy,dyaw"),
        ("a.csv", "candidate,dx,dy,dyaw\nq,1,2\n", "no number"),
        ("gone.csv", None, "cannot read"),
    ],
)
def test_files_that_hold_no_candidates_are_refused_in_words(tmp_path: Path, name, text, words, capsys) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        read_candidates(tmp_path / name, ROBOT, 3)
    assert cli.main(["--candidates", str(tmp_path / name)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_feedback_is_bounded_and_always_has_the_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.broadcast_to(PICTURE, (2, 12, *PICTURE.shape))
    step = Step(ImaginedChunk(slice(4, 6), 8, images), np.arange(12, dtype=np.int64), 0.5)
    monkeypatch.setattr(results, "MOST_FEEDBACK_BYTES", 8 * PICTURE.nbytes)
    sent = [(message.candidate, message.frame) for message in results.feedback_messages(step, "optical")]
    assert sent == [(n, frame) for n in (4, 5) for frame in (11, 14, 17, 20)]
    monkeypatch.setattr(results, "MOST_FEEDBACK_BYTES", 1)
    assert [message.frame for message in results.feedback_messages(step, "optical")] == [20, 20]


class Predicting:
    """Stands in for the predictor: takes ``cost_s`` a frame and step, or runs out of memory."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(
            name="made up", embodiment=ROBOT, causal=False, horizon=4, num_denoising_steps=4,
            vae=SimpleNamespace(temporal_factor=1),
        )  # fmt: skip
        self.horizon, self.asked = 8, []
        self.full = False

    def predict(self, request: Request, *, seed: int, num_denoising_steps: int) -> Rollout:
        length, steps = len(request.actions), num_denoising_steps or 4
        self.asked.append((length, steps))
        if self.full:
            raise torch.OutOfMemoryError("out of memory")
        time.sleep(0.001 * length * steps)
        stamps = request.observed_stamps_ns if request.observed_stamps_ns is not None else np.arange(1, length + 1)
        frames = Frames(np.repeat(PICTURE[None], length, axis=0), np.asarray(stamps, np.int64))
        return Rollout(frames, request.actions, 0, steps, seed)


@pytest.fixture
def inference() -> SimpleNamespace:
    made: dict[str, Any] = {"parameters": WorldModelParams(budget_ms=1), "published": [], "said": {}}
    predictor = Predicting()
    outputs = SimpleNamespace(publish=made["published"].append, show=lambda *args, **options: None)
    infer = Inference(
        predictor,  # type: ignore[arg-type]
        parameters=lambda: made["parameters"],
        frame_guard=FrameGuard(ROBOT.scales),
        figures=Figures(time.monotonic),
        rollouts=outputs,
        pictures=outputs,  # type: ignore[arg-type]
        report=made["said"].__setitem__,
        warm_up_s=0.032,
    )
    return SimpleNamespace(infer=infer, asked=predictor.asked, predictor=predictor, made=made)


LIVE = Request(Frames(PICTURE[None], np.array([0])), ActionSequence(np.zeros((8, 3), np.float32)), frame_id="optical")
HINDSIGHT = replace(
    LIVE, actions=ActionSequence(LIVE.actions.values, ActionSource.EXECUTED), observed_stamps_ns=np.arange(1, 9)
)


def test_a_budget_shortens_live_predictions_alone(inference) -> None:
    inference.infer(LIVE)
    inference.infer(HINDSIGHT)
    inference.made["parameters"] = WorldModelParams(budget_ms=60_000, num_denoising_steps=3)
    inference.infer(LIVE)
    inference.made["parameters"] = WorldModelParams()
    inference.infer(LIVE)
    assert inference.asked == [(4, 1), (8, 4), (8, 3), (8, 4)]
    assert [len(message.frames) for message in inference.made["published"]] == [4, 8, 8, 8]
    assert [message.sequence for message in inference.made["published"]] == [0, 1, 2, 3]
    assert inference.infer.deadline is None


def test_memory_that_runs_out_costs_one_prediction_and_is_told(inference) -> None:
    inference.made["parameters"] = WorldModelParams(budget_ms=60_000)
    inference.predictor.full = True
    inference.infer(LIVE)
    assert "going on with 4 frames" in inference.made["said"]["inference: memory"]
    inference.predictor.full = False
    inference.infer(LIVE)
    assert inference.asked == [(8, 4), (4, 1)]  # denoising steps give way before frames do
    inference.made["parameters"] = WorldModelParams()
    inference.predictor.full = True
    inference.infer(LIVE)
    assert "one is left out" in inference.made["said"]["inference: memory"]
    assert len(inference.made["published"]) == 1
