"""An exported graph in an onnxruntime session: tensors by name in, tensors by name out.

The place that knows onnxruntime: execution providers by short names, never exchanged for another one in silence. Arrays
pass through the processor's memory, whichever provider computes. Knows no denoiser and no autoencoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egowm_core.errors import CheckpointError, ConfigError, RolloutError
from egowm_core.schema import nearest

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Short names to onnxruntime's."""
METADATA = "egowm"
"""Key under which an exported graph carries what else there is to know of it, as JSON."""

_GPU = "replace the package onnxruntime by onnxruntime-gpu (pip install 'egowm[gpu]') and install"
_REMEDIES = {
    "cpu": "install it with: pip install 'egowm[onnx]'",
    "cuda": f"{_GPU} CUDA and cuDNN",
    "tensorrt": f"{_GPU} CUDA and the TensorRT libraries",
}
_TYPES = {"tensor(float)": torch.float32, "tensor(bool)": torch.bool}


class Graph:
    """One graph file, ready to run. Not thread-safe in what it returns: one caller at a time.

    Args:
        file: the graph; external data lies beside it.
        provider: one of ``PROVIDERS``.
        threads: of one operator on the processor; None for as many as PyTorch uses.

    Raises:
        ConfigError: onnxruntime is not installed, or an unknown provider.
        CheckpointError: onnxruntime does not offer the provider or cannot start it, or the file is no usable graph.
    """

    def __init__(self, file: Path, *, provider: str = "cpu", threads: int | None = None) -> None:
        onnxruntime = _onnxruntime()
        wanted = _offered(provider, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        try:  # without ``enable_fallback=0`` a failing provider is replaced, on loading or later
            session = onnxruntime.InferenceSession(str(file), options, providers=wanted, enable_fallback=0)
        except Exception as error:  # onnxruntime's own classes, of no common root
            raise CheckpointError(
                f"{file}: onnxruntime cannot load it on provider {provider!r} ({error}); export it again with "
                f"egowm-export, or {_REMEDIES[provider]}"
            ) from error
        running = session.get_providers()
        if running[0] != wanted[0]:
            raise CheckpointError(
                f"provider {provider!r} did not start, onnxruntime would run {file.name} on {running[0]}; "
                f"{_REMEDIES[provider]}"
            )
        self.name = file.name
        self.inputs = {item.name: (_type(file, item.type), item.shape) for item in session.get_inputs()}
        self.outputs = [item.name for item in session.get_outputs()]
        self.metadata: dict[str, Any] = _metadata(file, session.get_modelmeta().custom_metadata_map)
        self._session = session

    def __call__(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Evaluate the graph; ``given`` may hold more than its inputs. Outputs are on the processor.

        Raises:
            RolloutError: an input is missing, or shapes do not fit the graph or each other.
        """
        sizes: dict[str, int] = {}
        arrays = {}
        for name, (dtype, shape) in self.inputs.items():
            if name not in given:
                raise RolloutError(f"{self.name} wants the input {name!r} {tuple(shape)}, which was not given")
            value = given[name]
            fits = len(shape) == value.ndim and all(
                size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
                for axis, size in zip(shape, value.shape, strict=True)
            )
            if not fits:
                raise RolloutError(
                    f"{self.name}: {name} has shape {tuple(value.shape)}, the graph was exported for {tuple(shape)}"
                    f"{f' with {sizes}' if sizes else ''}; give it that, or use the torch engine"
                )
            arrays[name] = value.detach().to("cpu", dtype).contiguous().numpy()
        return dict(zip(self.outputs, map(torch.from_numpy, self._session.run(None, arrays)), strict=True))


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"onnxruntime is not installed ({error}); {_REMEDIES['cpu']}, or with a GPU: pip install 'egowm[gpu]'"
        ) from error
    return onnxruntime


def _offered(provider: str, available: list[str]) -> list[str]:
    """onnxruntime's names, the provider first and then what may compute the rest of a graph."""
    if provider not in PROVIDERS:
        raise ConfigError(
            f"unknown provider {provider!r}{nearest(provider, PROVIDERS)}; there are: {', '.join(PROVIDERS)}"
        )
    wanted = PROVIDERS[provider]
    if wanted not in available:
        raise CheckpointError(
            f"provider {provider!r}: the installed onnxruntime has no {wanted}, only {', '.join(available)}; "
            f"{_REMEDIES[provider]}"
        )
    rest = [PROVIDERS["cuda"]] if provider == "tensorrt" and PROVIDERS["cuda"] in available else []
    return [wanted, *rest]


def _type(file: Path, name: str) -> torch.dtype:
    if name not in _TYPES:
        raise CheckpointError(
            f"{file}: an input is a {name}, expected one of {list(_TYPES)}; export it with egowm-export"
        )
    return _TYPES[name]


def _metadata(file: Path, values: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(values[METADATA])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{file}: not a graph of egowm ({METADATA} in its metadata: {error}); use egowm-export"
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: its metadata {METADATA} is no mapping; export it again with egowm-export")
    return found
