"""Pretrained backbones, opened from diffusers' layout: denoiser, autoencoder, scheduler configuration, null tokens.

Which folder and class each backbone needs is the table ``LAYOUTS``. The models it was made for:

    svd     stabilityai/stable-video-diffusion-img2vid      UNet, 8 input channels: noisy latents and the context's
    cosmos  nvidia/Cosmos-Predict2-2B-Video2World           DiT, 17: latents and the condition mask (gated)
    wan     Wan-AI/Wan2.2-TI2V-5B-Diffusers                 DiT, 48: latents, one noise level per token
    ltx     Lightricks/LTX-Video                            DiT, 128: latents, packed

Knows nothing of actions, robots or sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    CosmosTransformer3DModel,
    LTXVideoTransformer3DModel,
    UNetSpatioTemporalConditionModel,
    WanTransformer3DModel,
)
from torch import Tensor, nn

from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder, LTXVideoAutoencoder, WanVideoAutoencoder
from egowm_core.models.components import component_config, load_component, read_json
from egowm_core.models.cosmos import provide_padding_mask_resize
from egowm_core.models.hub import local_directory
from egowm_core.models.null_prompt import TEXT_FOLDERS, empty_prompt_tokens
from egowm_core.models.stock_autoencoder import StockAutoencoder
from egowm_core.schema import nearest

__all__ = ["LAYOUTS", "Layout", "Pretrained", "load_component", "open_pretrained"]

TEXTS = ("empty_prompt", "zeros")


@dataclass(frozen=True)
class Layout:
    """Where a backbone's parts are in a diffusers directory, and what they must be."""

    example: str  # a hub id that is laid out so
    folder: str  # of the denoiser
    denoiser: type[Any]
    autoencoder: type[Any]
    wrapper: type[StockAutoencoder]
    token_width: str  # the denoiser's configuration field with the width of a token
    text_encoder: str | None = None  # class in transformers; None: not a text model
    prompt_length: int = 0  # tokens that the stock pipeline pads a prompt to
    prompt_masked: bool = False  # whether the denoiser is told which tokens are padding


LAYOUTS = {
    "svd": Layout(
        example="stabilityai/stable-video-diffusion-img2vid",
        folder="unet",
        denoiser=UNetSpatioTemporalConditionModel,
        autoencoder=AutoencoderKLTemporalDecoder,
        wrapper=KLTemporalVideoAutoencoder,
        token_width="cross_attention_dim",
    ),
    "cosmos": Layout(
        example="nvidia/Cosmos-Predict2-2B-Video2World",
        folder="transformer",
        denoiser=CosmosTransformer3DModel,
        autoencoder=AutoencoderKLWan,
        wrapper=WanVideoAutoencoder,
        token_width="text_embed_dim",
        text_encoder="T5EncoderModel",
        prompt_length=512,
    ),
    "wan": Layout(
        example="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        folder="transformer",
        denoiser=WanTransformer3DModel,
        autoencoder=AutoencoderKLWan,
        wrapper=WanVideoAutoencoder,
        token_width="text_dim",
        text_encoder="UMT5EncoderModel",
        prompt_length=512,
    ),
    "ltx": Layout(
        example="Lightricks/LTX-Video",
        folder="transformer",
        denoiser=LTXVideoTransformer3DModel,
        autoencoder=AutoencoderKLLTXVideo,
        wrapper=LTXVideoAutoencoder,
        token_width="caption_channels",
        text_encoder="T5EncoderModel",
        prompt_length=128,
        prompt_masked=True,
    ),
}


@dataclass(frozen=True)
class Pretrained:
    """A backbone as its authors released it, in evaluation mode."""

    backbone: str
    network: nn.Module  # the stock denoiser
    autoencoder: StockAutoencoder
    scheduler_config: dict[str, Any]
    null_tokens: Tensor  # (1,M,X): what the denoiser's cross-attention is given where there is no prompt
    resolved_revision: str | None  # commit hash on the hub; None for a directory


