"""Stage two: the action-conditioned denoiser, on latents of the frozen autoencoder, by one process or many."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from egowm_core.errors import CheckpointError
from egowm_core.models.registry import TrainedAutoencoder
from training.config import DenoiserRun, TrainConfig
from training.fit.checks import check_shared_memory
from training.fit.curve import Curve
from training.fit.draws import Draw, StepDraws, in_latent_space
from training.fit.flops import device_ceiling, pass_flop
from training.fit.initial import initial_objective, merged_denoiser_config
from training.fit.latents import Store, latent_stores
from training.fit.loader import ahead, number_of_workers
from training.fit.lora import add_lora, merge_lora
from training.fit.mixture import Mixture
from training.fit.objective import LOSS, Objective
from training.fit.processes import forget_gathered, is_sharded, prepare, same_everywhere, share_of
from training.fit.progress import Progress
from training.fit.rollouts import Rollouts
from training.fit.settings import check_settings, denoiser_settings
from training.fit.state import TrainingState, WeightAverage, whole
from training.fit.timing import Every, cosine_rate
from training.fit.trackers import start_tracking

log = logging.getLogger("egowm.train")

STATE = "denoiser.safetensors"


@dataclass(frozen=True)
class Run:
    """What the denoiser of a run is trained with."""

    config: TrainConfig
    accelerator: Accelerator
    vae: TrainedAutoencoder
    mixture: Mixture
    directory: Path

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)


def fit_denoiser(run: Run, *, only_load: bool = False) -> tuple[Objective | None, dict[str, float]]:
    """Train, resuming from the run's directory when a state is there.

    Returns the averaged (EMA) model ready for export, with figures of the training. Of sharded weights only the main
    process has all: others get None.

    Raises:
        ConfigError: settings that do not fit the backbone, the autoencoder or the dataset, or not those that the run
            was begun with.
        CheckpointError: ``only_load``, but nothing was trained yet.
    """
    config, accelerator = run.config, run.accelerator
    path, settings = run.directory / STATE, _settings(run)
    check_settings(run.directory, "denoiser", settings, begun=path.exists(), write=run.is_main)
    objective = _built(run)
    optimizer = torch.optim.AdamW(
        learning_rates(objective, config.denoiser_run),
        betas=(0.9, 0.99),
        eps=config.denoiser_run.adam_epsilon,
        weight_decay=config.denoiser_run.weight_decay,
    )
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if only_load:
        if not path.exists():
            raise CheckpointError(f"{run.directory}: no denoiser yet; run --stage denoiser first")
        average = WeightAverage(objective)
        TrainingState(objective, None, average).load(path)
        return _finished(run, objective, average, sharded=False), {}
    wrapped, stepping = prepare(accelerator, objective, optimizer)
    average = WeightAverage(objective)  # of the weights as they are now: where they are to be trained, or sharded
    state = TrainingState(objective, optimizer, average)
    first = state.load(path)
    loop = _Loop(run, objective, wrapped, stepping, rates, average, state, first)
    start_tracking(accelerator, config.name, settings, step=first)
    throughput = loop.train()
    return _finished(run, objective, average, sharded=is_sharded(accelerator)), throughput


class _Loop:
    """The steps of a run, from ``first`` on."""

    def __init__(
        self,
        run: Run,
        objective: Objective,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        rates: list[float],
        average: WeightAverage,
        state: TrainingState,
        first: int,
    ) -> None:
        self._run, self._objective, self._wrapped = run, objective, wrapped
        self._optimizer, self._rates, self._average, self._state, self._first = optimizer, rates, average, state, first
        self._trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        # Sharded weights are whole only inside the wrapper's own forward pass; otherwise it would just be in the way.
        called = wrapped if is_sharded(run.accelerator) else objective
        self._curve = Curve(run.config, run.vae, objective.denoiser.config, called, run.mixture, run.directory)
        self._rollouts = Rollouts(run.config, run.vae, objective.denoiser, called, run.mixture, run.directory)

    def train(self) -> dict[str, float]:
        """Take the steps that are left; returns the throughput at the end."""
        run, config, accelerator = self._run, self._run.config, self._run.accelerator
        settings, denoiser = config.denoiser_run, self._objective.denoiser
        stores = _stores(run)
        draws = StepDraws(
            run.mixture,
            settings,
            denoiser.config,
            stores,
            seed=config.seed,
            share=share_of(accelerator),
            student=config.student,
        )
        workers = number_of_workers(
            config.workers, decoding=draws.needs_images, local_processes=accelerator.num_processes
        )
        check_shared_memory(run.mixture, workers=workers, share=settings.batch_size // accelerator.num_processes)
        length = denoiser.config.camera_context_frames + denoiser.config.camera_horizon
        due, sharded = Every(config.save_every_s), is_sharded(accelerator)
        if run.is_main:
            self._curve.forget_after(self._first)
        self._wrapped.train()
        progress = Progress(
            accelerator,
            first=self._first,
            steps=settings.steps,
            every=config.watch.log_every,
            clips=settings.batch_size,
            frames=length,
        )
        with progress:
            if progress.worth_measuring:
                self._measure(progress, draws[self._first][0])
            items = ahead(draws, self._first, settings.steps, workers=workers, pin=accelerator.device.type == "cuda")
            for step, passes in progress.steps(items):
                loss, norm = self._step(step, passes)
                progress.done(step, loss, {"gradient_norm": norm, **self._current_rates()})
                last = step + 1 == settings.steps
                save = due() or last
                if same_everywhere(accelerator, save) if sharded else save and run.is_main:
                    self._state.save(run.directory / STATE, step=step + 1, write=run.is_main)
                self._look(step + 1, last=last)
        return progress.throughput

    def _step(self, step: int, passes: list[Draw]) -> tuple[Tensor, Tensor]:
        """One step of the optimizer; mean loss of this process's clips, and the norm of all gradients."""
        settings, accelerator = self._run.config.denoiser_run, self._run.accelerator
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = cosine_rate(step, settings.steps, settings.warmup_steps) * rate
        losses: list[Tensor] = []
        norm = torch.zeros(())
        for draw in passes:
            with accelerator.accumulate(self._wrapped):
                loss = self._loss(self._wrapped, draw)
                accelerator.backward(loss)
                losses.append(loss.detach())
                if accelerator.sync_gradients:
                    norm = whole(torch.nn.utils.clip_grad_norm_(self._trained, settings.gradient_clip))
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
        self._average.update(min(settings.ema_decay, (step + 1) / (step + 10)))
        return torch.stack(losses).mean(), norm

    def _loss(self, module: nn.Module, draw: Draw) -> Tensor:
        run = self._run
        source = run.mixture.sources[draw.source]
        moved = draw.to(run.accelerator.device)
        with run.accelerator.autocast():
            context, future = in_latent_space(
                moved, run.vae, source.embodiment, horizon=self._objective.denoiser.config.horizon
            )
        loss: Tensor = module(LOSS, source.name, future, context, moved.actions, moved.sigma, moved.noise, moved.lower)
        return loss

    def _measure(self, progress: Progress, draw: Draw) -> None:
        """The arithmetic of a step, on a pass that leaves no trace."""
        accelerator, config = self._run.accelerator, self._run.config
        # Exchanging these gradients would be in vain; of shards, it is what frees them again.
        alone = nullcontext() if is_sharded(accelerator) else accelerator.no_sync(self._wrapped)
        with alone:
            flop = pass_flop(
                lambda: self._loss(self._wrapped, draw), recomputed=config.denoiser_run.gradient_checkpointing
            )
        self._optimizer.zero_grad(set_to_none=True)
        ceiling = device_ceiling(accelerator.device, bf16=accelerator.mixed_precision == "bf16")
        progress.measured(flop=flop * accelerator.gradient_accumulation_steps, ceiling=ceiling)

    def _look(self, done: int, *, last: bool) -> None:
        """What is looked at after ``done`` steps; every process computes it, one writes."""
        run, watch = self._run, self._run.config.watch
        curve = watch.curve_every and (done % watch.curve_every == 0 or last)
        rollouts = watch.rollouts_every and (done % watch.rollouts_every == 0 or last)
        if not (curve or rollouts):
            return
        self._wrapped.eval()
        if curve:
            figures = self._curve.append(done, write=run.is_main, autocast=run.accelerator.autocast)
            run.accelerator.log(figures, step=done)
        if rollouts:
            with self._averaged():
                self._rollouts.save(done, run.accelerator, write=run.is_main)
        self._wrapped.train()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in place of those in training."""
        forget_gathered(self._wrapped)
        self._average.swap()
        try:
            yield
        finally:
            forget_gathered(self._wrapped)
            self._average.swap()

    def _current_rates(self) -> dict[str, float]:
        names = ("learning_rate", "action_learning_rate")
        groups = self._optimizer.param_groups
        return {name: float(group["lr"]) for name, group in zip(names[-len(groups) :], groups, strict=True)}


def learning_rates(objective: Objective, run: DenoiserRun) -> list[dict[str, Any]]:
    """Optimizer groups of what is trained: the action paths (Z_a, Z_s) may learn faster than the rest (EgoWM: 10x)."""
    action = [parameter for path in objective.action_paths() for parameter in path.parameters()]
    of_action = set(action)
    rest = [p for p in objective.parameters() if p.requires_grad and p not in of_action]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": run.learning_rate}] if rest else []
    if action:
        groups.append({"params": action, "lr": run.learning_rate * run.action_learning_rate_scale})
    return groups


def _built(run: Run) -> Objective:
    """The module to train, on its device."""
    settings, objective = run.config.denoiser_run, initial_objective(run.config, run.mixture.embodiments)
    if settings.lora_rank:
        add_lora(objective.denoiser, rank=settings.lora_rank)
    if settings.gradient_checkpointing:
        objective.denoiser.enable_gradient_checkpointing()
    return objective.to(run.accelerator.device).train()


def _settings(run: Run) -> dict[str, Any]:
    return denoiser_settings(
        run.config,
        run.mixture,
        run.vae,
        merged_denoiser_config(run.config),
        precision=run.accelerator.mixed_precision,
    )


def _stores(run: Run) -> list[Store | None]:
    """Latents of each source, encoded by the main process where they are not there yet."""
    sources, config = run.mixture.sources, run.config
    if run.vae.temporal_factor != 1 or not config.store_latents:
        return [None] * len(sources)
    return list(
        latent_stores(
            run.vae,
            sources,
            Path(config.autoencoder_from or run.directory),
            write=run.is_main,
            wait=run.accelerator.wait_for_everyone,
            workers=number_of_workers(config.workers, decoding=True),
        )
    )


def _finished(run: Run, objective: Objective, average: WeightAverage, *, sharded: bool) -> Objective | None:
    """The averaged model, whole, in evaluation mode."""
    if sharded:
        tensors = {name: whole(value).cpu() for name, value in {**objective.state_dict(), **average.tensors}.items()}
        if not run.is_main:
            return None
        objective = _built(run)
        objective.load_state_dict(tensors)
    else:
        average.swap()
    if run.config.denoiser_run.lora_rank:
        merge_lora(objective.denoiser)
    return objective.eval().requires_grad_(False)
