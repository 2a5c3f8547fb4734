"""Which companion metrics there are, whether each can be computed here, and loading those that need a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from egowm_core.errors import ScoreError
from egowm_core.metrics.distribution import FID_NEEDS, FVD_NEEDS, Fid, Fvd, SetMetric
from egowm_core.metrics.perceptual import DREAMSIM_NEEDS, LPIPS_NEEDS, DreamSim, FrameMetric, Lpips
from egowm_core.metrics.pixels import psnr, ssim
from egowm_core.metrics.weights import Missing, Needs
from egowm_core.schema import nearest

FRAME_METRICS = ("psnr", "ssim", "lpips", "dreamsim")  # one value a frame
SET_METRICS = ("fid", "fvd")  # one value of many clips
METRICS = (*FRAME_METRICS, "physics_iq", *SET_METRICS)
LOWER_IS_BETTER = frozenset({"lpips", "dreamsim", "fid", "fvd", "mse"})

_NEEDS: dict[str, Needs] = {"lpips": LPIPS_NEEDS, "dreamsim": DREAMSIM_NEEDS, "fid": FID_NEEDS, "fvd": FVD_NEEDS}
_PLAIN: dict[str, FrameMetric] = {"psnr": psnr, "ssim": ssim}
_LOADERS: dict[str, Callable[..., FrameMetric | SetMetric]] = {
    "lpips": Lpips,
    "dreamsim": DreamSim,
    "fid": Fid,
    "fvd": Fvd,
}


def available(name: str, *, weights_dir: Path | None = None) -> Missing | None:
    """None when a metric can be computed here, else what is missing: its package or its weights, in one line.

    Raises:
        ScoreError: no such metric.
    """
    _check(name)
    return _NEEDS[name].missing(name, weights_dir) if name in _NEEDS else None


def load_metric(name: str, *, weights_dir: Path | None = None, device: str = "cpu") -> FrameMetric | SetMetric:
    """A metric ready for use: a ``FrameMetric`` for ``FRAME_METRICS``, a ``SetMetric`` for ``SET_METRICS``.

    Raises:
        ScoreError: no such metric, its package or weights missing (as ``available`` says) or not loadable; and for
            physics_iq, whose four values ``physics_iq`` computes without loading anything.
    """
    _check(name)
    if name in _PLAIN:
        return _PLAIN[name]
    if name not in _LOADERS:
        raise ScoreError(f"{name} has nothing to load; call egowm_core.metrics.{name}")
    missing = available(name, weights_dir=weights_dir)
    if missing is not None:
        raise ScoreError(str(missing))
    return _LOADERS[name](weights_dir, device=device)


def _check(name: str) -> None:
    if name not in METRICS:
        raise ScoreError(f"no metric {name!r}{nearest(name, METRICS)}; there are {', '.join(METRICS)}")
