"""The stock pipelines as work that announces its stages, at the setting that latencies are published at.

SVD: diffusers' own ``StableVideoDiffusionPipeline``, untouched; its progress bar says where denoising begins and ends.

Cosmos-Predict2: diffusers' ``Cosmos2VideoToWorldPipeline`` cannot be made without the package cosmos_guardrail, which
is not a dependency here, so :func:`cosmos_work` calls the same stock modules in the sequence that is published: the
picture, repeated to the length of the clip, is encoded; each step of ``FlowMatchEulerDiscreteScheduler`` evaluates the
transformer with the prompt and with the negative prompt, the context frame held fixed; all latents are decoded. Left
out, all in the stock pipeline's favour: the text encoder (both prompts come encoded) and the guardrails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egowm_core.bench.build import Parts
from egowm_core.bench.configs import Setting
from egowm_core.bench.timing import Mark, Work
from egowm_core.errors import ConfigError
from egowm_core.models.autoencoders import WanVideoAutoencoder
from egowm_core.models.cosmos import provide_padding_mask_resize

_CONDITION_SIGMA = 1e-4  # the noise level that the pipeline says the context frame has


def stock_work(setting: Setting, parts: Parts, *, num_denoising_steps: int | None = None) -> Work:
    """The stock pipeline with its own guidance; ``num_denoising_steps`` None: as many as published.

    Raises:
        ConfigError: transformers is needed and not installed.
    """
    steps = num_denoising_steps or setting.stock_denoising_steps
    return (svd_work if setting.backbone == "svd" else cosmos_work)(setting, parts, steps)


def svd_work(setting: Setting, parts: Parts, num_denoising_steps: int) -> Work:
    """One call of ``StableVideoDiffusionPipeline`` on a PIL picture, frames out as a numpy array."""
    try:
        from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
        from PIL import Image
        from transformers import CLIPImageProcessor
    except (ImportError, RuntimeError) as error:  # diffusers raises the latter for a part that cannot be imported
        raise ConfigError("the stock pipeline of svd needs transformers: pip install transformers pillow") from error
    pipeline = StableVideoDiffusionPipeline(
        vae=parts.autoencoder,
        image_encoder=parts.image_encoder,
        unet=parts.denoiser,
        scheduler=EulerDiscreteScheduler(**setting.scheduler),
        feature_extractor=CLIPImageProcessor(),
    )
    image = Image.fromarray(_picture(setting))

    def work(mark: Mark) -> None:
        mark("encode")
        pipeline.progress_bar = _boundaries(mark)
        pipeline(
            image,
            height=setting.height,
            width=setting.width,
            num_frames=setting.horizon,
            num_inference_steps=num_denoising_steps,
            max_guidance_scale=setting.stock_guidance_scale,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        )

    return work


def cosmos_work(setting: Setting, parts: Parts, num_denoising_steps: int) -> Work:
    """The sequence of calls that the module's docstring describes."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(**setting.scheduler)
    scheduler.register_to_config(sigma_max=80.0, sigma_min=0.002, sigma_data=1.0, final_sigmas_type="sigma_min")
    provide_padding_mask_resize()
    latents_of = WanVideoAutoencoder(parts.autoencoder)
    device, dtype = parts.denoiser.device, parts.denoiser.dtype
    width = int(setting.stock["text_embed_dim"])
    prompts = [torch.zeros(1, setting.prompt_tokens, width, device=device, dtype=dtype) for _ in range(2)]
    picture = torch.from_numpy(_picture(setting))

    @torch.no_grad()
    def work(mark: Mark) -> None:
        mark("encode")
        frame = picture.to(device).permute(2, 0, 1).float() / 127.5 - 1.0
        clip = frame.expand(1, 1 + setting.horizon, -1, -1, -1)
        known = latents_of.encode(clip).transpose(1, 2)  # (1,C,T,h,w), as the transformer has it
        condition = _Condition(known)
        scheduler.set_timesteps(sigmas=torch.linspace(0, 1, num_denoising_steps, dtype=torch.float64), device=device)
        scheduler.sigmas[-1] = scheduler.sigmas[-2]
        noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(0))
        latents = noise.to(device) * scheduler.config.sigma_max
        padding = latents.new_zeros(1, 1, setting.height, setting.width, dtype=dtype)
        mark("denoise")
        for index, timestep in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[index]
            clean, negative = (condition.denoise(parts.denoiser, latents, sigma, prompt, padding) for prompt in prompts)
            guided = clean + setting.stock_guidance_scale * (clean - negative)
            latents = scheduler.step((latents - guided) / sigma, timestep, latents, return_dict=False)[0]
        mark("decode")
        frames = latents_of.decode(latents.transpose(1, 2))
        frames.float().clamp(-1, 1).add(1).div(2).cpu().numpy()

    return work


class _Condition:
    """The first latent frame, held at ``known`` (1,C,T,h,w), and the transformer's estimate of the others."""

    def __init__(self, known: Tensor) -> None:
        self._known = known
        self._fixed = torch.zeros_like(known[:, :1])
        self._fixed[:, :, :1] = 1.0

    def denoise(self, transformer: Any, latents: Tensor, sigma: Tensor, prompt: Tensor, padding: Tensor) -> Tensor:
        """Clean estimate (1,C,T,h,w) of ``latents`` at noise level ``sigma``; flow at t = sigma / (1 + sigma)."""
        level = (sigma / (1 + sigma)).to(latents)
        known_level = _CONDITION_SIGMA / (1 + _CONDITION_SIGMA)
        per_frame = self._fixed[..., :1, :1]
        predicted = transformer(
            self._hold((1 - level) * latents).to(prompt.dtype),
            (per_frame * known_level + (1 - per_frame) * level).to(prompt.dtype),
            prompt,
            fps=16,
            condition_mask=self._fixed.to(prompt.dtype),
            padding_mask=padding,
            return_dict=False,
        )[0]
        return self._hold((1 - level) * latents - level * predicted.float())

    def _hold(self, latents: Tensor) -> Tensor:
        return self._fixed * self._known + (1 - self._fixed) * latents


def _boundaries(mark: Mark) -> Any:
    """In place of a pipeline's ``progress_bar``, which spans its denoising loop and nothing else."""

    @contextmanager
    def progress_bar(*args: Any, **kwargs: Any) -> Iterator[SimpleNamespace]:
        mark("denoise")
        yield SimpleNamespace(update=lambda *count: None)
        mark("decode")

    return progress_bar


def _picture(setting: Setting) -> Any:
    shape = (setting.height, setting.width, 3)
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
