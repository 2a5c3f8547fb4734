"""Consistency tuning: the loss against its own equation, whom its gradient reaches, and runs of a tiny student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from egowm_core import load_world_model
from egowm_core.checkpoint import load_checkpoint
from egowm_core.diffusion.denoiser import Context, per_frame
from egowm_core.diffusion.losses import denoising_loss
from egowm_core.errors import ConfigError
from egowm_core.models.registry import build_denoiser
from tests.training.fit_fixtures import UNET, configured, small_dataset, state_of
from training.config import Student, TrainConfig
from training.dataset.reader import Dataset
from training.fit import denoiser as fitting
from training.fit.consistency import consistency_loss, lower_levels
from training.fit.objective import LOSS, Objective
from training.train import train

STUDENT = Student(teacher="t")


class Function:
    """A denoiser that is a function of noisy latents and levels alone."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
        return self._function(noisy, per_frame(sigma))


def clips(count: int = 3) -> dict[str, Any]:
    """Latents, noise, context and actions of a loss."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, count, 4, 16, 4, 6, generator=generator)
    return {
        "clean": clean,
        "noise": noise,
        "context": Context(torch.zeros(count, 1, 16, 4, 6)),
        "action": torch.rand(count, 4, 3, generator=generator),
    }


def loss(function: Callable[[Tensor, Tensor], Tensor], sigma: Tensor, lower: Tensor, huber: float = 0.001) -> Tensor:
    return consistency_loss(Function(function), **clips(len(sigma)), sigma=sigma, lower=lower, huber=huber)


def test_a_consistent_function_has_no_loss_and_neither_have_equal_levels() -> None:
    sigma = torch.tensor([[0.2], [2.0], [9.0]])
    clean = clips()["clean"]
    assert loss(lambda noisy, level: clean, sigma, lower_levels(sigma, STUDENT, step=5, steps=8)) == 0
    assert loss(lambda noisy, level: clean, sigma, torch.zeros(3, 1)) == 0
    assert loss(lambda noisy, level: torch.zeros_like(noisy), sigma, sigma / 2) == 0  # consistent, if not right
    assert loss(lambda noisy, level: noisy / (1 + level), sigma, sigma) == 0
    assert loss(lambda noisy, level: noisy / (1 + level), sigma, sigma / 2) > 0.1


def test_the_loss_is_its_equation() -> None:
    given, sigma, lower = clips(2), torch.tensor([[3.0], [0.5]]), torch.tensor([[2.0], [0.0]])

    def function(noisy: Tensor, level: Tensor) -> Tensor:
        return noisy / (1 + level)

    first = function(given["clean"][0] + 3 * given["noise"][0], torch.tensor(3.0))
    second = function(given["clean"][0] + 2 * given["noise"][0], torch.tensor(2.0))
    third = function(given["clean"][1] + 0.5 * given["noise"][1], torch.tensor(0.5))
    distances = [
        float(((one - other).square().mean() + 0.3**2).sqrt() - 0.3)
        for one, other in ((first, second), (third, given["clean"][1]))
    ]
    expected = (distances[0] / 1.0 + distances[1] / 0.5) / 2
    assert float(loss(function, sigma, lower, huber=0.3)) == pytest.approx(expected, rel=1e-5)


def test_levels_close_in_on_each_other_stage_by_stage() -> None:
    sigma = torch.tensor([[0.05], [1.0], [5.0], [30.0]])
    ratios = [lower_levels(sigma, STUDENT, step=step, steps=80) / sigma for step in range(80)]
    assert all(torch.equal(ratios[step], ratios[step - step % 10]) for step in range(80))
    stages = torch.stack(ratios[::10])
    assert torch.all(stages.diff(dim=0) >= 0) and torch.all(stages < 1)
    assert stages[0].tolist()[:2] == [[0.0], [0.0]]  # it begins with the clean target
    assert float(stages[-1, -1]) == pytest.approx(1 - 1 / 256)
    n = 1 + 8 / (1 + torch.tensor(1.0).exp())
    assert float(stages[-1, 1]) == pytest.approx(float(1 - n / 256))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("student") / "data")


@pytest.fixture(scope="module")
def teacher(data: Path) -> Path:
    out = data.parent / "teacher"
    train(configured(data, out, denoiser_run={"steps": 3}))
    return out / "checkpoint"


def tuned(data: Path, out: Path, teacher: Path, *, student: dict[str, Any] | None = None, **run: Any) -> TrainConfig:
    """A student's run; its architecture and autoencoder are the teacher's."""
    config = configured(
        data,
        out,
        student={"teacher": str(teacher), "stages": 4, **(student or {})},
        denoiser_run={"steps": 4, **run},
        sampling={"sampler": "consistency", "sigma_min": 1.0, "num_denoising_steps": 2},
    )
    return replace(config, vae={}, denoiser={})


def tiny(data: Path) -> Any:
    torch.manual_seed(0)
    model = build_denoiser(UNET, Dataset(data).embodiment)
    for parameter in model.parameters():  # what begins at zero would hide where gradients go
        torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.mark.parametrize("bf16", [False, True])
def test_the_gradient_reaches_the_student_and_not_the_target(data: Path, bf16: bool) -> None:
    """Also under autocast, whose cast weights both passes share."""
    model, given = tiny(data), clips(2)
    sigma, lower = torch.tensor([[1.0], [5.0]]), torch.tensor([[0.9], [4.5]])

    def gradients(denoiser: Any) -> list[Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = consistency_loss(denoiser, **given, sigma=sigma, lower=lower, huber=0.001)
        value.backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    found = gradients(model)
    assert len(found) == sum(1 for _ in model.parameters())  # some are 0: with one token, queries decide nothing
    assert sum(bool(gradient.any()) for gradient in found) > 0.7 * len(found)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        levels = lower.expand(2, 4)
        fixed = model.denoise(given["clean"] + per_frame(levels) * given["noise"], levels, *list(given.values())[2:])

    class FixedTarget:
        """The model, but for the target: a constant."""

        def denoise(self, noisy: Tensor, level: Tensor, context: Context, action: Tensor) -> Tensor:
            return fixed if torch.equal(level, levels) else model.denoise(noisy, level, context, action)

    assert all(torch.equal(one, other) for one, other in zip(found, gradients(FixedTarget()), strict=True))


def test_steps_lower_the_loss_and_without_a_student_nothing_changes(data: Path) -> None:
    model, given = tiny(data), clips(3)
    sigma = torch.tensor([[0.5], [2.0], [8.0]])
    lower = lower_levels(sigma, STUDENT, step=4, steps=8)
    objective = Objective(model, student=STUDENT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        value = objective(LOSS, "", given["clean"], given["context"], given["action"], sigma, given["noise"], lower)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.95 * losses[0]
    plain = Objective(model)(LOSS, "", given["clean"], given["context"], given["action"], sigma, given["noise"])
    expected = denoising_loss(model, **given, sigma=sigma.expand(3, 4), preconditioning=model.preconditioning)
    assert torch.equal(plain, expected)


def test_a_student_trains_resumes_exactly_and_loads(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tuned(data, tmp_path / "whole", teacher)
    train(config)
    before, after = load_checkpoint(teacher), load_checkpoint(tmp_path / "whole" / "checkpoint")
    assert all(torch.equal(value, after.weights[name]) for name, value in before.weights.items() if "vae." in name)
    assert "tuned as a few-step student" in after.card and str(tmp_path) not in after.card
    model = load_world_model(tmp_path / "whole" / "checkpoint")
    assert (model.plan.sampler, model.plan.sigmas().tolist()) == ("consistency", [20.0, 1.0, 0.0])

    real, again = fitting._Loop._step, tuned(data, tmp_path / "parts", teacher)

    def stopping(self: Any, step: int, passes: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return real(self, step, passes)

    monkeypatch.setattr(fitting._Loop, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(replace(again, save_every_s=0.0))
    monkeypatch.setattr(fitting._Loop, "_step", real)
    train(again)
    whole, parts = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(ConfigError, match=r"begun with student.q = 2.0, now it is 3.0"):
        train(tuned(data, tmp_path / "parts", teacher, student={"q": 3.0}))


@pytest.mark.parametrize(
    ("student", "run", "match"),
    [
        ({"stage": 8}, {}, "unknown key 'stage'; did you mean 'stages'"),
        ({"q": 1.0}, {}, "q 1 must exceed 1"),
        ({"stages": 0}, {}, "stages 0 be at least 1"),
        ({"stages": 4.5}, {}, "student.stages is 4.5; expected a whole number"),
        ({"huber": 0.0}, {}, "huber 0 positive"),
        ({"k": float("nan")}, {}, "k is nan; expected a finite number"),
        ({"stages": 2}, {}, "leave the clean target to low noise to the end"),
        ({"stages": 20}, {"steps": 40}, "where rounding is most of the difference"),
        ({"stages": 8}, {}, "4 steps are fewer than the student's 8 stages"),
        ({}, {"init_from": "another"}, "init_from says another; leave init_from out"),
        ({}, {"from_scratch": True}, "leave denoiser_run.from_scratch out"),
        ({}, {"diffusion_forcing": True}, "leave denoiser_run.diffusion_forcing out"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, student: dict[str, Any], run: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        tuned(tmp_path, tmp_path / "out", Path("t"), student=student, **run)


def test_a_student_needs_a_teacher_of_whole_chunks(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="student lacks the key 'teacher'"):
        configured(data, tmp_path, student={"stages": 4})
    train(configured(data, tmp_path / "causal", denoiser={"causal": True}, denoiser_run={"steps": 1}))
    with pytest.raises(ConfigError, match="is causal, and its history"):
        train(tuned(data, tmp_path / "out", tmp_path / "causal" / "checkpoint"))
    assert not (tmp_path / "out" / "denoiser.safetensors").exists()
