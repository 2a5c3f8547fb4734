"""Exported graphs behind the contracts of denoiser and autoencoder, so that a world model does not know of them.

Written by ``onnx_export.py``, run by ``onnx_graph.py``. A causal denoiser is one graph of one frame, whose further
inputs and outputs are what it remembers of past frames; whole sequences go through it frame by frame, which is the
same function. Knows no files but names, no sampler and no robot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from egowm_core.diffusion.denoiser import Context, per_frame
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.frame_cache import FrameCache
from egowm_core.models.onnx_graph import Graph
from egowm_core.models.onnx_memory import NEW, StateLayout
from egowm_core.models.stock_autoencoder import VideoAutoencoder

DENOISER, ENCODER, DECODER = "denoiser.onnx", "encoder.onnx", "decoder.onnx"
GRAPHS = ("*.onnx", "*.onnx.data")
"""Patterns of the names of what an export writes beside a checkpoint's own files."""


class OnnxDenoiser:
    """An exported denoiser as :class:`egowm_core.models.adapter.WorldDenoiser`; results are on ``noisy``'s device.

    The number of frames is the one it was exported for (causal ones: any), the batch size is free.
    """

    def __init__(self, config: AdapterConfig, graph: Graph) -> None:
        """``graph`` as ``onnx_export.export_denoiser`` wrote it for a denoiser of this ``config``.

        Raises:
            CheckpointError: a graph of another kind of denoiser.
        """
        self.config = config
        self._graph = graph
        self._layouts = _layouts(graph)
        if config.causal != bool(self._layouts):
            kinds = ("bidirectional", "causal")
            raise CheckpointError(
                f"{graph.name} is of a {kinds[not config.causal]} denoiser, the checkpoint's is "
                f"{kinds[config.causal]}; export it again with egowm-export"
            )

    @property
    def can_cache(self) -> bool:
        """Whether it streams: causal ones do."""
        return self.config.causal

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
        """See :class:`egowm_core.diffusion.denoiser.Denoiser`.

        Raises:
            RolloutError: shapes that do not fit the graph or each other.
            ConfigError: the model is conditioned on the robot's state, and none was given.
        """
        if self.config.causal:
            return self.denoise_next(noisy, sigma, context, action, self.start_stream(context))
        given = {"noisy": noisy, "sigma": sigma, "latents": context.latents, "action": action}
        given |= {"action_known": _known_ticks(context, action), **self._state(context)}
        if "compensated" in self._graph.inputs:
            given |= self._compensated(noisy, context)
        return self._graph(given)["clean"].to(noisy.device)

    def start_stream(self, context: Context) -> FrameCache:
        """See :meth:`egowm_core.models.adapter.BackboneDenoiser.start_stream`."""
        if not self.config.causal:
            raise ConfigError("only a causal model streams frame by frame; train one with `causal: true`")
        frames = context.latents
        cache = FrameCache({layout.name: layout.begin(frames.shape[0]) for layout in self._layouts})
        width = self._graph.inputs["action"][1][-1] if "action" in self._graph.inputs else 0
        nothing = frames.new_zeros(frames.shape[0], frames.shape[1] * self.config.temporal_factor, width)
        before_all = Context(torch.zeros_like(frames[:, :1]), state=context.state)
        self._advance(frames, self._history(frames), before_all, nothing, cache, known=True, commit=True)
        return cache

    def denoise_next(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor, cache: FrameCache) -> Tensor:
        """See :meth:`egowm_core.models.adapter.BackboneDenoiser.denoise_next`."""
        return self._advance(noisy, sigma, context, action, cache.fork(), known=False, commit=False)

    def commit(self, frames: Tensor, context: Context, action: Tensor, cache: FrameCache) -> None:
        """See :meth:`egowm_core.models.adapter.BackboneDenoiser.commit`."""
        self._advance(frames, self._history(frames), context, action, cache, known=False, commit=True)

    def _advance(
        self,
        frames: Tensor,
        sigma: Tensor,
        context: Context,
        action: Tensor,
        cache: FrameCache,
        *,
        known: bool,
        commit: bool,
    ) -> Tensor:
        """One frame after the other, each remembered for the next one, and the last if ``commit``."""
        ticks = self.config.temporal_factor
        history = 1.0 + self.config.history_sigma**2
        fixed = {"known": torch.full((frames.shape[0], 1), known), **self._state(context)}
        before = context.latents[:, -1:]
        per_tick = (action, _known_ticks(context, action))
        estimates = []
        for index in range(frames.shape[1]):
            frame, level = frames[:, index : index + 1], sigma[:, index : index + 1]
            moves, moves_known = (value[:, index * ticks : (index + 1) * ticks] for value in per_tick)
            given = {"noisy": frame, "sigma": level, "latents": before, "action": moves, "action_known": moves_known}
            found = self._graph({**fixed, **given, **cache.states})
            estimates.append(found["clean"])
            if commit or index + 1 < frames.shape[1]:
                cache.commit(_advanced(self._layouts, cache, found), 1)
            # The graph shrinks the frame before as one at history_sigma; a noisier one is to be shrunk more.
            before = frame * per_frame(history / (1.0 + level.square()))
        return torch.cat(estimates, dim=1).to(frames.device)

    def _state(self, context: Context) -> dict[str, Tensor]:
        if "state" not in self._graph.inputs:
            return {}
        if context.state is None:
            raise ConfigError(
                "this model is conditioned on the robot's initial state (Z_s), and none was given; pass the context "
                "with state (B,S)"
            )
        return {"state": context.state}

    def _compensated(self, noisy: Tensor, context: Context) -> dict[str, Tensor]:
        """The compensated context; where it is absent, the plain context, known nowhere."""
        if context.compensated is not None and context.visible is not None:
            return {"compensated": context.compensated, "visible": context.visible}
        _, (_, *shape) = self._graph.inputs["visible"]
        visible = noisy.new_zeros(noisy.shape[0], *shape)
        return {"compensated": context.latents[:, -1:].expand_as(noisy), "visible": visible}

    def _history(self, frames: Tensor) -> Tensor:
        return frames.new_full(frames.shape[:2], self.config.history_sigma)


