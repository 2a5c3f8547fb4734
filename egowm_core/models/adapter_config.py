"""What the configuration of every backbone says: latents, context, conditional mean, causality; no architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from egowm_core.diffusion.preconditioning import PRECONDITIONINGS
from egowm_core.errors import ConfigError
from egowm_core.schema import nearest

COORDINATE_CHANNELS = 2  # column and row of each latent cell
VISIBLE_CHANNELS = 2  # see Context.visible


@dataclass(frozen=True)
class AdapterConfig(ABC):
    """Everything about a world model's denoiser but the architecture of its backbone."""

    latent_channels: int = 16
    latent_height: int = 12
    latent_width: int = 16
    context_frames: int = 1
    horizon: int = 8  # latent frames that one chunk predicts
    temporal_factor: int = 1  # camera frames that a latent frame stands for; actions come per camera frame
    context_as_channels: bool = True  # the context frames beside the noisy latents, as SVD does with its image
    context_as_frames: bool = False  # the context frames before the future, nearly noiseless, as Cosmos does
    context_scale: float = 1.0  # of those channels; SVD's image latents are its scaled ones over 0.18215
    coordinates: bool = True  # tell the network where each latent cell is
    context_warp: bool = False  # the geometrically compensated context as a further input and the conditional mean
    residual: bool = True  # denoise the difference to the conditional mean: the context, or the compensated context
    preconditioning: str = "edm"  # see PRECONDITIONINGS
    sigma_data: float = 1.0
    history_sigma: float = 0.02  # the noise level that context frames in time are said to have
    context_token: bool = True  # the mean of the context as the cross-attention token; otherwise constant tokens
    num_tokens: int = 1  # of those, such as a pretrained backbone's empty prompt
    causal: bool = False  # Vid2World: no frame sees a later one, and what a frame is denoised about is the one before
    transfer: str = "extrapolative"  # how weights of a bidirectional model become causal, see causal.TRANSFERS
    window: int = 0  # frames that a causal model's temporal attention sees; 0: context_frames + horizon
    passive: bool = False  # a video model without actions
    action: dict[str, Any] = field(default_factory=dict)  # see action_encoder.ActionEncoderConfig
    stock: dict[str, Any] = field(
        default_factory=dict
    )  # configuration of a pretrained stock module, instead of our own

    def __post_init__(self) -> None:
        if self.preconditioning not in PRECONDITIONINGS:
            hint = nearest(self.preconditioning, PRECONDITIONINGS)
            raise ConfigError(
                f"denoiser: preconditioning {self.preconditioning!r}{hint}; there are: {', '.join(PRECONDITIONINGS)}"
            )
        if min(self.context_frames, self.horizon, self.temporal_factor, self.num_tokens) < 1:
            raise ConfigError(
                f"denoiser: context_frames {self.context_frames}, horizon {self.horizon}, temporal_factor "
                f"{self.temporal_factor} and num_tokens {self.num_tokens} must be at least 1"
            )
        if not (self.context_as_channels or self.context_as_frames or self.causal):
            raise ConfigError(
                "denoiser: the context must enter somehow; set context_as_channels or context_as_frames, or causal"
            )
        if self.causal and self.context_warp:
            raise ConfigError("denoiser: a causal model takes no context_warp (its context moves on); set it to false")
        if self.window < 0 or (self.window and not self.causal):
            raise ConfigError(f"denoiser: window {self.window} is for causal models only; leave it 0")

    @property
    def input_channels(self) -> int:
        """Channels of a frame that the network is given (masks not counted)."""
        channels = self.latent_channels
        if self.context_as_channels:
            channels += self.latent_channels * (1 if self.causal else self.context_frames)
        if self.coordinates:
            channels += COORDINATE_CHANNELS
        if self.context_warp:
            channels += self.latent_channels + VISIBLE_CHANNELS
        return channels

    @property
    @abstractmethod
    def token_dim(self) -> int:
        """Width of the backbone's cross-attention tokens."""

    @property
    def camera_context_frames(self) -> int:
        """Camera frames that make the context's latents: the first latent stands for one frame."""
        return 1 + (self.context_frames - 1) * self.temporal_factor

    @property
    def camera_horizon(self) -> int:
        """Camera frames that one chunk predicts."""
        return self.horizon * self.temporal_factor

    @property
    def attention_window(self) -> int:
        """Frames that a causal model's temporal attention sees, the current one included."""
        return self.window or self.context_frames + self.horizon
