"""Distances of sets: the Frechet distance against closed forms and scipy; metrics that cannot be computed here."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from egowm_core.errors import ScoreError
from egowm_core.metrics import METRICS, FeatureSums, available, frechet_distance, load_metric, psnr
from egowm_core.metrics.distribution import in_eval_mode
from egowm_core.metrics.weights import Needs, read_tensors


def with_moments(mean: np.ndarray, covariance: np.ndarray, count: int = 400, seed: int = 0) -> FeatureSums:
    """Samples whose moments are exactly these."""
    samples = np.random.default_rng(seed).normal(size=(count, len(mean)))
    samples -= samples.mean(axis=0)
    whitened = np.linalg.solve(np.linalg.cholesky(np.atleast_2d(np.cov(samples, rowvar=False))), samples.T).T
    return FeatureSums.of(whitened @ np.linalg.cholesky(covariance).T + mean)


def test_one_dimension_has_a_closed_form():
    a = with_moments(np.array([1.0]), np.array([[4.0]]))
    b = with_moments(np.array([-2.0]), np.array([[9.0]]), seed=1)
    assert frechet_distance(a, b) == pytest.approx(3.0**2 + (2.0 - 3.0) ** 2, rel=1e-9)


def test_commuting_covariances_have_a_closed_form():
    first, second = np.array([1.0, 4.0, 0.25]), np.array([2.25, 1.0, 9.0])
    a = with_moments(np.zeros(3), np.diag(first))
    b = with_moments(np.array([0.0, 3.0, 4.0]), np.diag(second), seed=1)
    assert frechet_distance(a, b) == pytest.approx(25.0 + ((first**0.5 - second**0.5) ** 2).sum(), rel=1e-9)


def test_it_is_what_the_matrix_square_root_gives():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(3)
    sets = [rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)) + rng.normal(size=8) for _ in range(2)]
    (m1, s1), (m2, s2) = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in sets]
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2)))
    sums = [FeatureSums.of(x) for x in sets]
    assert frechet_distance(*sums) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(*sums) == pytest.approx(frechet_distance(*sums[::-1]), rel=1e-9)


def test_a_set_is_at_no_distance_from_itself_even_with_fewer_samples_than_features():
    few = FeatureSums.of(np.random.default_rng(0).normal(size=(5, 40)))
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-6)


def test_features_may_come_in_pieces():
    samples = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    pieces = FeatureSums.of(samples[:7])
    pieces.add(samples[7:])
    assert pieces.count == 30
    np.testing.assert_allclose(pieces.covariance, np.cov(samples, rowvar=False), rtol=1e-5)


def test_one_sample_has_no_covariance():
    one, two = (FeatureSums.of(np.zeros((count, 3))) for count in (1, 2))
    assert np.isnan(frechet_distance(one, two))
    with pytest.raises(ScoreError, match="cannot be compared"):
        frechet_distance(two, FeatureSums.of(np.zeros((2, 4))))
    with pytest.raises(ScoreError, match="not finite"):
        two.add(np.full((1, 3), np.nan))


def test_metrics_of_pixels_are_always_there():
    assert available("psnr") is available("ssim") is available("physics_iq") is None
    assert load_metric("psnr") is psnr


def test_names_are_checked_with_the_nearest():
    for function in (available, load_metric):
        with pytest.raises(ScoreError, match="did you mean 'lpips'"):
            function("lpisp")
    with pytest.raises(ScoreError, match="nothing to load"):
        load_metric("physics_iq")


@pytest.mark.parametrize("name", [name for name in METRICS if name not in ("psnr", "ssim", "physics_iq")])
def test_what_is_missing_is_named_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    missing = available(name, weights_dir=tmp_path)
    assert missing is not None and missing.metric == name
    assert "\n" not in str(missing)
    assert "pip install" in missing.reason or "download from" in missing.reason
    with pytest.raises(ScoreError, match=f"{name} is not available"):
        load_metric(name, weights_dir=tmp_path)


def test_packages_are_missing_before_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    needs = Needs("some-package", ("no_such_module.inside",), ("net.pth",), "https://example.org/net.pth")
    assert "pip install some-package" in str(needs.missing("m", tmp_path))
    here = Needs("numpy", ("numpy",), ("net.pth",), "https://example.org/net.pth")
    assert "download from https://example.org/net.pth" in str(here.missing("m", tmp_path))
    save_file({"w": torch.zeros(1)}, tmp_path / "net.safetensors")
    assert here.missing("m", tmp_path) is None
    assert here.file(tmp_path).name == "net.safetensors"


def test_weights_are_tensors_and_nothing_else(tmp_path: Path):
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "good.pth")
    assert read_tensors(tmp_path / "good.pth")["a"].tolist() == [1, 1]

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Evil()))
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    for name in ("evil.pth", "raw.pth", "list.pth", "cut.safetensors"):
        with pytest.raises(ScoreError, match="tensors"):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_networks_are_in_eval_mode():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    frozen = in_eval_mode(network.train())
    assert not any(layer.training for layer in frozen.modules())
    pictures = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(frozen(pictures)[:1], frozen(pictures[:1]))

    class Stubborn(nn.BatchNorm2d):
        def train(self, mode: bool = True):
            return super().train(True)

    with pytest.raises(ScoreError, match="training mode"):
        in_eval_mode(nn.Sequential(Stubborn(3)))
