"""Colours of the overlay."""

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import draw_overlay


def masks():
    predicted, observed = np.zeros((1, 40, 60), bool), np.zeros((1, 40, 60), bool)
    predicted[0, 5:25, 5:25] = True
    observed[0, 5:25, 15:35] = True
    return predicted, observed


def test_predicted_is_blue_and_observed_red():
    image = np.full((40, 60, 3), 100, np.uint8)
    predicted, observed = masks()
    out = draw_overlay(image, predicted, observed)
    assert out.shape == image.shape and out.dtype == np.uint8
    assert (image == 100).all()  # the input is left alone
    assert out[5, 6].tolist() == [0, 0, 255]  # outline of the predicted mask
    assert out[15, 34].tolist() == [255, 0, 0]
    red, _, blue = (int(value) for value in out[15, 10])
    assert blue > 100 > red
    red, _, blue = (int(value) for value in out[15, 30])
    assert red > 100 > blue
    red, green, blue = (int(value) for value in out[15, 20])  # both
    assert red == blue and abs(red - 107) < 3 and green < 100
    assert out[38, 50].tolist() == [100, 100, 100]


def test_it_enlarges_and_bears_no_masks():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    none = np.zeros((0, 40, 60), bool)
    assert np.array_equal(draw_overlay(image, none, none), image)
    assert draw_overlay(image, *masks(), factor=3).shape == (120, 180, 3)


def test_what_does_not_fit_is_refused():
    image = np.zeros((40, 60, 3), np.uint8)
    predicted, observed = masks()
    with pytest.raises(ScoreError, match="predicted masks"):
        draw_overlay(image, predicted[:, :20], observed)
    with pytest.raises(ScoreError, match="alpha"):
        draw_overlay(image, predicted, observed, alpha=2)
    with pytest.raises(ScoreError, match="uint8"):
        draw_overlay(image.astype(np.float32), predicted, observed)