class OnnxAutoencoder(nn.Module):
    """Exported halves of an autoencoder as :class:`VideoAutoencoder`; a half that has no graph is PyTorch's.

    A module, so that the PyTorch half goes to the device that its user works on.
    """

    def __init__(self, autoencoder: nn.Module, *, encoder: Graph | None = None, decoder: Graph | None = None) -> None:
        """``autoencoder``: the one that was exported, a :class:`VideoAutoencoder`."""
        super().__init__()
        self.autoencoder = autoencoder
        self._encoder, self._decoder = encoder, decoder
        self._layouts = [] if decoder is None else _layouts(decoder)

    @property
    def temporal_factor(self) -> int:
        """See :class:`VideoAutoencoder`."""
        return self._torch.temporal_factor

    @property
    def downscale(self) -> int:
        """See :class:`VideoAutoencoder`."""
        return self._torch.downscale

    @property
    def latent_channels(self) -> int:
        """See :class:`VideoAutoencoder`."""
        return self._torch.latent_channels

    @property
    def can_stream(self) -> bool:
        """Whether :meth:`decode_next` is possible: the decoder is causal."""
        return bool(self._layouts) if self._decoder is not None else bool(getattr(self._torch, "can_stream", False))

    def encode(self, frames: Tensor) -> Tensor:
        """See :class:`VideoAutoencoder`."""
        if self._encoder is None:
            return self._torch.encode(frames)
        return self._encoder({"frames": frames})["latents"].to(frames.device)

    def decode(self, latents: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See :class:`VideoAutoencoder`; a graph's latents are one frame each and need no ``context``."""
        if self._decoder is None:
            return self._torch.decode(latents, context=context)
        return self._decode(latents, FrameCache({item.name: item.begin(latents.shape[0]) for item in self._layouts}))

    def start_stream(self) -> Any:
        """A cache for :meth:`decode_next`.

        Raises:
            ConfigError: the decoder is not causal.
        """
        if not self.can_stream:
            raise ConfigError("only a causal decoder decodes frame by frame; train one with `vae: {causal: true}`")
        return FrameCache() if self._decoder is not None else cast(Any, self.autoencoder).start_stream()

    def decode_next(self, latents: Tensor, cache: Any) -> Tensor:
        """The next frames of a stream (B,n,C,h,w) -> (B,n,3,H,W), as :meth:`decode` would give them in the whole."""
        if self._decoder is None:
            frames: Tensor = cast(Any, self.autoencoder).decode_next(latents, cache)
            return frames
        if not cache.states:
            cache.commit({item.name: item.begin(latents.shape[0]) for item in self._layouts}, 0)
        return self._decode(latents, cache)

    @property
    def _torch(self) -> VideoAutoencoder:
        return cast(VideoAutoencoder, self.autoencoder)

    def _decode(self, latents: Tensor, cache: FrameCache) -> Tensor:
        assert self._decoder is not None
        found = self._decoder({"latents": latents, **cache.states})
        cache.commit(_advanced(self._layouts, cache, found), latents.shape[1])
        return found["frames"].to(latents.device)


def _layouts(graph: Graph) -> list[StateLayout]:
    try:
        return [StateLayout(**{**item, "shape": tuple(item["shape"])}) for item in graph.metadata["states"]]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{graph.name}: its metadata describe no states ({error}); export it again with egowm-export"
        ) from error


def _advanced(layouts: list[StateLayout], cache: FrameCache, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {item.name: item.advance(cache.states[item.name], found[NEW + item.name]) for item in layouts}


def _known_ticks(context: Context, action: Tensor) -> Tensor:
    """``action_known`` for each tick (B,T), also where it is given per latent frame or not at all."""
    known = context.action_known
    if known is None:
        return torch.ones(action.shape[:2], dtype=torch.bool)
    return known.repeat_interleave(action.shape[1] // known.shape[1], dim=1)