def open_pretrained(
    source: str | Path,
    *,
    backbone: str,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    from_scratch: bool = False,
    autoencoder_from_scratch: bool | None = None,
    text: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Pretrained:
    """Open the backbone in ``source``: a directory in diffusers' layout, or a hub id ``org/name[@revision]``.

    ``from_scratch`` reads configurations alone and draws weights from torch's global generator: the ablation without
    pretraining; ``autoencoder_from_scratch=False`` then still loads the autoencoder. ``text`` is where ``null_tokens``
    come from: "empty_prompt" encodes "" with its own text encoder, "zeros" is one token of zeros (for SVD, whose
    token is an image embedding, the only choice, and what its classifier-free guidance drops to). None: the empty
    prompt for text models, but zeros from scratch.

    Raises:
        CheckpointError: parts are missing, of another class or incomplete, weights are only pickled, or the hub said
            no (see :func:`egowm_core.models.hub.local_directory`).
        ConfigError: an unknown backbone or ``text``, or transformers is needed and not installed.
    """
    if backbone not in LAYOUTS:
        raise ConfigError(
            f"backbone {backbone!r} has no pretrained layout{nearest(backbone, LAYOUTS)}; known: {', '.join(LAYOUTS)}"
        )
    layout = LAYOUTS[backbone]
    text = _checked_text(text, backbone, layout, from_scratch)
    scratch_autoencoder = from_scratch if autoencoder_from_scratch is None else autoencoder_from_scratch
    files = ["model_index.json", f"{layout.folder}/config.json", "vae/config.json", "scheduler/*.json"]
    files += [] if from_scratch else _weight_files(layout.folder)
    files += [] if scratch_autoencoder else _weight_files("vae")
    if text == "empty_prompt":
        files += [*_weight_files("text_encoder"), "text_encoder/*.json", "tokenizer/*"]
    directory, commit = local_directory(
        source,
        files=files,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
    )
    _check_index(directory, backbone, layout)
    component_config(directory / "vae", layout.autoencoder)  # before the long read of the denoiser
    scheduler = read_json(directory / "scheduler" / "scheduler_config.json", "the scheduler's configuration")
    network = load_component(
        directory, layout.denoiser, subfolder=layout.folder, dtype=dtype, from_scratch=from_scratch
    )
    autoencoder = load_component(
        directory,
        layout.autoencoder,
        subfolder="vae",
        dtype=_autoencoder_dtype(directory, layout, dtype),
        from_scratch=scratch_autoencoder,
    )
    if backbone == "cosmos" and network.config.concat_padding_mask:
        provide_padding_mask_resize()
    width = _token_width(network, layout)
    tokens = torch.zeros(1, 1, width, dtype=dtype)
    if text == "empty_prompt":
        tokens = empty_prompt_tokens(
            directory,
            encoder_class=str(layout.text_encoder),
            length=layout.prompt_length,
            masked=layout.prompt_masked,
            dtype=dtype,
        )
        if tokens.shape[-1] != width:
            raise CheckpointError(
                f"{directory / TEXT_FOLDERS[0]} makes tokens {tokens.shape[-1]} wide, {layout.folder} takes {width}: "
                "they are of different models: get the model again, or use text='zeros'"
            )
    return Pretrained(backbone, network, layout.wrapper(autoencoder), scheduler, tokens, commit)


def _checked_text(text: str | None, backbone: str, layout: Layout, from_scratch: bool) -> str:
    if text is None:
        return "zeros" if layout.text_encoder is None or from_scratch else "empty_prompt"
    if text not in TEXTS:
        raise ConfigError(f"text is {text!r}{nearest(text, TEXTS)}; expected one of {', '.join(TEXTS)}")
    if text == "empty_prompt" and layout.text_encoder is None:
        raise ConfigError(f"backbone {backbone!r} takes no prompt, so text cannot be {text!r}; use text='zeros'")
    return text


def _weight_files(folder: str) -> list[str]:
    return [f"{folder}/*.safetensors", f"{folder}/*.safetensors.index.json"]


def _check_index(directory: Path, backbone: str, layout: Layout) -> None:
    """Refuse what is not this backbone by what the directory says of itself, before anything large is read."""
    index = read_json(directory / "model_index.json", "the index of a diffusers pipeline")
    for folder, kind in ((layout.folder, layout.denoiser), ("vae", layout.autoencoder)):
        entry = index.get(folder)
        found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        if found != kind.__name__:
            raise CheckpointError(
                f"{directory} is a {index.get('_class_name')} whose {folder!r} is {found}; backbone {backbone!r} "
                f"expects {kind.__name__}, as in {layout.example}: give another model or backbone"
            )
    if (index.get("transformer_2") or [None])[0] is not None:
        raise CheckpointError(
            f"{directory} has two denoisers (transformer and transformer_2, each for some noise levels), which is not "
            f"supported; give a model with one, such as {layout.example}"
        )


def _token_width(network: Any, layout: Layout) -> int:
    width = network.config[layout.token_width]
    return int(width[0] if isinstance(width, (list, tuple)) else width)


def _autoencoder_dtype(directory: Path, layout: Layout, dtype: torch.dtype) -> torch.dtype:
    """SVD's autoencoder overflows in float16 and says so in its configuration."""
    upcast = component_config(directory / "vae", layout.autoencoder).get("force_upcast", False)
    return torch.float32 if upcast and dtype == torch.float16 else dtype
