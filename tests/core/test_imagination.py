"""Imagination on a small checkpoint of the real classes: what candidates share, how they come, how they are stopped."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core import Frames
from egowm_core.errors import EgowmError, EmbodimentError, RolloutError, Stopped
from egowm_core.imagination import imagine, imagine_all
from egowm_core.world_model import WorldModel
from tests.fixtures.awake_model import awake_model
from tests.fixtures.tiny_checkpoint import made_up_picture

CONTEXT = Frames(made_up_picture(96, 128, seed=9)[None], np.array([10**10], np.int64))
TURNS = np.zeros((3, 6, 3), np.float32)
TURNS[:, :, 2] = np.array([-0.1, 0.0, 0.1], np.float32)[:, None]
TURNS[:, :, 0] = 0.1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return awake_model(tmp_path_factory.mktemp("chunked") / "tiny")


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return awake_model(tmp_path_factory.mktemp("causal") / "tiny", causal=True)


class Counter:
    """Says stop from the ``limit``-th question on."""

    def __init__(self, limit: int) -> None:
        self.asked, self.limit = 0, limit

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked >= self.limit


def differ(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("kind", ["model", "causal"])
def test_a_candidate_is_imagined_as_it_would_be_on_its_own(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    together = imagine_all(model, CONTEXT, TURNS, seed=5)
    assert together.shape == (3, 6, 96, 128, 3)
    for index, candidate in enumerate(TURNS):
        alone = model.predict(CONTEXT.images[None], candidate[None], seed=5).images[0]
        assert differ(together[index], alone) <= 1  # of 255: sums are rounded differently
    assert differ(together[0], together[2]) > 3  # while their actions do make a difference
    assert differ(together, imagine_all(model, CONTEXT, TURNS, seed=5, batch=2)) <= 1
    assert differ(together, imagine_all(model, CONTEXT, TURNS, seed=6)) > 3


def test_candidates_come_in_batches_chunk_by_chunk(model: WorldModel) -> None:
    chunks = list(imagine(model, CONTEXT, TURNS, batch=2))
    came = [(chunk.candidates.start, chunk.candidates.stop, chunk.first_frame, chunk.images.shape) for chunk in chunks]
    size = (96, 128, 3)
    assert came == [
        (0, 2, 0, (2, 4, *size)),
        (0, 2, 4, (2, 2, *size)),
        (2, 3, 0, (1, 4, *size)),
        (2, 3, 4, (1, 2, *size)),
    ]


def test_a_causal_model_s_frames_come_one_by_one(causal: WorldModel) -> None:
    chunks = list(imagine(causal, CONTEXT, TURNS[:2], batch=2))
    assert [(chunk.first_frame, chunk.images.shape[:2]) for chunk in chunks] == [(i, (2, 1)) for i in range(6)]


@pytest.mark.parametrize("kind", ["model", "causal"])
def test_it_stops_before_the_next_denoising_step_and_the_model_goes_on(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    evaluated: list[int] = []
    names = ("denoise", "denoise_next")
    stock = {name: getattr(model.denoiser, name) for name in names}

    def counting(name: str):
        def count(*args, **options):
            evaluated.append(1)
            return stock[name](*args, **options)

        return count

    stop = Counter(4)  # before the rollout, before its steps 1 and 2, before step 3
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(model.denoiser, name, counting(name))
        with pytest.raises(Stopped, match="as asked"):
            list(imagine(model, CONTEXT, TURNS, num_denoising_steps=5, stop=stop))
        assert len(evaluated) == 2 and stop.asked == 4
    assert issubclass(Stopped, EgowmError)
    assert imagine_all(model, CONTEXT, TURNS[:1], num_denoising_steps=1).shape[1] == 6


def test_nothing_is_made_before_it_is_asked_for(model: WorldModel) -> None:
    never_again = Counter(1)
    chunks = imagine(model, CONTEXT, TURNS, stop=never_again)
    assert never_again.asked == 0
    with pytest.raises(Stopped):
        next(chunks)


def test_it_refuses_what_does_not_fit_at_once(model: WorldModel) -> None:
    wild = TURNS.copy()
    wild[1, 2, 2] = 9.0
    with pytest.raises(EmbodimentError, match="candidate 1: channel 'dyaw' row 2: value 9 rad"):
        imagine(model, CONTEXT, wild)
    with pytest.raises(EmbodimentError, match="candidate 0"):
        imagine(model, CONTEXT, TURNS[:, :, :2])
    for options, message in (
        ({"batch": 0}, "batch is 0"),
        ({"num_denoising_steps": 0}, "expected 1 or more"),
        ({"candidates": TURNS[:0]}, "N and T >= 1"),
        ({"context": Frames(CONTEXT.images[:0], CONTEXT.stamps_ns[:0])}, "0 context frames"),
    ):
        given = {"context": CONTEXT, "candidates": TURNS} | options
        with pytest.raises(RolloutError, match=message):
            imagine(model, given.pop("context"), given.pop("candidates"), **given)
    with pytest.raises(RolloutError, match="alternatives share one context"):
        model.predict_chunks(np.repeat(CONTEXT.images[None], 3, axis=0), TURNS, alternatives=True)
