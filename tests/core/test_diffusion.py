"""Samplers and noise levels against a denoiser whose answer is known in closed form."""

from __future__ import annotations

import pytest
import torch
from diffusers import CMStochasticIterativeScheduler

from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.guidance import guide
from egowm_core.diffusion.losses import denoising_loss
from egowm_core.diffusion.preconditioning import PRECONDITIONINGS, EDMPreconditioning, FlowPreconditioning
from egowm_core.diffusion.samplers import SAMPLERS, sample_consistency, sample_euler, sample_heun
from egowm_core.diffusion.sigmas import karras_sigmas, lognormal_sigmas

_MEAN, _STD = 0.7, 0.5


def gaussian_denoiser(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The optimal denoiser of data from N(_MEAN, _STD^2)."""
    variance = sigma[:, :, None, None, None] ** 2
    return (noisy * _STD**2 + _MEAN * variance) / (_STD**2 + variance)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_samplers_draw_from_the_data_distribution(name: str) -> None:
    sigmas = karras_sigmas(60, sigma_min=0.01, sigma_max=20.0)
    noise = torch.randn(64, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    drawn = SAMPLERS[name](gaussian_denoiser, noise, sigmas)
    assert drawn.mean().item() == pytest.approx(_MEAN, abs=0.03)
    assert drawn.std().item() == pytest.approx(_STD, rel=0.06)


def test_heun_is_more_exact_than_euler_at_equal_steps() -> None:
    sigmas = karras_sigmas(8, sigma_min=0.02, sigma_max=20.0)
    noise = torch.full((1, 1, 1, 1, 1), 20.0)
    exact = _MEAN + (20.0 - _MEAN) * _STD / (_STD**2 + 20.0**2) ** 0.5
    euler = abs(float(sample_euler(gaussian_denoiser, noise, sigmas)) - exact)
    heun = abs(float(sample_heun(gaussian_denoiser, noise, sigmas)) - exact)
    assert heun < euler


def test_one_step_returns_the_denoiser_mean() -> None:
    sigmas = karras_sigmas(1, sigma_min=0.1, sigma_max=20.0)
    noise = torch.zeros(1, 1, 1, 1, 1)
    expected = gaussian_denoiser(noise, torch.tensor([[20.0]]))
    assert torch.equal(sample_euler(gaussian_denoiser, noise, sigmas), expected)


def consistent(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Where the paths of data from N(_MEAN, _STD^2) end: the consistency function that belongs to it."""
    spread = (_STD**2 + sigma[:, :, None, None, None] ** 2).sqrt()
    return _MEAN + (noisy - _MEAN) * _STD / spread


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_consistent_function_draws_from_the_data_distribution_in_any_number_of_steps(steps: int) -> None:
    sigmas = karras_sigmas(steps, sigma_min=0.5, sigma_max=20.0)
    noise = torch.randn(64, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    drawn = sample_consistency(consistent, noise, sigmas)
    assert drawn.mean().item() == pytest.approx(_MEAN, abs=0.04)
    assert drawn.std().item() == pytest.approx(_STD, rel=0.04)


def test_what_is_noised_anew_is_a_clip_s_own_and_the_same_in_any_batch() -> None:
    sigmas = karras_sigmas(3, sigma_min=0.5, sigma_max=20.0)
    noise = torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    noise[2] = noise[0]
    together = sample_consistency(consistent, noise, sigmas)
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])
    assert torch.equal(together[1:2], sample_consistency(consistent, noise[1:2], sigmas))
    last: list[torch.Tensor] = []

    def seen(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        last.append(noisy)
        return torch.zeros_like(noisy)

    sample_consistency(seen, noise[:1], sigmas)
    drawn = [level / sigma for level, sigma in zip(last, sigmas[:-1], strict=True)]
    correlation = torch.corrcoef(torch.stack([noise.flatten() for noise in drawn]))
    assert (correlation - torch.eye(3)).abs().max() < 0.3  # each noise is another
    one = karras_sigmas(1, sigma_min=0.5, sigma_max=20.0)
    assert torch.equal(sample_consistency(gaussian_denoiser, noise, one), sample_euler(gaussian_denoiser, noise, one))


def test_consistency_sampling_is_that_of_the_stock_scheduler() -> None:
    """diffusers' scheduler for consistency models: its preconditioning as sigma_min goes to 0 is EDM's."""
    data, levels = 0.5, [10.0, 1.15, 0.0]

    def network(inputs: torch.Tensor) -> torch.Tensor:
        return (3.0 * inputs).sin()

    noise = torch.randn(1, 2, 4, 4, 6, generator=torch.Generator().manual_seed(0)) * levels[0]
    scheduler = CMStochasticIterativeScheduler(
        num_train_timesteps=2, sigma_min=1e-7, sigma_max=levels[0], sigma_data=data, clip_denoised=False
    )
    scheduler.set_timesteps(2)
    scheduler.sigmas = torch.tensor([*levels[:2], 1e-7])
    bits = noise.flatten()[:1].view(torch.int32)
    generator = torch.Generator().manual_seed(int(bits))
    stock = noise
    for timestep in scheduler.timesteps:
        output = network(scheduler.scale_model_input(stock, timestep))
        stock = scheduler.step(output, timestep, stock, generator=generator).prev_sample
    edm = EDMPreconditioning(data)

    def denoise(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        skip, out, scale = (f(sigma)[:, :, None, None, None] for f in (edm.c_skip, edm.c_out, edm.c_in))
        return skip * noisy + out * network(scale * noisy)

    assert torch.allclose(sample_consistency(denoise, noise, torch.tensor(levels)), stock, atol=1e-5)


def test_karras_sigmas_decrease_to_zero_and_refuse_nonsense() -> None:
    sigmas = karras_sigmas(5, sigma_min=0.1, sigma_max=10.0)
    assert sigmas[0].item() == pytest.approx(10.0) and sigmas[-2].item() == pytest.approx(0.1) and sigmas[-1] == 0
    assert torch.all(sigmas.diff() < 0)
    with pytest.raises(ValueError, match="num_denoising_steps is 0"):
        karras_sigmas(0, sigma_min=0.1, sigma_max=10.0)
    with pytest.raises(ValueError, match="sigma_min"):
        karras_sigmas(2, sigma_min=10.0, sigma_max=0.1)


def test_training_sigmas_are_one_a_clip_or_one_a_frame() -> None:
    def draw(per_frame: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return lognormal_sigmas(512, 8, mean=0.5, std=1.2, generator=generator, per_frame=per_frame)

    assert torch.equal(draw(False), draw(False)[:, :1].expand(-1, 8))
    assert draw(True).std(dim=1).min() > 0
    assert draw(True).log().mean().item() == pytest.approx(0.5, abs=0.1)
    assert draw(True).log().std().item() == pytest.approx(1.2, abs=0.1)


def test_edm_loss_is_zero_for_a_perfect_denoiser_and_one_for_silence() -> None:
    clean = torch.randn(32, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.5
    edm = EDMPreconditioning(0.5)

    class Perfect:
        def denoise(
            self, noisy: torch.Tensor, sigma: torch.Tensor, context: Context, action: torch.Tensor
        ) -> torch.Tensor:
            return clean

    class Silent:  # a network that answers zero: only the skip connection speaks
        def denoise(
            self, noisy: torch.Tensor, sigma: torch.Tensor, context: Context, action: torch.Tensor
        ) -> torch.Tensor:
            return edm.c_skip(sigma)[:, :, None, None, None] * noisy

    def loss(denoiser: Perfect | Silent) -> float:
        return float(
            denoising_loss(
                denoiser,
                clean,
                sigma=torch.full((32, 4), 0.8),
                context=Context(clean[:, :1]),
                action=torch.zeros(32, 4, 3),
                preconditioning=edm,
                noise=torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)),
            )
        )

    assert loss(Perfect()) == 0.0
    assert loss(Silent()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("name", sorted(PRECONDITIONINGS))
def test_every_preconditioning_returns_clean_data_for_its_own_perfect_network(name: str) -> None:
    """What a network of each family is trained to answer, put through the identities, gives back the clean frames."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 3, generator=generator).unbind(0)
    sigma = torch.tensor([0.02, 0.3, 1.0, 40.0])[:, None]
    noisy = clean + sigma * noise
    scale = PRECONDITIONINGS[name](1.0)
    if name.startswith("flow"):  # the velocity of the straight path
        answer = noise - clean
    else:  # v-prediction's target with unit data variance, and EDM's, which is its negative
        v = (noise - sigma * clean) / (sigma**2 + 1).sqrt()
        answer = v if name == "v" else -v
    assert torch.allclose(scale.c_skip(sigma) * noisy + scale.c_out(sigma) * answer, clean, atol=1e-5)


def test_flow_loss_is_the_error_of_the_velocity() -> None:
    flow = FlowPreconditioning()
    sigma = torch.tensor([0.1, 1.0, 9.0])
    velocity_error = 0.3
    clean_error = -flow.c_out(sigma) * velocity_error
    assert torch.allclose(flow.loss_weight(sigma) * clean_error**2, torch.full((3,), velocity_error**2))
    assert torch.allclose(flow.c_noise(sigma), sigma / (1 + sigma))


def test_guidance_extrapolates_and_rescaling_brings_the_spread_back() -> None:
    generator = torch.Generator().manual_seed(0)
    conditional, unconditional = torch.randn(2, 2, 3, 4, 8, 8, generator=generator).unbind(0)
    assert torch.equal(guide(conditional, unconditional, scale=0.0, rescale=0.0), conditional)
    guided = guide(conditional, unconditional, scale=2.0, rescale=0.0)
    assert torch.allclose(guided, 3 * conditional - 2 * unconditional, atol=1e-5)
    axes = (2, 3, 4)
    rescaled = guide(conditional, unconditional, scale=2.0, rescale=1.0)
    assert torch.allclose(rescaled.std(dim=axes), conditional.std(dim=axes), rtol=1e-4)
    assert torch.allclose(rescaled.mean(dim=axes), guided.mean(dim=axes), atol=1e-5)
