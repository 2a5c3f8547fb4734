"""`egowm-train CONFIG`: converted datasets into checkpoint directories, resumable at any moment.

One process by itself; several by accelerate or torchrun, which train the same weights up to rounding:

    accelerate launch --config_file training/configs/accelerate/ddp.yaml -m training.train CONFIG
    torchrun --nproc-per-node 8 -m training.train CONFIG
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from accelerate import Accelerator

from egowm_core.checkpoint import load_checkpoint
from egowm_core.errors import CheckpointError, EgowmError
from egowm_core.loading import checkpoint_autoencoder
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.registry import TrainedAutoencoder, denoiser_config
from egowm_core.models.vae import FrameAutoencoder, vae_config_from_dict
from training.config import TrainConfig, load_train_config
from training.fit.autoencoder import STATE as AUTOENCODER_STATE
from training.fit.autoencoder import fit_autoencoder, load_autoencoder, reconstruction_psnr
from training.fit.checks import check_denoiser, check_sources, check_space, check_writable
from training.fit.curve import curve_file
from training.fit.denoiser import Run, fit_denoiser
from training.fit.export import export_checkpoint
from training.fit.initial import merged_denoiser_config
from training.fit.mixture import Mixture, open_mixture
from training.fit.objective import Objective
from training.fit.processes import check_batch, is_first_process, leave_processes, start_processes
from training.fit.settings import autoencoder_settings, check_directory, check_settings
from training.pictures import save_curve

log = logging.getLogger("egowm.train")

_OVERRIDES = ("dataset", "out", "seed", "threads", "device", "gradient_accumulation")
_STAGES = ("all", "autoencoder", "denoiser", "export")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-train",
        description="Train an action-conditioned world model on a dataset made by egowm-convert. "
        "Interrupt it at any time; run it again and it goes on.",
        epilog="example: egowm-train training/configs/base_3dof.yaml --dataset data/rooms --out runs/base",
    )
    parser.add_argument("config", type=Path, help="YAML configuration (see training/configs)")
    parser.add_argument("--dataset", help="dataset directory, in place of the configuration's")
    parser.add_argument("--out", help="run directory, in place of the configuration's")
    parser.add_argument("--seed", type=int, help="seed, in place of the configuration's")
    parser.add_argument("--threads", type=int, help="CPU threads, in place of the configuration's")
    parser.add_argument("--device", help="device to train on, such as cpu or cuda, in place of the configuration's")
    parser.add_argument(
        "--gradient-accumulation",
        type=int,
        metavar="N",
        help="passes that a step's batch is cut into, in place of the configuration's: fewer on more devices",
    )
    parser.add_argument(
        "--stage",
        choices=_STAGES,
        default="all",
        help="run one stage only; with a linear encoder, autoencoder and denoiser may run side by side",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        overrides = {key: getattr(arguments, key) for key in _OVERRIDES}
        figures = train(load_train_config(arguments.config, overrides), stage=arguments.stage)
    except EgowmError as error:
        print(f"egowm-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    finally:
        leave_processes()
    if arguments.json and is_first_process():
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def train(config: TrainConfig, *, stage: str = "all") -> dict[str, float]:
    """Run ``stage`` (or all) and return figures; the checkpoint is ``out/checkpoint``.

    Datasets of several robots make one for each, ``out/checkpoint/NAME`` by the embodiment's name.

    Raises:
        EgowmError: data, configuration and embodiment do not fit.
    """
    directory = Path(config.out)
    check_directory(directory)
    accelerator = start_processes(config)
    check_batch(config, accelerator)
    _, fields = denoiser_config(merged_denoiser_config(config))
    mixture = _open(config, fields)
    check_writable(directory)
    figures: dict[str, float] = {
        "clips": sum(len(source.training) for source in mixture.sources),
        "frames": sum(source.training.num_frames for source in mixture.sources),
    }
    vae, fit = _autoencoder(config, directory, fit=stage in ("all", "autoencoder"))
    if stage != "autoencoder":
        merged = merged_denoiser_config(config)
        parameters = check_denoiser(config, merged, fields, vae, mixture)
        check_space(config, mixture, vae, parameters=parameters)
    if fit:
        vae = _fitted(config, mixture, directory, accelerator)
    vae = vae.to(accelerator.device)
    if stage in ("all", "autoencoder", "export"):
        psnr = [reconstruction_psnr(vae, source.validation) for source in mixture.sources]
        figures["autoencoder_psnr"] = sum(psnr) / len(psnr)
        log.info("autoencoder: %.2f dB on held-out frames", figures["autoencoder_psnr"])
    if stage == "autoencoder":
        return figures
    run = Run(config, accelerator, vae, mixture, directory)
    objective, throughput = fit_denoiser(run, only_load=stage == "export")
    if stage in ("all", "export") and objective is not None and accelerator.is_main_process:
        _export(run, objective, figures)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return figures | throughput


def _open(config: TrainConfig, fields: AdapterConfig) -> Mixture:
    """The datasets, seen to agree with their embodiments, with each other and with the denoiser."""
    context, horizon = fields.camera_context_frames, fields.camera_horizon
    mixture = open_mixture(config.sources, context=context, horizon=horizon, held_out=config.validation_episodes)
    check_sources(mixture, fields, config)
    for source in mixture.sources:
        log.info(
            "%s: %d clips of %d + %d frames in %d episodes of %s",
            source.dataset.path,
            len(source.training),
            context,
            horizon,
            len(source.training.episodes),
            source.name,
        )
    return mixture


def _autoencoder(config: TrainConfig, directory: Path, *, fit: bool) -> tuple[TrainedAutoencoder, bool]:
    """Fitted in this run, shared from another (``autoencoder_from``), or that of a checkpoint (``init_from``).

    Returns it, and whether it is yet to be fitted: what is known of it before then is its shape.
    """
    if config.autoencoder_from:
        return _loaded(config, Path(config.autoencoder_from)), False
    if config.denoiser_run.init_from and not config.vae:
        return checkpoint_autoencoder(load_checkpoint(config.denoiser_run.init_from)), False
    if fit:
        return FrameAutoencoder(vae_config_from_dict(config.vae)), True
    return _loaded(config, directory), False


def _fitted(config: TrainConfig, mixture: Mixture, directory: Path, accelerator: Accelerator) -> TrainedAutoencoder:
    """By the main process; the others wait and read what it wrote."""
    settings = autoencoder_settings(config, mixture, precision=accelerator.mixed_precision)
    begun = (directory / AUTOENCODER_STATE).exists()
    check_settings(directory, "autoencoder", settings, begun=begun, write=accelerator.is_main_process)
    if accelerator.is_main_process:
        bf16 = accelerator.mixed_precision == "bf16"
        fit_autoencoder(config, mixture, directory, device=accelerator.device, bf16=bf16)
    accelerator.wait_for_everyone()
    return _loaded(config, directory)


def _loaded(config: TrainConfig, directory: Path) -> TrainedAutoencoder:
    loaded = load_autoencoder(config, directory)
    if loaded is None:
        raise CheckpointError(f"{directory}: no autoencoder yet; run --stage autoencoder first")
    vae, done = loaded
    if not vae.config.linear_encoder and done < config.autoencoder_run.steps:
        raise CheckpointError(
            f"{directory}: the autoencoder is at step {done}; let it finish: its latents still change"
        )
    return vae


def _export(run: Run, objective: Objective, figures: dict[str, float]) -> None:
    names = run.mixture.names
    for name in names:
        target = run.directory / "checkpoint"
        export_checkpoint(
            target if len(names) == 1 else target / name,
            run.config,
            run.vae,
            objective.attach(name),
            run.mixture.embodiments[name],
            run.mixture.norm_stats(name),
            figures,
        )
        log.info("checkpoint: %s", target if len(names) == 1 else target / name)
    for label in run.mixture.labelled:
        table = curve_file(run.directory, label)
        if table.exists():
            save_curve(table, table.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
