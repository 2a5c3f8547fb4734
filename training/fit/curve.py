"""The validation curve of a run: the latest frame's error with true and with wrong actions, beside copying.

Their gap is what the model makes of its actions. Every process computes the same; one writes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egowm_core.diffusion.denoiser import per_frame
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.conditioning import WARPS, encode_context
from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.models.vae import to_unit_range
from training.config import TrainConfig
from training.fit.clips import ClipBatch
from training.fit.mixture import Mixture, Source


class Curve:
    """``curve.csv`` of a run with one dataset, ``curve_LABEL.csv`` of each of several."""

    def __init__(
        self,
        config: TrainConfig,
        vae: TrainedAutoencoder,
        denoiser: AdapterConfig,
        called: Callable[..., Any],
        mixture: Mixture,
        directory: Path,
    ) -> None:
        """``called`` runs a method of the denoiser, see :class:`training.fit.objective.Objective`."""
        self._config, self._vae, self._denoiser, self._called = config, vae, denoiser, called
        self._sources = {curve_file(directory, label): source for label, source in mixture.labelled.items()}

    def forget_after(self, step: int) -> None:
        """Drop what an interrupted run had written beyond the state that it now goes on from."""
        for path in self._sources:
            if path.exists():
                with path.open(newline="") as file:
                    rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
                _write(path, rows)

    @torch.no_grad()
    def append(
        self, step: int, *, write: bool, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> dict[str, float]:
        """Add a row, and return it: one-step prediction error of the last latent frame, by true and by wrong actions.

        A model of whole chunks predicts it from noise in all frames; a causal one from noise in the last frame alone,
        the earlier ones given (``copy`` is then the frame before, otherwise the context). As many clips are looked at
        together as a training step does.
        """
        figures: dict[str, float] = {}
        for path, source in self._sources.items():
            with autocast():
                row = self._row(source)
            if write:
                before: list[dict[str, Any]] = []
                if path.exists():
                    with path.open(newline="") as file:
                        before = list(csv.DictReader(file))
                _write(path, [*before, {"step": step, **row}])
            figures |= {f"validation/{path.stem}/{name}": value for name, value in row.items()}
        return figures

    def _row(self, source: Source) -> dict[str, float]:
        run, data = self._config.denoiser_run, source.validation
        rng = np.random.default_rng(self._config.seed)
        numbers = rng.choice(len(data), size=min(run.validation_clips, len(data)), replace=False)
        wrong = data.batch(np.roll(numbers, -1), images=0).actions
        generator = torch.Generator().manual_seed(self._config.seed)
        sums: dict[str, float] = {}
        for start in range(0, len(numbers), run.batch_size):
            part = slice(start, start + run.batch_size)
            errors = self._errors(source, data.batch(numbers[part]), wrong[part], generator)
            for name, values in errors.items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        return {name: round(total / len(numbers), 5) for name, total in sums.items()}

    def _errors(self, source: Source, batch: ClipBatch, wrong: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Of each clip (B,), by name of the column."""
        data, vae = source.validation, self._vae
        device = next(vae.parameters()).device
        images = batch.images.to(device)
        clip = vae.encode(to_unit_range(images)).float()
        split = clip.shape[1] - data.horizon // vae.temporal_factor
        future, before = clip[:, split:], clip[:, split - 1]
        sigma = future.new_full(future.shape[:2], self._config.sampling.sigma_max)
        if self._denoiser.causal:
            sigma[:, :-1] = self._denoiser.history_sigma
            before = clip[:, -2]
        noisy = _noised(future, sigma, generator)
        errors: dict[str, Tensor] = {}
        for warp in WARPS:
            if not self._config.denoiser_run.warp_shares.get(warp):
                continue
            for name, given in (("true", batch.actions), ("wrong", wrong)):
                actions = given.to(device)
                state = None if batch.state is None else batch.state.to(device)
                known = encode_context(
                    vae,
                    images[:, : data.context],
                    actions,
                    embodiment=data.embodiment,
                    warps=[warp] * len(actions),
                    latents=clip[:, :split],
                    state=state,
                )
                known = replace(known, state=state)
                predicted = self._called("denoise", source.name, noisy, sigma, known, actions)
                errors[f"{warp}_{name}"] = (predicted - future)[:, -1].square().mean(dim=(1, 2, 3))
        errors["copy"] = (before - future[:, -1]).square().mean(dim=(1, 2, 3))
        return errors


def curve_file(directory: Path, label: str) -> Path:
    """Of the dataset ``label`` of a run; the only one's label is empty."""
    return directory / (f"curve_{label}.csv" if label else "curve.csv")


def _noised(future: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Clean where the level is a history's, else nothing but noise."""
    top = sigma == sigma.max()
    noise = per_frame(sigma) * torch.randn(future.shape, generator=generator).to(future)
    return torch.where(per_frame(top), noise, future)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The whole table, whole or not at all; no rows, no table."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    partial = path.with_suffix(".partial")
    partial.write_text(text.getvalue())
    partial.replace(path)
