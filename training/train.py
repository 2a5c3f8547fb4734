"""`egowm-train CONFIG`: a converted dataset into a checkpoint directory, resumable at any moment."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import torch

from egowm_core.checkpoint import load_checkpoint
from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import CheckpointError, ConfigError, EgowmError
from egowm_core.loading import checkpoint_autoencoder
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.registry import TrainedAutoencoder, denoiser_config
from training.clips import ClipDataset, open_dataset
from training.config import TrainConfig, load_train_config
from training.export import export_checkpoint
from training.fit_autoencoder import fit_autoencoder, load_autoencoder, reconstruction_psnr
from training.fit_denoiser import fit_denoiser
from training.initial import merged_denoiser_config
from training.pictures import save_curve

log = logging.getLogger("egowm.train")

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
    parser.add_argument(
        "--device", help="device to train the denoiser on, such as cuda, in place of the configuration's"
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
        overrides = {key: getattr(arguments, key) for key in ("dataset", "out", "seed", "threads", "device")}
        figures = train(load_train_config(arguments.config, overrides), stage=arguments.stage)
    except EgowmError as error:
        print(f"egowm-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def train(config: TrainConfig, *, stage: str = "all") -> dict[str, float]:
    """Run ``stage`` (or all) and return figures; the checkpoint is ``out/checkpoint``.

    Raises:
        EgowmError: data, configuration and embodiment do not fit.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    _check_device(config.device)
    _, fields = denoiser_config(merged_denoiser_config(config))
    directory = Path(config.out)
    directory.mkdir(parents=True, exist_ok=True)
    context, horizon = fields.camera_context_frames, fields.camera_horizon
    data, validation = open_dataset(
        Path(config.dataset), context=context, horizon=horizon, held_out=config.validation_episodes
    )
    figures: dict[str, float] = {"clips": len(data), "frames": data.num_frames}
    log.info("%d clips of %d + %d frames in %d episodes", len(data), context, horizon, len(data.episodes))
    vae = _autoencoder(config, data, directory, fit=stage in ("all", "autoencoder")).to(config.device)
    if stage in ("all", "autoencoder", "export"):
        figures["autoencoder_psnr"] = reconstruction_psnr(vae, validation)
        log.info("autoencoder: %.2f dB on held-out frames", figures["autoencoder_psnr"])
    if stage == "autoencoder":
        return figures
    _check_latents(fields, vae, data.embodiment)
    denoiser = fit_denoiser(config, vae, data, validation, directory, only_load=stage == "export")
    if stage in ("all", "export"):
        stats = NormStats.from_json((Path(config.dataset) / "norm_stats.json").read_text())
        embodiment = load_embodiment(Path(config.dataset) / "embodiment.yaml")
        export_checkpoint(directory / "checkpoint", config, vae, denoiser, embodiment, stats, figures)
        save_curve(directory / "curve.csv", directory / "curve.png")
        log.info("checkpoint: %s", directory / "checkpoint")
    return figures


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {device!r} cannot be used ({str(error).splitlines()[0]}); use cpu") from error


def _check_latents(fields: AdapterConfig, vae: TrainedAutoencoder, embodiment: Embodiment) -> None:
    """That the denoiser is made for what the autoencoder makes of the dataset's pictures."""
    camera = embodiment.camera()
    made = {
        "latent_channels": vae.latent_channels,
        "latent_height": camera.height // vae.downscale,
        "latent_width": camera.width // vae.downscale,
        "temporal_factor": vae.temporal_factor,
    }
    if wrong := {name: value for name, value in made.items() if getattr(fields, name) != value}:
        given = {name: getattr(fields, name) for name in wrong}
        raise ConfigError(
            f"denoiser: the autoencoder makes {wrong} of the dataset's {camera.height} x {camera.width} pixels, the "
            f"configuration says {given}; set these, or convert with the embodiment.yaml of the checkpoint in init_from"
        )


def _autoencoder(config: TrainConfig, data: ClipDataset, directory: Path, *, fit: bool) -> TrainedAutoencoder:
    """Fitted here, shared from another run (``autoencoder_from``), or that of a checkpoint (``init_from``)."""
    if config.autoencoder_from:
        directory = Path(config.autoencoder_from)
    elif config.denoiser_run.init_from and not config.vae:
        return checkpoint_autoencoder(load_checkpoint(config.denoiser_run.init_from))
    elif fit:
        return fit_autoencoder(config, data, directory)
    loaded = load_autoencoder(config, directory)
    if loaded is None:
        raise CheckpointError(f"{directory}: no autoencoder yet; run --stage autoencoder first")
    vae, done = loaded
    if not vae.config.linear_encoder and done < config.autoencoder_run.steps:
        raise CheckpointError(
            f"{directory}: the autoencoder is at step {done}; let it finish: its latents still change"
        )
    return vae


if __name__ == "__main__":
    sys.exit(main())
