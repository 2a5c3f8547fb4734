"""PSNR and SSIM equal scikit-image's; the mean squared error is what PSNR is made of."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from egowm_core.errors import ScoreError
from egowm_core.metrics import mse, psnr, ssim


def videos():
    rng = np.random.default_rng(0)
    observed = rng.integers(0, 256, (3, 24, 32, 3)).astype(np.uint8)
    predicted = np.clip(observed + rng.normal(0, 20, observed.shape), 0, 255).astype(np.uint8)
    return predicted, observed


def test_psnr_per_frame():
    predicted, observed = videos()
    expected = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(predicted, observed, strict=True)]
    np.testing.assert_allclose(psnr(predicted, observed), expected, rtol=1e-6)
    assert np.isinf(psnr(observed, observed)).all()


def test_ssim_per_frame():
    predicted, observed = videos()
    expected = [
        structural_similarity(b, a, channel_axis=-1, data_range=255) for a, b in zip(predicted, observed, strict=True)
    ]
    np.testing.assert_allclose(ssim(predicted, observed), expected, rtol=1e-5)
    np.testing.assert_allclose(ssim(observed, observed), 1)


def test_mse_is_of_values_up_to_one():
    predicted, observed = videos()
    np.testing.assert_allclose(10 * np.log10(1 / mse(predicted, observed)), psnr(predicted, observed), rtol=1e-5)
    assert mse(np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)) == 1.0


@pytest.mark.parametrize("metric", [psnr, ssim, mse])
def test_what_does_not_fit_is_refused(metric):
    predicted, observed = videos()
    with pytest.raises(ScoreError, match="differ"):
        metric(predicted[:2], observed)
    with pytest.raises(ScoreError, match="uint8"):
        metric(predicted / 255.0, observed / 255.0)


def test_ssim_needs_its_window():
    with pytest.raises(ScoreError, match="7x7"):
        ssim(np.zeros((1, 6, 9, 3), np.uint8), np.zeros((1, 6, 9, 3), np.uint8))
