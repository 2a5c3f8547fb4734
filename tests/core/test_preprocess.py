"""Centre crop and resize: geometry, interpolation and types."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, DataError


def test_for_camera_takes_the_embodiments_size():
    assert Preprocess.for_camera(load_embodiment("base_3dof").camera()) == Preprocess(96, 128)


@pytest.mark.parametrize("size", [(240, 320), (120, 160), (1080, 1920), (480, 480), (96, 128), (10, 300), (1, 1)])
def test_any_size_becomes_the_models(size):
    out = Preprocess(96, 128)(np.full((*size, 3), 77, np.uint8))
    assert out.shape == (96, 128, 3)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert (out == 77).all()


def test_the_right_size_is_returned_untouched_as_a_copy():
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    out = Preprocess(96, 128)(image)
    np.testing.assert_array_equal(out, image)
    out[:] = 0
    assert image.any()


def test_the_crop_is_centred():
    process = Preprocess(96, 128)
    assert process.crop_window(240, 320) == (0, 0, 240, 320)
    assert process.crop_window(1080, 1920) == (0, 240, 1080, 1440)
    assert process.crop_window(480, 480) == (60, 0, 360, 480)
    wide = np.zeros((96, 228, 3), np.uint8)
    wide[:, 50:178] = 200
    assert (process(wide) == 200).all()


def test_shrinking_averages_areas():
    image = np.zeros((4, 4, 3), np.uint8)
    image[::2] = 200
    np.testing.assert_array_equal(Preprocess(2, 2)(image), np.full((2, 2, 3), 100))


def test_enlarging_interpolates():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200
    row = Preprocess(8, 8)(image)[0, :, 0]
    assert (np.diff(row.astype(int)) >= 0).all()
    assert len(set(row.tolist())) > 2


def test_non_contiguous_input_is_fine():
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    np.testing.assert_array_equal(Preprocess(10, 12)(image[:, ::-1]), Preprocess(10, 12)(image[:, ::-1].copy()))


def test_labels_are_never_mixed():
    labels = np.random.default_rng(0).integers(0, 50_000, (240, 320), np.uint16)
    out = Preprocess(96, 128).labels(labels)
    assert out.shape == (96, 128)
    assert out.dtype == np.uint16
    assert np.isin(out, labels).all()


def test_labels_lie_where_the_picture_is():
    process, labels = Preprocess(96, 128), np.zeros((240, 320), np.uint16)
    labels[60:180, 100:220] = 7
    picture = np.where(labels[..., None] == 7, 255, 0).astype(np.uint8).repeat(3, axis=2)
    assert ((process(picture)[..., 0] > 127) == (process.labels(labels) == 7)).mean() > 0.99


def test_wrong_input_is_refused():
    process = Preprocess(4, 4)
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(DataError, match="uint8 RGB"):
            process(image)
    with pytest.raises(DataError, match="empty"):
        process(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"\(h,w\)"):
        process.labels(np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(ConfigError, match="0x4"):
        Preprocess(0, 4)
