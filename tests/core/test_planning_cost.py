"""The cost to a goal picture: zero at the goal, rising from afar where pixels are blind, forgiving blur and shifts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from egowm_core.errors import ConfigError, ScoreError
from egowm_core.planning import COST_KINDS, goal_cost
from egowm_core.types import ImageArray


def scene(seed: int) -> ImageArray:
    """A wide picture (96,512,3) of coloured things, to look at parts of."""
    rng = np.random.default_rng(seed)
    canvas = np.full((96, 512, 3), rng.integers(90, 160, 3), np.uint8)
    for x in range(0, 512, 24):
        color = rng.integers(0, 255, 3).tolist()
        top, wide = int(rng.integers(5, 60)), int(rng.integers(8, 22))
        cv2.rectangle(canvas, (x, top), (x + wide, 95), color, -1)
        cv2.circle(
            canvas, (x + 12, int(rng.integers(5, 90))), int(rng.integers(3, 9)), rng.integers(0, 255, 3).tolist(), -1
        )
    return canvas


def view(picture: ImageArray, shift: int) -> ImageArray:
    return np.ascontiguousarray(picture[:, 128 + shift : 256 + shift])


def video(*frames: ImageArray) -> ImageArray:
    return np.stack(frames)[None]


@pytest.mark.parametrize("kind", ["structure", "mse"])
def test_the_goal_itself_costs_nothing_and_everything_else_something(kind: str) -> None:
    picture = scene(0)
    cost = goal_cost(view(picture, 0), kind)
    assert cost.kind == kind
    costs = cost(np.concatenate([video(view(picture, 0)), video(view(picture, 20)), video(view(scene(1), 0))]))
    assert costs.dtype == np.float32 and costs.shape == (3,)
    assert costs[0] == pytest.approx(0, abs=1e-5) and costs[1] > 0.01 and costs[2] > costs[1]


def test_a_video_costs_what_its_last_frame_does() -> None:
    picture = scene(2)
    cost = goal_cost(view(picture, 0))
    frames = video(view(picture, 60), view(picture, 30), view(picture, 4))
    over_time = cost.over_time(frames)
    assert over_time.shape == (1, 3) and (np.diff(over_time[0]) < 0).all()
    assert cost(frames)[0] == over_time[0, -1]


def test_it_falls_towards_the_goal_from_afar_where_pixels_point_nowhere() -> None:
    shifts = [64, 48, 32, 16, 8, 0]
    ordered = {"structure": 0, "mse": 0}
    for seed in range(8):
        picture = scene(seed)
        for kind in ordered:
            costs = goal_cost(view(picture, 0), kind)(np.stack([view(picture, s)[None] for s in shifts]))
            ordered[kind] += int((np.diff(costs) < 0).sum())
    assert ordered["structure"] >= 38 and ordered["mse"] <= 32  # of 40 steps


def test_blur_and_small_shifts_cost_less_than_another_place() -> None:
    for seed in range(4):
        picture = scene(seed)
        goal = view(picture, 0)
        blurred = np.asarray(cv2.GaussianBlur(goal, (0, 0), 2.0), np.uint8)
        costs = goal_cost(goal)(np.stack([one[None] for one in (blurred, view(picture, 2), view(picture, 40))]))
        assert max(costs[:2]) < costs[2] / 2


def test_sizes_may_differ_aspects_may_not() -> None:
    goal = view(scene(3), 0)
    large = cv2.resize(goal, (512, 384), interpolation=cv2.INTER_CUBIC)
    assert goal_cost(goal)(video(large))[0] < 0.02
    with pytest.raises(ScoreError, match="another aspect"):
        goal_cost(goal)(np.zeros((1, 1, 96, 96, 3), np.uint8))


@pytest.mark.parametrize("size", [(16, 4096), (4096, 16)])
def test_a_goal_of_any_aspect_stays_cheap(size: tuple[int, int]) -> None:
    goal = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert goal_cost(goal)(video(goal))[0] == pytest.approx(0, abs=1e-5)


def test_flat_pictures_are_compared_by_colour() -> None:
    grey, red = np.full((96, 128, 3), 128, np.uint8), np.full((96, 128, 3), (200, 30, 30), np.uint8)
    same, other = goal_cost(grey)(np.stack([grey[None], red[None]]))
    assert same == pytest.approx(0, abs=1e-5) and np.isfinite(other) and other > 0.1


def test_what_is_no_goal_or_no_video_is_refused() -> None:
    goal = view(scene(0), 0)
    with pytest.raises(ConfigError, match="structure"):
        goal_cost(goal, "structur")
    for wrong in (goal.astype(np.float32), goal[..., 0], goal[:8]):
        with pytest.raises(ScoreError):
            goal_cost(wrong)
    for wrong in (goal, goal[None, None].astype(float), np.zeros((0, 1, 96, 128, 3), np.uint8)):
        with pytest.raises(ScoreError, match="N,T,H,W,3"):
            goal_cost(goal)(wrong)


def test_networks_are_used_or_named_as_missing() -> None:
    assert set(COST_KINDS) == {"structure", "mse", "lpips", "dreamsim"}
    goal = view(scene(0), 0)
    for kind in ("lpips", "dreamsim"):
        try:
            cost = goal_cost(goal, kind)
        except ScoreError as error:
            assert kind in str(error) and ("pip install" in str(error) or "download" in str(error))
        else:
            assert cost(video(goal))[0] == pytest.approx(0, abs=1e-4)
