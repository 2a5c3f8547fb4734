"""Perceptual distances of frames by the packages of their authors: LPIPS and DreamSim. Lower is nearer.

Zhang et al., arXiv 1801.03924 (package ``lpips``, AlexNet, version 0.1); Fu et al., arXiv 2306.09344 (package
``dreamsim``, the ensemble). Nothing is downloaded, networks are in eval mode. Knows no horizon and no table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from egowm_core.errors import ScoreError
from egowm_core.metrics.pixels import check_videos
from egowm_core.metrics.weights import Needs, read_tensors
from egowm_core.types import FloatArray, ImageArray

LPIPS_NEEDS = Needs(
    package="lpips torchvision",
    modules=("lpips", "torchvision"),
    files=("alexnet-owt-7be5be79.pth",),
    source="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
DREAMSIM_NEEDS = Needs(
    package="dreamsim torchvision",
    modules=("dreamsim", "torchvision"),
    files=(
        "ensemble_lora",
        "dino_vitb16_pretrain.pth",
        "clip_vitb16_pretrain.pth.tar",
        "open_clip_vitb16_pretrain.pth.tar",
    ),
    source="https://github.com/ssundaram21/dreamsim/releases (dreamsim_ensemble_checkpoint.zip, unpacked)",
)
_BATCH = 16  # frames
_LEAST = 32  # px, below which AlexNet has no last feature map


class FrameMetric(Protocol):
    """A distance or likeness of each frame of one video to the same frame of another."""

    def __call__(self, predicted: ImageArray, observed: ImageArray) -> FloatArray:
        """(T,) of videos (T,H,W,3) uint8. Raises ScoreError when they do not fit."""


class Lpips:
    """LPIPS of AlexNet with the calibrated linear layers that the package carries."""

    def __init__(self, weights_dir: Path | None = None, *, device: str = "cpu") -> None:
        """Raises ScoreError when the package or AlexNet's weights cannot be loaded."""
        lpips = import_metric_package("lpips", LPIPS_NEEDS)
        state = read_tensors(LPIPS_NEEDS.file(weights_dir))
        self._network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        # the package keeps torchvision's layers by number, in slices: slice2.3.weight is features.3.weight
        names = {name: f"features.{name.split('.', 1)[1]}" for name in self._network.net.state_dict()}
        try:
            self._network.net.load_state_dict({name: state[source] for name, source in names.items()})
        except (KeyError, RuntimeError) as error:
            raise ScoreError(
                f"the weights of LPIPS are not torchvision's AlexNet ({error}); {_again(LPIPS_NEEDS)}"
            ) from error
        self._network = self._network.to(device).eval().requires_grad_(False)
        self._device = device

    def __call__(self, predicted: ImageArray, observed: ImageArray) -> FloatArray:
        """(T,) LPIPS, 0 for identical frames. Raises ScoreError."""
        import torch

        check_videos(predicted, observed)
        if min(predicted.shape[1:3]) < _LEAST:
            raise ScoreError(
                f"LPIPS needs frames of at least {_LEAST}x{_LEAST} pixels, got"
                f" {predicted.shape[1]}x{predicted.shape[2]}; enlarge them, or leave lpips out"
            )
        values = []
        with torch.inference_mode():
            for start in range(0, len(predicted), _BATCH):
                pair = [
                    torch.from_numpy(np.ascontiguousarray(video[start : start + _BATCH])).to(self._device)
                    for video in (predicted, observed)
                ]
                a, b = (frames.permute(0, 3, 1, 2).float() / 127.5 - 1 for frames in pair)
                values.append(self._network(a, b).reshape(-1).float().cpu().numpy())
        return np.concatenate(values)


class DreamSim:
    """DreamSim's ensemble of three vision transformers; frames are resized to 224x224 as its package does."""

    def __init__(self, weights_dir: Path | None = None, *, device: str = "cpu") -> None:
        """Raises ScoreError when the package or its weights cannot be loaded."""
        package = import_metric_package("dreamsim", DREAMSIM_NEEDS)
        directory = DREAMSIM_NEEDS.directory(weights_dir)
        if directory is None:
            raise ScoreError(f"no weights of DreamSim; {_again(DREAMSIM_NEEDS)}")
        try:
            model, self._prepare = package.dreamsim(pretrained=True, device=device, cache_dir=str(directory))
        except Exception as error:  # of any of its three networks
            raise ScoreError(
                f"DreamSim cannot be loaded from {directory}: {error}; {_again(DREAMSIM_NEEDS)}"
            ) from error
        self._network = model.eval()
        self._device = device

    def __call__(self, predicted: ImageArray, observed: ImageArray) -> FloatArray:
        """(T,) DreamSim distances, 0 for identical frames. Raises ScoreError."""
        import torch
        from PIL import Image

        check_videos(predicted, observed)
        values = []
        with torch.inference_mode():
            for start in range(0, len(predicted), _BATCH):
                a, b = (
                    torch.cat([self._prepare(Image.fromarray(frame)) for frame in video[start : start + _BATCH]])
                    for video in (predicted, observed)
                )
                values.append(self._network(a.to(self._device), b.to(self._device)).reshape(-1).float().cpu().numpy())
        return np.concatenate(values)


def import_metric_package(module: str, needs: Needs) -> Any:
    """Import a metric's package. Raises ScoreError naming what to install, also where it is installed but broken."""
    import importlib

    try:
        return importlib.import_module(module)
    except Exception as error:  # a torchvision of another torch raises RuntimeError
        line = " ".join(str(error).split())[:160]
        raise ScoreError(f"{module} cannot be imported: {line}; pip install {needs.package}") from error


def _again(needs: Needs) -> str:
    return f"download from {needs.source} and name the directory"
