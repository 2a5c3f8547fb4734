"""The denoiser that a run starts from: fresh, or with the weights of another checkpoint where they fit.

A passive video model gains actions, a bidirectional one becomes causal (its temporal weights transferred), a
pretrained one is fine-tuned. What must fit and doesn't is an error; what is new (the action path) starts fresh.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
import yaml
from torch import Tensor

from egowm_core.checkpoint import Checkpoint, load_checkpoint, resolve
from egowm_core.embodiment import Embodiment
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.registry import build_denoiser, denoiser_config
from training.config import TrainConfig
from training.fit.objective import ActionPath, Objective

log = logging.getLogger("egowm.train")

_ACTION_PATHS = ("action_encoder.", "state_encoder.")
_MAY_BE_NEW = (*_ACTION_PATHS, "context_token.", "null_tokens")
_PREFIX = "denoiser."


def merged_denoiser_config(config: TrainConfig) -> dict[str, Any]:
    """The run's ``denoiser`` section over that of the checkpoint it starts from; no weights are read.

    Raises:
        CheckpointError: no such checkpoint.
        ConfigError: another backbone, or a causal checkpoint for a run that is not.
    """
    where = config.denoiser_run.init_from
    if not where:
        return config.denoiser
    parent = _denoiser_section(where)
    backbone, wanted = str(parent.get("backbone", "svd")), config.denoiser
    if wanted.get("backbone", backbone) != backbone:
        raise ConfigError(
            f"init_from {where} is a {backbone} model, the run asks for {wanted['backbone']}; leave denoiser.backbone "
            "out, or start from a checkpoint of that backbone"
        )
    if parent.get("causal") and not wanted.get("causal", True):
        raise ConfigError(f"init_from {where} is causal, which cannot be undone; leave denoiser.causal out")
    action = {**parent.get("action", {}), **wanted.get("action", {})}
    return {**parent, "passive": False, **wanted, "action": action}


def initial_denoiser(config: TrainConfig, embodiment: Embodiment) -> BackboneDenoiser:
    """As the configuration says, seeded by its seed.

    Raises:
        CheckpointError: no such checkpoint.
        ConfigError: weights of ``init_from`` that do not fit; the first one is named.
    """
    run = config.denoiser_run
    torch.manual_seed(config.seed)
    wanted = merged_denoiser_config(config)
    denoiser = build_denoiser(wanted, embodiment)
    if not run.init_from or run.from_scratch:
        return denoiser
    parent = load_checkpoint(run.init_from)
    weights = {k.removeprefix(_PREFIX): v for k, v in parent.weights.items() if k.startswith(_PREFIX)}
    _, before = denoiser_config(parent.config["denoiser"])
    if denoiser.config.causal and not before.causal:
        log.info("bidirectional weights become causal by %s transfer", denoiser.config.transfer)
        weights |= _causalised(parent, weights, denoiser.config)
    _load(denoiser, weights, run.init_from, known_paths=_known_paths(parent.embodiment, embodiment))
    return denoiser


def initial_objective(config: TrainConfig, embodiments: Mapping[str, Embodiment]) -> Objective:
    """The module to train: for one embodiment its denoiser; for several one backbone and an action path for each.

    Raises:
        CheckpointError, ConfigError: as :func:`initial_denoiser`.
    """
    denoisers = (initial_denoiser(config, embodiment) for embodiment in embodiments.values())
    shared = next(denoisers)
    if len(embodiments) == 1:
        return Objective(shared, student=config.student)
    paths = [ActionPath.of(shared), *(ActionPath.of(denoiser) for denoiser in denoisers)]  # their backbones go again
    return Objective(shared, dict(zip(embodiments, paths, strict=True)), student=config.student)


def _denoiser_section(where: str) -> dict[str, Any]:
    """Of the configuration alone: the checkpoint is verified when its weights are read."""
    file = resolve(where) / "config.yaml"
    try:
        return dict(yaml.safe_load(file.read_text())["denoiser"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: not the configuration of a checkpoint ({error!r}); get the checkpoint again"
        ) from error


def _causalised(parent: Checkpoint, weights: dict[str, Tensor], wanted: AdapterConfig) -> dict[str, Tensor]:
    """The stock module's ``weights``, transferred: by the surgery itself, on the parent's own architecture."""
    section = {**parent.config["denoiser"], "passive": True}
    source = build_denoiser(section, parent.embodiment)
    source.load_state_dict({name: weights[name] for name in source.state_dict() if name in weights})
    causal = {**section, "causal": True, "transfer": wanted.transfer, "window": wanted.window}
    build_denoiser(causal, parent.embodiment, stock=source.stock)
    return source.state_dict()


def _known_paths(parent: Embodiment, embodiment: Embodiment) -> tuple[str, ...]:
    """Which action paths mean the same for both robots."""
    same = {
        "action_encoder.": parent.channel_names == embodiment.channel_names,
        "state_encoder.": [state.name for state in parent.states] == [state.name for state in embodiment.states],
    }
    return tuple(path for path, holds in same.items() if holds)


def _load(denoiser: BackboneDenoiser, given: dict[str, Tensor], where: str, *, known_paths: tuple[str, ...]) -> None:
    own = denoiser.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    for path in _ACTION_PATHS:  # whole or not at all: trained layers after fresh ones would be noise
        names = [name for name in own if name.startswith(path)]
        if names and (path not in known_paths or any(name not in fitting for name in names)):
            fitting = {name: value for name, value in fitting.items() if not name.startswith(path)}
            log.info("%s starts fresh", path.rstrip("."))
    if unfit := [name for name in own if name not in fitting and not name.startswith(_MAY_BE_NEW)]:
        found = f"{tuple(given[unfit[0]].shape)}" if unfit[0] in given else "nothing"
        raise ConfigError(
            f"init_from {where}: {len(unfit)} weights do not fit, the first is {unfit[0]} (expected "
            f"{tuple(own[unfit[0]].shape)}, found {found}); make the run's denoiser section that of the checkpoint"
        )
    denoiser.load_state_dict(fitting, strict=False)
    log.info("%d of %d tensors start from %s", len(fitting), len(own), where)
