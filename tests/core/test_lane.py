"""Stages that overlap: work goes on beside its caller, in order, and predictions are the same to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from egowm_core import load_world_model
from egowm_core.errors import Stopped
from egowm_core.lane import SameLane, ThreadLane, lane_beside, one_behind
from egowm_core.world_model import WorldModel
from tests.core.wandering import CAUSAL, wander
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint

PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def one_thread_each() -> Iterator[None]:
    """Two lanes of as many threads as there are cores would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_work_in_a_thread_goes_on_beside_its_caller_and_in_order() -> None:
    lane, go, order = ThreadLane(), threading.Event(), list[int]()

    def work(number: int) -> Callable[[], Tensor]:
        def run() -> Tensor:
            assert go.wait(PATIENCE_S)
            order.append(number)
            return torch.full((2,), number)

        return run

    results = [lane.submit(work(number)) for number in range(3)]
    assert order == []  # the caller is here while nothing is done yet
    go.set()
    assert [int(result()[0]) for result in results] == order == [0, 1, 2]
    assert lane.parallel and isinstance(lane_beside(torch.device("cpu")), ThreadLane)


def test_without_a_lane_work_is_done_at_once() -> None:
    done: list[int] = []

    def work() -> Tensor:
        done.append(1)
        return torch.zeros(1)

    result = SameLane().submit(work)
    assert done == [1] and not SameLane.parallel
    assert torch.equal(result(), result())


@pytest.mark.parametrize("lane", [SameLane(), ThreadLane()])
def test_what_work_raises_reaches_who_asks(lane: SameLane | ThreadLane) -> None:
    def work() -> Tensor:
        raise ZeroDivisionError("divided")

    with pytest.raises(ZeroDivisionError, match="divided"):
        lane.submit(work)()
    assert torch.equal(lane.submit(lambda: torch.ones(1))(), torch.ones(1))  # the lane lives


class Begun:
    def __init__(self) -> None:
        self.waited = False

    def wait(self) -> None:
        self.waited = True


def test_items_come_one_behind_and_none_is_left_running() -> None:
    items = [Begun() for _ in range(3)]
    made: list[Begun] = []

    def source(*, fail: bool) -> Iterator[Begun]:
        for item in items:
            made.append(item)
            yield item
        if fail:
            raise Stopped("enough")

    got = []
    for item in one_behind(source(fail=False)):
        got.append((items.index(item), len(made)))
    assert got == [(0, 2), (1, 3), (2, 3)]
    assert not any(item.waited for item in items)  # the caller has them all
    with pytest.raises(Stopped):
        list(one_behind(source(fail=True)))
    assert items[2].waited
    left = one_behind(source(fail=False))
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert items[1].waited


@pytest.fixture(scope="module", params=["causal", "chunks"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    options = {"denoiser_fields": CAUSAL, "vae_fields": {"causal": True}} if request.param == "causal" else {}
    directory = save_tiny_checkpoint(tmp_path_factory.mktemp(request.param) / "tiny", horizon=4, **options)
    loaded = load_world_model(directory, bf16=False)
    generator = torch.Generator().manual_seed(5)
    for module in (loaded.denoiser, loaded.vae):
        assert isinstance(module, torch.nn.Module)
        for parameter in module.parameters():
            if not parameter.any():  # layers that start at zero get weights, as if trained
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return loaded


def situation(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (1,1,H,W,3) and actions (1,frames,3)."""
    return made_up_picture(96, 128, seed=9)[None, None], np.stack(list(wander(frames)))[None]


def test_overlapping_predictions_are_the_same_to_the_bit(model: WorldModel) -> None:
    picture, actions = situation(11)
    decoders: set[str] = set()
    decode = model.vae.decode

    def watched(*args: Tensor, **options: Tensor) -> Tensor:
        decoders.add(threading.current_thread().name)
        return decode(*args, **options)

    alone = model.predict(picture, actions, seed=2, warp="none")
    model.overlap = True
    model.vae.decode = watched  # type: ignore[method-assign]
    try:
        beside = model.predict(picture, actions, seed=2, warp="none")
    finally:
        del model.vae.decode  # type: ignore[method-assign]
        model.overlap = False
    assert alone.images.shape == (1, 11, 96, 128, 3)
    assert np.array_equal(beside.images, alone.images)
    assert decoders and all(name.startswith("egowm-lane") for name in decoders)
    assert set(beside.timings_s) == set(alone.timings_s)


def test_a_part_that_starts_from_the_last_one_s_pictures_waits_for_them(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = save_tiny_checkpoint(
        tmp_path_factory.mktemp("warped") / "tiny", horizon=4, denoiser_fields={"context_warp": True}
    )
    warped = load_world_model(directory, bf16=False)
    picture, actions = situation(9)
    alone = warped.predict(picture, actions, warp="floor").images
    warped.overlap = True
    assert np.array_equal(warped.predict(picture, actions, warp="floor").images, alone)
    assert not np.array_equal(warped.predict(picture, actions, warp="none").images, alone)


def test_parts_asked_for_singly_are_not_made_ahead(model: WorldModel) -> None:
    """What `imagine` counts on: between two parts, nobody works on the model."""
    picture, actions = situation(8)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return False

    model.overlap = True
    try:
        singly = model.predict_chunks(picture, actions, warp="none", by_frame=True, stop=stop)
        next(singly)
        of_one = asked
        next(singly)
        assert 0 < of_one < asked
        asked = 0
        next(model.predict_chunks(picture, actions, warp="none", by_frame=True, ahead=True, stop=stop))
        assert asked > of_one  # the second part is denoised by now
    finally:
        model.overlap = False


def test_a_prediction_that_is_stopped_leaves_a_model_that_predicts(model: WorldModel) -> None:
    picture, actions = situation(8)
    expected = model.predict(picture, actions, seed=1, warp="none").images
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 4  # in the second part of two, or of eight

    model.overlap = True
    try:
        with pytest.raises(Stopped):
            list(model.predict_chunks(picture, actions, seed=1, warp="none", by_frame=True, ahead=True, stop=stop))
        assert np.array_equal(model.predict(picture, actions, seed=1, warp="none").images, expected)
    finally:
        model.overlap = False
