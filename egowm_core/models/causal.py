"""Causalisation of SVD's UNet and of its temporal decoder: surgery on stock diffusers modules, in place.

Vid2World (arXiv 2505.14357) turns a bidirectional video model into one that computes frame t from frames <= t. Five
things mix frames in these networks (tried one by one; all must go before nothing leaks):

1. temporal convolutions, (3,1,1) and symmetric: padded in the past only, weights moved by a *transfer*;
2. GroupNorm over (C,T,H,W) in temporal residual blocks: statistics per frame. This one changes the pretrained function
   and wants fine-tuning;
3. temporal self-attention: a band mask of ``window`` frames (``causal_attention.py``);
4. the embedding of the frame's index: index 0 for every frame, so that a stream has no origin;
5. temporal cross-attention reads the first frame's tokens. Not touched: the tokens are the same for all frames here
   (the UNet repeats them), and must stay so during a stream.

Not touched because they are per frame or elementwise: spatial convolutions, norms and attention (frames lie on the
batch axis) and the blending of spatial and temporal branches (``time_mixer``). Parameters keep their names and shapes.
Knows nothing of actions, noise levels or training.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.resnet import TemporalResnetBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn
from torch.nn import functional

from egowm_core.errors import ConfigError
from egowm_core.models.causal_attention import CausalSelfAttention, claim, refuse_if_causal
from egowm_core.models.frame_cache import CausalControl
from egowm_core.schema import nearest

TRANSFERS = ("shift", "masked", "hold", "extrapolative")
"""How the weights of a symmetric temporal kernel become a causal one: see :func:`transfer_kernel`."""

_PAST_FRAMES = 2  # that a causal kernel of three reaches back


def transfer_kernel(weight: Tensor, transfer: str) -> Tensor:
    """Kernel (O,I,3,1,1) over frames (t-1, t, t+1) -> kernel over (t-2, t-1, t), same shape.

    With [w0, w1, w2] = past, present, future:
    ``shift`` [w0, w1, w2]: the kernel as it is, one frame late;
    ``masked`` [0, w0, w1]: the future counts as zero;
    ``hold`` [0, w0, w1 + w2]: the future as the present, exact on signals constant in time;
    ``extrapolative`` [0, w0 - w2, w1 + 2 w2]: the future as 2 x_t - x_{t-1}, exact on signals linear in time.
    At the first frame, whose past is zeros, none is exact.

    Raises:
        ConfigError: unknown transfer; the nearest name is given.
    """
    if transfer not in TRANSFERS:
        raise ConfigError(f"unknown transfer {transfer!r}{nearest(transfer, TRANSFERS)}; there are: {TRANSFERS}")
    past, present, future = weight.unbind(dim=2)
    nothing = torch.zeros_like(past)
    taps = {
        "shift": (past, present, future),
        "masked": (nothing, past, present),
        "hold": (nothing, past, present + future),
        "extrapolative": (nothing, past - future, present + 2 * future),
    }
    return torch.stack(taps[transfer], dim=2)


class CausalConv3d(nn.Conv3d):
    """A (3,1,1) convolution over (B,C,T,H,W) that sees the two frames before, out of the cache while one is active.

    Takes over the parameters of ``stock``, whose weight is transformed in place.
    """

    def __init__(self, stock: nn.Conv3d, *, transfer: str, control: CausalControl, key: str) -> None:
        super().__init__(  # on meta: nothing is allocated or drawn, the parameters come from ``stock``
            stock.in_channels, stock.out_channels, (3, 1, 1), bias=stock.bias is not None, device="meta"
        )
        with torch.no_grad():
            stock.weight.copy_(transfer_kernel(stock.weight, transfer))
        self.weight, self.bias = stock.weight, stock.bias
        self.control = control
        self.key = key
        self.train(stock.training)

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it
        """(B,C,T,H,W), T new frames -> (B,O,T,H,W)."""
        frames = self.control.extend(self.key, input, dim=2, keep=_PAST_FRAMES)
        missing = input.shape[2] + _PAST_FRAMES - frames.shape[2]  # before the beginning of the stream
        return super().forward(functional.pad(frames, (0, 0, 0, 0, missing, 0)))


class PerFrameGroupNorm(nn.GroupNorm):
    """GroupNorm of (B,C,T,H,W) with the statistics of each frame; takes over the parameters of ``stock``."""

    def __init__(self, stock: nn.GroupNorm) -> None:
        super().__init__(stock.num_groups, stock.num_channels, stock.eps, stock.affine, device="meta")
        self.weight, self.bias = stock.weight, stock.bias
        self.train(stock.training)

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it
        """Same shape out."""
        frames = input.transpose(1, 2)
        normalised = super().forward(frames.flatten(0, 1))
        return torch.unflatten(normalised, 0, frames.shape[:2]).transpose(1, 2)


def causalise_unet(unet: UNetSpatioTemporalConditionModel, *, transfer: str, window: int) -> CausalControl:
    """Make ``unet`` causal over frames, in place; ``window`` frames of temporal attention, ``transfer`` for kernels.

    Load non-causal weights before, causal ones after. Calling it twice is refused, for weights would be transferred
    twice.

    Raises:
        ConfigError: unknown transfer, ``window`` < 1, already causal, or a temporal convolution of another shape.
    """
    control = CausalControl(window)
    _causalise_residual_blocks(unet, transfer, control)
    for name, module in unet.named_modules():
        if isinstance(module, TemporalBasicTransformerBlock):
            module.attn1.set_processor(CausalSelfAttention(control, f"{name}.attn1"))
        elif isinstance(module, TransformerSpatioTemporalModel):
            module.time_proj.register_forward_pre_hook(first_frame_index)
    return control


def causalise_decoder(vae: AutoencoderKLTemporalDecoder, *, transfer: str) -> CausalControl:
    """Make ``vae.decoder`` causal over frames, in place: frame t depends on latents <= t only.

    It has no temporal attention, so no window. Streams by ``vae.decode(new_latents, num_frames=new)`` inside the
    control's ``streaming``. The encoder works on single frames and is not touched. Calling it twice is refused.

    Raises:
        ConfigError: unknown transfer, already causal, or a temporal convolution of another shape.
    """
    control = CausalControl(window=1)
    _causalise_residual_blocks(vae.decoder, transfer, control)
    return control


def first_frame_index(time_proj: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Hook on the projection of frame indices: every frame is frame 0."""
    return (torch.zeros_like(args[0]),)


def _causalise_residual_blocks(network: nn.Module, transfer: str, control: CausalControl) -> None:
    """Convolutions and norms; everything is checked before anything is changed."""
    refuse_if_causal(network)
    transfer_kernel(torch.zeros(1, 1, 3, 1, 1), transfer)
    convolutions = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv3d) and module.kernel_size[0] != 1
    }
    for name, stock in convolutions.items():
        layout = (stock.kernel_size, stock.stride, stock.padding, stock.dilation, stock.groups)
        if layout != ((3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1), 1):
            raise ConfigError(
                f"the temporal convolution {name!r} has (kernel, stride, padding, dilation, groups) {layout}; only "
                "kernels of (3, 1, 1), padded to keep the number of frames, can be made causal"
            )
    claim(network, control)
    for name, stock in convolutions.items():
        network.set_submodule(name, CausalConv3d(stock, transfer=transfer, control=control, key=name))
    for module in list(network.modules()):
        if isinstance(module, TemporalResnetBlock):
            module.norm1, module.norm2 = PerFrameGroupNorm(module.norm1), PerFrameGroupNorm(module.norm2)
