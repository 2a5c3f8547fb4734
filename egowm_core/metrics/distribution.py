"""Distances of sets of pictures and of videos by the networks that everybody uses: FID and FVD. Lower is nearer.

FID: Heusel et al., arXiv 1706.08500, by the Inception of package ``torch-fidelity`` (the TensorFlow network's weights).
FVD: Unterthiner et al., arXiv 1812.01717, by the I3D of package ``cd-fvd`` (Kinetics-400, logits). Nothing is
downloaded. Networks are in eval mode, which is checked: features of an Inception that still normalises by batch are a
known fault of published figures. Knows no horizon and no table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import nn

from egowm_core.errors import ScoreError
from egowm_core.metrics.frechet import FeatureArray
from egowm_core.metrics.perceptual import import_metric_package
from egowm_core.metrics.weights import Needs, read_tensors
from egowm_core.types import ImageArray

FID_NEEDS = Needs(
    package="torch-fidelity torchvision",
    modules=("torch_fidelity", "torchvision"),
    files=("weights-inception-2015-12-05-6726825d.pth",),
    source="https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0",
)
FVD_NEEDS = Needs(
    package="cd-fvd",
    modules=("cdfvd.third_party.i3d.utils",),
    files=("i3d_pretrained_400.pt",),
    source="https://github.com/songweige/TATS/tree/main/tats/fvd",
)
FVD_LEAST = 9  # frames, context included: I3D halves the length three times and then averages over two
_BATCH = 16


class SetMetric(Protocol):
    """Features whose sets are compared by their Frechet distance; ``least_frames`` a video must have."""

    least_frames: int

    def features(self, video: ImageArray) -> FeatureArray:
        """(S,F) of a video (T,H,W,3) uint8: one for each frame, or one for all. Raises ScoreError."""


class Fid:
    """Inception's 2048 pooled features of each frame."""

    least_frames = 1

    def __init__(self, weights_dir: Path | None = None, *, device: str = "cpu") -> None:
        """Raises ScoreError when the package or its weights cannot be loaded."""
        import torch

        package = import_metric_package("torch_fidelity", FID_NEEDS)
        path = FID_NEEDS.file(weights_dir)
        state = read_tensors(path)
        # the package unpickles whatever it is given: it gets a file that we wrote, of the tensors that we read
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "inception.pth"
            torch.save(state, copy)
            try:
                network = package.FeatureExtractorInceptionV3(
                    "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(copy)
                )
            except RuntimeError as error:
                raise ScoreError(f"{path} does not fit Inception: {error}; download from {FID_NEEDS.source}") from error
        self._network = in_eval_mode(network.to(device))
        self._device = device

    def features(self, video: ImageArray) -> FeatureArray:
        """(T,2048) of a video (T,H,W,3) uint8."""
        import torch

        found = []
        with torch.inference_mode():
            for start in range(0, len(video), _BATCH):
                frames = torch.from_numpy(np.ascontiguousarray(video[start : start + _BATCH])).to(self._device)
                found.append(self._network(frames.permute(0, 3, 1, 2).contiguous())[0].cpu().numpy())
        return np.concatenate(found)


class Fvd:
    """I3D's 400 logits of each video as a whole; a video has at least nine frames, the context among them."""

    least_frames = FVD_LEAST

    def __init__(self, weights_dir: Path | None = None, *, device: str = "cpu") -> None:
        """Raises ScoreError when the package or its weights cannot be loaded."""
        utils = import_metric_package("cdfvd.third_party.i3d.utils", FVD_NEEDS)
        path = FVD_NEEDS.file(weights_dir)
        network = utils.pytorch_i3d.InceptionI3d(400, in_channels=3)
        try:
            network.load_state_dict(read_tensors(path))
        except RuntimeError as error:
            raise ScoreError(f"{path} does not fit I3D: {error}; download from {FVD_NEEDS.source}") from error
        self._network, self._prepare = in_eval_mode(network.to(device)), utils.preprocess_i3d
        self._device = device

    def features(self, video: ImageArray) -> FeatureArray:
        """(1,400) of a video (T,H,W,3) uint8. Raises ScoreError when it is too short."""
        import torch

        if len(video) < FVD_LEAST:
            raise ScoreError(
                f"FVD needs videos of at least {FVD_LEAST} frames, context included, got {len(video)};"
                " give longer videos, or leave fvd out"
            )
        with torch.inference_mode():
            found = self._network(self._prepare(np.ascontiguousarray(video)[None]).to(self._device))
        return np.asarray(found.float().cpu().numpy()).reshape(1, -1)


def in_eval_mode(network: nn.Module) -> nn.Module:
    """The network, frozen and with every layer in eval mode.

    Raises:
        ScoreError: a layer keeps training mode on.
    """
    network = network.eval().requires_grad_(False)
    training = [name or type(network).__name__ for name, layer in network.named_modules() if layer.training]
    if training:
        raise ScoreError(
            f"layer {training[0]} of {type(network).__name__} stays in training mode: its features would depend on the"
            " other pictures of the batch; use another version of its package"
        )
    return network
