"""LPIPS, FID and FVD by their packages, where those are installed: real networks with random weights from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egowm_core.errors import ScoreError
from egowm_core.metrics import FeatureSums, available, frechet_distance, load_metric


def videos(frames: int = 3, size: tuple[int, int] = (64, 80)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    observed = rng.integers(0, 256, (frames, *size, 3)).astype(np.uint8)
    return np.clip(observed + rng.normal(0, 30, observed.shape), 0, 255).astype(np.uint8), observed


@pytest.fixture(autouse=True)
def nothing_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    torch.manual_seed(0)


def test_lpips_is_what_its_package_computes(tmp_path: Path):
    lpips = pytest.importorskip("lpips", exc_type=Exception)
    from torchvision.models import alexnet

    trunk = alexnet(weights=None)
    torch.save(trunk.state_dict(), tmp_path / "alexnet-owt-7be5be79.pth")
    assert available("lpips", weights_dir=tmp_path) is None
    metric = load_metric("lpips", weights_dir=tmp_path)
    predicted, observed = videos(frames=20)
    values = metric(predicted, observed)
    assert values.shape == (20,) and (values > 0).all()
    np.testing.assert_allclose(metric(observed, observed), 0, atol=1e-6)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    for piece in reference.net.children():
        for name, layer in piece.named_children():
            layer.load_state_dict(trunk.features[int(name)].state_dict())
    as_tensor = [torch.from_numpy(v[7]).permute(2, 0, 1)[None].float() / 255 for v in (predicted, observed)]
    expected = float(reference(*as_tensor, normalize=True))
    assert values[7] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ScoreError, match="32x32"):
        metric(predicted[:, :16], observed[:, :16])


def test_lpips_refuses_weights_of_something_else(tmp_path: Path):
    pytest.importorskip("lpips", exc_type=Exception)
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(ScoreError, match="not torchvision's AlexNet"):
        load_metric("lpips", weights_dir=tmp_path)


def test_fid_features_do_not_depend_on_the_batch(tmp_path: Path):
    package = pytest.importorskip("torch_fidelity", exc_type=Exception)
    name = "weights-inception-2015-12-05-6726825d.pth"
    build = package.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "load_state_dict", lambda self, state: None)
        torch.save({}, tmp_path / "empty.pth")
        network = build("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "empty.pth"))
    torch.save(network.state_dict(), tmp_path / name)
    metric = load_metric("fid", weights_dir=tmp_path)
    predicted, observed = videos()
    features = metric.features(observed)
    assert features.shape == (3, 2048)
    np.testing.assert_allclose(metric.features(observed[:1]), features[:1], rtol=1e-3, atol=1e-5)
    sums = FeatureSums.of(features)
    assert frechet_distance(sums, sums) == pytest.approx(0, abs=1e-3)
    assert frechet_distance(FeatureSums.of(metric.features(predicted)), sums) > 0


def test_fvd_has_one_feature_a_video_and_needs_nine_frames(tmp_path: Path):
    utils = pytest.importorskip("cdfvd.third_party.i3d.utils", exc_type=Exception)
    network = utils.pytorch_i3d.InceptionI3d(400, in_channels=3)
    torch.save(network.state_dict(), tmp_path / "i3d_pretrained_400.pt")
    metric = load_metric("fvd", weights_dir=tmp_path)
    _, observed = videos(frames=9)
    assert metric.least_frames == 9
    features = metric.features(observed)
    assert features.shape == (1, 400) and np.isfinite(features).all()
    with pytest.raises(ScoreError, match="at least 9 frames"):
        metric.features(observed[:8])
