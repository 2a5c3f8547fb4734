"""`egowm-compare CONFIG`: variants of a model trained on the same data and judged on the same clips, in one table.

Trains what is not trained yet (resumable, each variant in its own directory), scores every row beside wrong actions,
copying and the autoencoder's ceiling, and times a long rollout of each against a reference row.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from egowm_core.errors import ConfigError, EgowmError
from egowm_core.loading import load_world_model
from egowm_core.models.registry import denoiser_config
from egowm_core.schema import nearest
from egowm_core.world_model import WorldModel
from training.compare_rows import evaluate_rows, format_rows, time_rows
from training.config import TrainConfig
from training.fit.autoencoder import load_autoencoder
from training.fit.initial import merged_denoiser_config
from training.score.cli import parse_horizons
from training.train import train
from training.variants import Comparison, Row, load_comparison

log = logging.getLogger("egowm.compare")

_STAGES = ("all", "train", "evaluate", "latency")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-compare",
        description="Train variants of a world model on one dataset and compare them on another. "
        "Interrupt it at any time; run it again and it goes on.",
        epilog="example: egowm-compare training/configs/compare_base_3dof.yaml --held-out data/rooms_heldout",
    )
    parser.add_argument("config", type=Path, help="YAML with base, variants and rows")
    parser.add_argument("--dataset", help="training dataset, in place of the configuration's")
    parser.add_argument("--held-out", type=Path, help="dataset that the table is made on (needed to evaluate)")
    parser.add_argument("--out", help="directory of all runs, in place of the configuration's")
    parser.add_argument("--stage", choices=_STAGES, default="all")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants (training) or rows (the rest) only")
    parser.add_argument("--clips", type=int, default=48, help="clips that are scored (default 48)")
    parser.add_argument("--horizons", default="2,4,8,16", help="frames to report, from 1 (default 2,4,8,16)")
    parser.add_argument("--long-horizon", type=int, default=64, help="frames of the timed rollout (default 64)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rollouts of each row (default 5)")
    parser.add_argument("--reference", default="nwm", help="row that times are divided by (default nwm)")
    parser.add_argument("--seed", type=int, default=0, help="which clips, and which noise (default 0)")
    parser.add_argument("--strips", type=Path, metavar="DIR", help="also save pictures of clips, all rows beside them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        horizons = parse_horizons(arguments.horizons)
        comparison = load_comparison(arguments.config, dataset=arguments.dataset, out=arguments.out)
        if arguments.stage in ("all", "evaluate") and arguments.held_out is None:
            print("egowm-compare: --held-out names the dataset to evaluate on; give it", file=sys.stderr)
            return 2
        _check_names(arguments, comparison)
        if comparison.autoencoder.threads:
            torch.set_num_threads(comparison.autoencoder.threads)
        if arguments.stage in ("all", "train"):
            train_variants(comparison, only=arguments.only)
        figures = _judge(arguments, comparison, horizons)
    except (EgowmError, ValueError) as error:
        print(f"egowm-compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    if arguments.json and figures:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def train_variants(comparison: Comparison, *, only: list[str] | None = None) -> None:
    """Train what has no checkpoint yet, the shared autoencoder first.

    Raises:
        EgowmError: data, configuration and embodiment do not fit.
    """
    shared = comparison.autoencoder
    if only is None or shared.name in only:
        loaded = load_autoencoder(shared, Path(shared.out))
        if loaded is None or loaded[1] < shared.autoencoder_run.steps:
            log.info("== %s", shared.name)
            train(shared, stage="autoencoder")
    for name, config in comparison.variants.items():
        if (only is None or name in only) and not (Path(config.out) / "checkpoint").exists():
            log.info("== %s", name)
            train(config)


def _check_names(arguments: argparse.Namespace, comparison: Comparison) -> None:
    rows = [row.name for row in comparison.rows]
    known = [comparison.autoencoder.name, *comparison.variants, *rows]
    for name in arguments.only or ():
        if name not in known:
            raise ConfigError(f"--only {name!r}: no such variant or row{nearest(name, known)}")
    timed = [name for name in rows if arguments.only is None or name in arguments.only]
    if arguments.stage in ("all", "latency") and arguments.reference not in timed:
        raise ConfigError(f"--reference {arguments.reference!r} is not among the rows that are timed: {timed}")


def _judge(arguments: argparse.Namespace, comparison: Comparison, horizons: tuple[int, ...]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    rows = [row for row in comparison.rows if arguments.only is None or row.name in arguments.only]
    models = [] if arguments.stage == "train" else [(row, load_row(row, comparison)) for row in rows]
    if arguments.stage in ("all", "evaluate"):
        table = evaluate_rows(
            models,
            arguments.held_out,
            clips=arguments.clips,
            horizons=horizons,
            seed=arguments.seed,
            context=max(_context_frames(config) for config in comparison.variants.values()),
            strips=arguments.strips,
        )
        figures |= {"rows": table, "settings": {"clips": arguments.clips, "seed": arguments.seed}}
        print(format_rows(table, horizons))
    if arguments.stage in ("all", "latency"):
        timed = time_rows(
            models,
            horizon=arguments.long_horizon,
            repeats=arguments.repeats,
            reference=arguments.reference,
        )
        figures["latency"] = timed
        print(f"\n| row | {arguments.long_horizon} frames, ms | of {arguments.reference} |\n| --- | --- | --- |")
        for name, values in timed.items():
            print(f"| {name} | {1e3 * values['p50']:.0f} | {values['ratio']:.2f} |")
    return figures


def _context_frames(config: TrainConfig) -> int:
    _, fields = denoiser_config(merged_denoiser_config(config))
    return fields.camera_context_frames


def load_row(row: Row, comparison: Comparison) -> WorldModel:
    """The world model of a row, sampled the row's way."""
    model = load_world_model(Path(comparison.variants[row.variant].out) / "checkpoint")
    if row.sampling:
        model.plan = replace(model.plan, **row.sampling)
    return model


if __name__ == "__main__":
    sys.exit(main())
