"""Windows and samples: which actions belong to which frames, in the dataset and in the live buffer alike."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.data.sync import Tick
from egowm_core.data.window import ContextBuffer, take_sample, windows
from egowm_core.errors import ConfigError, DataError


def frame(i: int) -> np.ndarray:
    return np.full((2, 3, 3), i, np.uint8)


def tick(i: int, *, starts: bool = False) -> Tick:
    return Tick(100 * i, frame(i), None if starts else np.array([i, -i], np.float32))


def arrays(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame i is full of i, and the action that leads to frame i is (i, -i)."""
    rows = np.arange(1, length, dtype=np.float32)
    return np.stack([frame(i) for i in range(length)]), 100 * np.arange(length), np.stack([rows, -rows], axis=1)


@pytest.mark.parametrize(
    ("length", "context", "horizon", "stride", "expected"),
    [(9, 1, 8, 1, [0]), (8, 1, 8, 1, []), (12, 1, 8, 1, [0, 1, 2, 3]), (12, 3, 4, 2, [0, 2, 4]), (0, 1, 1, 1, [])],
)
def test_windows(length, context, horizon, stride, expected):
    assert windows(length, context, horizon, stride).tolist() == expected


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_windows_refuses_nonsense(sizes):
    with pytest.raises(ConfigError):
        windows(10, *sizes)


def test_row_zero_moves_the_last_context_frame_to_the_first_future_frame():
    sample = take_sample(*arrays(12), start=2, context=3, horizon=4)
    assert sample.context_images[:, 0, 0, 0].tolist() == [2, 3, 4]
    assert sample.future_images[:, 0, 0, 0].tolist() == [5, 6, 7, 8]
    assert sample.actions[:, 0].tolist() == [5, 6, 7, 8]
    assert sample.context_stamps.tolist() == [200, 300, 400]
    assert sample.future_stamps.tolist() == [500, 600, 700, 800]


def test_every_window_fits_and_the_next_does_not():
    images, stamps, actions = arrays(12)
    for start in windows(12, 2, 5):
        take_sample(images, stamps, actions, start=int(start), context=2, horizon=5)
    for start in (-1, int(windows(12, 2, 5)[-1]) + 1):
        with pytest.raises(DataError, match="does not fit into 12 frames"):
            take_sample(images, stamps, actions, start=start, context=2, horizon=5)
    with pytest.raises(DataError, match="need 12 stamps and 11 actions"):
        take_sample(images, stamps, actions[:-1], start=0, context=1, horizon=1)


def test_the_buffer_gives_the_newest_context():
    buffer = ContextBuffer(3, 4)
    assert buffer.context() is None
    for i in range(20):
        assert buffer.push(tick(i, starts=i == 0)) == (i == 0)
        assert len(buffer) == min(i + 1, 7)
    context = buffer.context()
    assert context.images[:, 0, 0, 0].tolist() == [17, 18, 19]
    assert context.stamps_ns.tolist() == [1700, 1800, 1900]
    assert buffer.executed_actions()[:, 0].tolist() == [14, 15, 16, 17, 18, 19]


def test_hindsight_is_the_datasets_sample():
    buffer = ContextBuffer(2, 5)
    images, stamps, actions = arrays(11)
    for i in range(11):
        buffer.push(tick(i, starts=i == 0))
        for horizon in (1, 3, 5):
            live = buffer.hindsight(horizon)
            start = i + 1 - 2 - horizon
            if start < 0:
                assert live is None
                continue
            stored = take_sample(images, stamps, actions, start=start, context=2, horizon=horizon)
            for name in stored.__dataclass_fields__:
                np.testing.assert_array_equal(getattr(live, name), getattr(stored, name))
    assert buffer.hindsight().actions.shape == (5, 2)


def test_a_new_segment_forgets_the_old_one():
    buffer = ContextBuffer(1, 2)
    for i in range(5):
        buffer.push(tick(i, starts=i == 0))
    assert buffer.hindsight() is not None
    assert buffer.push(tick(5, starts=True))
    assert len(buffer) == 1
    assert buffer.hindsight() is None
    assert buffer.executed_actions().shape == (0, 0)
    buffer.clear()
    assert buffer.push(tick(6))  # after clear any tick starts
    assert buffer.context().stamps_ns.tolist() == [600]


def test_the_buffer_refuses_nonsense():
    buffer = ContextBuffer(1, 2)
    buffer.push(tick(3, starts=True))
    with pytest.raises(DataError, match="not after"):
        buffer.push(tick(3))
    with pytest.raises(DataError, match="hindsight of 3"):
        buffer.hindsight(3)
    with pytest.raises(ConfigError):
        ContextBuffer(0, 1)
