"""Faces are found and made unrecognisable, the rest of the picture stays, and an absent detector is named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from egowm_core.errors import ConfigError
from egowm_core.faces import FaceBlur, blur_boxes


@pytest.fixture(scope="module")
def blur() -> FaceBlur:
    return FaceBlur()


def astronaut() -> np.ndarray:
    return np.asarray(data.astronaut())  # scikit-image ships it; public domain (NASA)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_a_face_is_found_and_blurred(blur, scale):
    image = cv2.resize(astronaut(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    before = image.copy()
    out, count = blur(image)
    assert count >= 1
    np.testing.assert_array_equal(image, before)
    rows, columns = (slice(round(a * scale), round(b * scale)) for a, b in ((90, 160), (190, 255)))
    detail = [cv2.Laplacian(x[rows, columns], cv2.CV_32F).var() for x in (before, out)]
    assert detail[1] < 0.1 * detail[0]
    beside = (slice(None), slice(0, round(130 * scale)))
    np.testing.assert_array_equal(out[beside], before[beside])


def test_a_picture_without_faces_is_left_alone(blur):
    image = np.asarray(data.coffee())
    out, count = blur(image)
    assert count == 0
    assert out is image


def test_tiny_pictures_have_no_faces(blur):
    image = np.zeros((8, 12, 3), np.uint8)
    assert blur(image)[1] == 0


def test_boxes_over_the_edge_are_clipped():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    out = blur_boxes(image, np.array([[-20, -20, 40, 40], [70, 50, 40, 40], [200, 200, 10, 10], [5, 5, 0, 0]]))
    assert out.shape == image.shape
    assert out[:15, :15].std() < 0.5 * image[:15, :15].std()
    np.testing.assert_array_equal(out[30:45, 30:60], image[30:45, 30:60])


def test_an_absent_or_broken_model_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.onnx is no file.*builtin"):
        FaceBlur(str(tmp_path / "absent.onnx"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"broken\.onnx.*builtin"):
        FaceBlur(str(broken))
