"""Where the networks of metrics come from: which package and which file of weights, and what to say without them.

Nothing is downloaded. Weights are looked for in a directory that is given, then where torch.hub keeps its downloads.
They are tensors alone: safetensors, or torch files read by the loader that builds nothing but tensors. Knows no metric.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from egowm_core.errors import ScoreError


@dataclass(frozen=True)
class Missing:
    """Why a metric cannot be computed here, in words, with the remedy."""

    metric: str
    reason: str

    def __str__(self) -> str:
        return f"{self.metric} is not available: {self.reason}"


@dataclass(frozen=True)
class Needs:
    """What a metric's network is made of: importable ``modules``, and ``files`` that all must be in one directory.

    ``package`` is what to install, ``source`` where its maintainers publish the weights.
    """

    package: str
    modules: tuple[str, ...]
    files: tuple[str, ...]
    source: str

    def missing(self, metric: str, weights_dir: Path | None) -> Missing | None:
        """What is absent, or None."""
        absent = [name.partition(".")[0] for name in self.modules if not _importable(name)]
        if absent:
            what = f"Python package {' and '.join(absent)} is" if len(absent) == 1 else f"{', '.join(absent)} are"
            return Missing(metric, f"{what} not installed; pip install {self.package}")
        if self.directory(weights_dir) is None:
            places = ", ".join(str(place) for place in _places(weights_dir))
            return Missing(
                metric, f"no {', '.join(self.files)} in {places}; download from {self.source} and name the directory"
            )
        return None

    def directory(self, weights_dir: Path | None) -> Path | None:
        """The first directory that has all files (a torch file may be there as .safetensors instead)."""
        for place in _places(weights_dir):
            if all(_variant(place, name) is not None for name in self.files):
                return place
        return None

    def file(self, weights_dir: Path | None) -> Path:
        """The single file of weights. Raises ScoreError when it is absent."""
        place = self.directory(weights_dir)
        found = None if place is None else _variant(place, self.files[0])
        if found is None:
            raise ScoreError(f"no weights {self.files[0]}; download from {self.source} and name the directory")
        return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name out of a safetensors or torch file; no other object is ever built.

    Raises:
        ScoreError: the file cannot be read, or holds something else.
    """
    import torch
    from safetensors.torch import load_file

    try:
        state = load_file(str(path)) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # pickle, zip, struct and key errors of broken or hostile files
        line = " ".join(str(error).split())[:160]
        raise ScoreError(f"weights {path} cannot be read as tensors: {line}; download them again") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ScoreError(f"weights {path} are not tensors by name; download them again")
    return {str(name): value for name, value in state.items()}


def _variant(directory: Path, name: str) -> Path | None:
    stem = Path(name)
    names: Sequence[str] = (str(stem.with_suffix(".safetensors")), name) if stem.suffix in (".pth", ".pt") else (name,)
    return next((directory / each for each in names if (directory / each).exists()), None)


def _places(weights_dir: Path | None) -> list[Path]:
    import torch

    hub = Path(torch.hub.get_dir()) / "checkpoints"
    return [hub] if weights_dir is None else [weights_dir, hub]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False
