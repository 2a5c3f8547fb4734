"""Preconditioning: what a network is fed and how its output becomes a clean estimate, for one noise level a frame.

``noisy = clean + sigma * noise`` throughout; each family of models is a choice of four functions of sigma:
denoised = c_skip(sigma) * noisy + c_out(sigma) * network(c_in(sigma) * noisy, c_noise(sigma)).
Knows no backbone. EDM: Karras et al. 2022, arXiv 2206.00364, table 1. Flow matching: Lipman et al. 2023, arXiv
2210.02747, in sigma space (t = sigma / (1 + sigma)), as Cosmos-Predict2, Wan and LTX are trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Preconditioning(Protocol):
    """Functions of sigma (B,T), each to (B,T)."""

    def c_skip(self, sigma: Tensor) -> Tensor: ...

    def c_out(self, sigma: Tensor) -> Tensor: ...

    def c_in(self, sigma: Tensor) -> Tensor: ...

    def c_noise(self, sigma: Tensor) -> Tensor:
        """What the network is told of the noise level."""
        ...

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """What makes the error of the clean estimate the objective that the family is trained with."""
        ...


@dataclass(frozen=True)
class EDMPreconditioning:
    """For data of standard deviation ``sigma_data`` about its conditional mean.

    ``sign`` -1: the network predicts v as SVD's checkpoints do (with sigma_data 1, v-prediction is EDM with the
    output's sign turned).
    """

    sigma_data: float = 1.0
    sign: float = 1.0

    def c_skip(self, sigma: Tensor) -> Tensor:
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def c_out(self, sigma: Tensor) -> Tensor:
        return self.sign * sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()

    def c_in(self, sigma: Tensor) -> Tensor:
        return 1.0 / (sigma**2 + self.sigma_data**2).sqrt()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """ln(sigma) / 4, as in SVD."""
        return sigma.log() / 4.0

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) = (sigma^2 + sd^2) / (sigma sd)^2: unit loss at initialisation for every sigma."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2


@dataclass(frozen=True)
class FlowPreconditioning:
    """Flow matching on the straight path z_t = (1 - t) clean + t noise; the network predicts noise - clean.

    With t = sigma / (1 + sigma), z_t = noisy / (1 + sigma), so clean = z_t - t * network. ``noise_scale``: what t is
    multiplied by when the network is told of it (Wan and LTX count to 1000, Cosmos-Predict2 to 1).
    """

    noise_scale: float = 1.0

    def c_skip(self, sigma: Tensor) -> Tensor:
        return 1.0 / (1.0 + sigma)

    def c_out(self, sigma: Tensor) -> Tensor:
        return -sigma / (1.0 + sigma)

    def c_in(self, sigma: Tensor) -> Tensor:
        return 1.0 / (1.0 + sigma)

    def c_noise(self, sigma: Tensor) -> Tensor:
        return self.noise_scale * sigma / (1.0 + sigma)

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """1 / t^2: the squared error of the clean estimate becomes that of the velocity."""
        return ((1.0 + sigma) / sigma) ** 2


PRECONDITIONINGS: dict[str, Callable[[float], Preconditioning]] = {
    "edm": EDMPreconditioning,
    "v": lambda sigma_data: EDMPreconditioning(sigma_data, sign=-1.0),
    "flow": lambda sigma_data: FlowPreconditioning(),
    "flow_1000": lambda sigma_data: FlowPreconditioning(noise_scale=1000.0),
}
"""By name: what a configuration may ask for."""
