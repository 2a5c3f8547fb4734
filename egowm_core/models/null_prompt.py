"""The tokens of the empty prompt, as a backbone's own text encoder and pipeline make them.

A world model that follows actions needs no text, but a text-to-video backbone expects its cross-attention to find what
"" gives. Encoded once; the text encoder (the largest part of some checkpoints) is not kept. Knows no denoiser.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.components import require_safetensors

TEXT_FOLDERS = ("text_encoder", "tokenizer")
_REMEDY = "or use text='zeros': tokens of zeros, which need no text encoder"


def empty_prompt_tokens(
    directory: Path, *, encoder_class: str, length: int, masked: bool, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Tokens (1,M,X) of "" from ``text_encoder`` and ``tokenizer`` in ``directory``.

    ``length`` is the number of tokens that the pipeline pads to. ``masked``: its denoiser is told which of them are
    real (LTX), so that only those are returned; otherwise (Wan, Cosmos) the padding is zeros that are attended to.

    Raises:
        CheckpointError: a folder is missing or cannot be read.
        ConfigError: transformers is not installed.
    """
    for name in TEXT_FOLDERS:
        if not (directory / name).is_dir():
            raise CheckpointError(
                f"{directory} has no folder {name!r}, which the empty prompt needs; add it, {_REMEDY}"
            )
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise ConfigError(f"the empty prompt needs transformers: pip install transformers, {_REMEDY}") from error
    require_safetensors(directory / "text_encoder", "model.safetensors")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory / "tokenizer", local_files_only=True)
        encoder = getattr(transformers, encoder_class).from_pretrained(
            directory / "text_encoder", dtype=dtype, use_safetensors=True, local_files_only=True
        )
        return _encode(tokenizer, encoder.eval(), length, masked).to(dtype)
    except (
        Exception
    ) as error:  # whatever transformers raises on files that do not fit, or on a missing tokenizer library
        raise CheckpointError(
            f"{directory}: the empty prompt cannot be encoded by its {encoder_class} ({error}); get it again, {_REMEDY}"
        ) from error


@torch.no_grad()
def _encode(tokenizer: Any, encoder: Any, length: int, masked: bool) -> Tensor:
    inputs = tokenizer([""], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    real = int(inputs.attention_mask.sum())
    if masked:  # as LTX: the encoder sees the padding, the denoiser does not
        tokens: Tensor = encoder(inputs.input_ids).last_hidden_state
        return tokens[:, : max(real, 1)]
    tokens = encoder(inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state
    tokens[:, real:] = 0
    return tokens
