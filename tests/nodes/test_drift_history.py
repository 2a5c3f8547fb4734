"""The plot of the last minute: what is drawn where, and that nothing odd breaks it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from egowm_core.drift import Cause, DriftState
from egowm_nodes.drift.history import HEIGHT, WIDTH, Moment, draw_history
from egowm_nodes.pictures import STATE_COLORS

BAND = slice(HEIGHT - 52, HEIGHT - 37)  # rows of the state
LINE = (86, 180, 233)  # of the shortest horizon


def moments(count: int = 120, **changes) -> list[Moment]:
    """Every half second of the last minute, SCS 80, all well."""
    fields = {"state": DriftState.OK, "scs": {2: 80.0}, "usual": {2: 85.0}} | changes
    return [Moment(at_s=i / 2, **fields) for i in range(count)]


def draw(made: list[Moment], now_s: float = 59.5, **options) -> np.ndarray:
    return draw_history(made, now_s=now_s, error_at=1.5, **options)


def rows_of(picture: np.ndarray, color: tuple[int, int, int], columns: slice) -> np.ndarray:
    """Rows of the upper panel that have pixels of a colour."""
    return np.flatnonzero((picture[24:200, columns] == color).all(axis=-1).any(axis=1)) + 24


def states_at(picture: np.ndarray, share: float) -> str:
    """The state whose colour the band has at a share of the time axis."""
    pixel = tuple(picture[BAND, 40 + round(share * (WIDTH - 48))][7].tolist())
    return next((name for name, color in STATE_COLORS.items() if color == pixel), "")


def test_a_higher_score_is_drawn_higher():
    middle = slice(200, 500)
    low, high = (rows_of(draw(moments(scs={2: score})), LINE, middle) for score in (30.0, 90.0))
    assert len(low) and len(high) and high.max() < low.min() - 60


def test_the_band_shows_each_state_when_it_was_and_an_alarm_lies_above_its_threshold():
    made = moments()
    made[60:80] = [Moment(i / 2, DriftState.ERROR, Cause.FROZEN, 2.0, scs={2: 20.0}) for i in range(60, 80)]
    picture = draw(made)
    assert states_at(picture, 0.25) == states_at(picture, 0.9) == "OK" and states_at(picture, 0.58) == "ERROR"
    assert not np.array_equal(
        picture[HEIGHT - 36 : HEIGHT - 20], draw(moments())[HEIGHT - 36 : HEIGHT - 20]
    )  # the word
    panel = picture[203:304]
    white = (panel > 180).all(axis=-1)
    red = np.flatnonzero((panel == (214, 69, 65)).all(axis=-1).sum(axis=1) > 250)
    alarmed, calm = (np.flatnonzero(white[:, columns].any(axis=1)) for columns in (slice(360, 420), slice(100, 250)))
    assert alarmed.min() < red.min() < red.max() < calm.max()


def test_silence_and_the_unknown_leave_gaps():
    made = [moment for moment in moments() if not 20 <= moment.at_s <= 40]
    picture = draw(made)
    assert states_at(picture, 0.55) == "" and not len(rows_of(picture, LINE, slice(280, 400)))
    unknown = draw(moments(scs={2: math.nan}, state=DriftState.UNDEFINED))
    assert not len(rows_of(unknown, LINE, slice(100, 600))) and states_at(unknown, 0.5) == "UNDEFINED"


def test_only_the_last_minute_counts():
    made = moments()
    np.testing.assert_array_equal(draw(made, now_s=1000.0), draw([], now_s=1000.0))
    late = draw(made, now_s=89.5)  # half of it is too old
    assert states_at(late, 0.2) == "OK" and states_at(late, 0.8) == ""


@pytest.mark.parametrize(
    "made",
    [
        [],
        [Moment(59.0, DriftState.STALE)],
        [Moment(59.0, DriftState.OK, executed=False, scs={8: 50.0}, usual={8: 60.0})],
        [Moment(59.0 + i / 1000, DriftState.WARN, cause, 9.0, scs={1: 101.0}) for i, cause in enumerate(Cause)],
        [Moment(59.0, DriftState.ERROR, Cause.NOT_FOLLOWING, math.nan, scs={h: 5.0 * h for h in range(1, 9)})],
    ],
)
def test_odd_moments_are_drawn_too(made: list[Moment]):
    for size in ((HEIGHT, WIDTH), (240, 320)):
        picture = draw(made, height=size[0], width=size[1])
        assert picture.shape == (*size, 3) and picture.dtype == np.uint8 and picture.max() > 100
