"""What a training run is asked to do: a YAML file into checked dataclasses. Knows no data and no model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from egowm_core.errors import ConfigError
from egowm_core.schema import read_fields

AUTO = "auto"
_SMALLEST_GAP = 2.0**-12


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset of a run of several: how often a batch comes from it, against the others."""

    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ConfigError(f"datasets: {self.path} has weight {self.weight}; expected a positive number")


@dataclass(frozen=True)
class AutoencoderRun:
    """Training of the frame autoencoder."""

    steps: int = 4000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    basis_frames: int = 2000  # frames that the linear shortcut is fitted on


@dataclass(frozen=True)
class DenoiserRun:
    """Training of the action-conditioned denoiser."""

    steps: int = 10000
    batch_size: int = 8  # clips of one step, over all processes and passes
    learning_rate: float = 1e-3
    action_learning_rate_scale: float = 1.0  # the paper: 10 when a pretrained backbone is fine-tuned
    init_from: str = ""  # checkpoint whose weights to start from: a passive model, a pretrained one (egowm-adapt), ...
    from_scratch: bool = False  # take the architecture of init_from, but not its weights
    lora_rank: int = 0  # above 0: the backbone is frozen but for low-rank updates, merged when the run is exported
    diffusion_forcing: bool = False  # a noise level for each frame, not one a clip (causal models want it)
    action_dropout: float = 0.0  # probability of dropping a frame's action (Vid2World: 0.2), or unless causal a clip's
    gradient_checkpointing: bool = False  # less memory, more time
    warmup_steps: int = 200
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-8  # where gradients are smaller than this, rounding no longer moves a weight by its rate
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    sigma_log_mean: float = 1.0
    sigma_log_std: float = 1.4
    warp_shares: dict[str, float] = field(default_factory=lambda: {"none": 1.0})  # of clips; see conditioning.WARPS
    validation_clips: int = 32  # that the curve of the run is measured on
    min_motion: float = 0.0  # clips that move less (in channel scales, summed over the chunk) are drawn less often


@dataclass(frozen=True)
class Student:
    """Consistency tuning in place of the ordinary objective (see ``fit/consistency.py``, whose symbols these are)."""

    teacher: str  # checkpoint whose weights the student starts from
    q: float = 2.0  # by what the gap between the two noise levels, 1 - r / t, shrinks from stage to stage
    stages: int = 8  # of equal length; after the last r / t is 1 - n(t) / q^stages
    k: float = 8.0  # gaps at low noise are up to 1 + k / 2 times those at high noise
    b: float = 1.0  # where low noise ends: at sigma about 1 / b
    huber: float = 0.001  # c: errors below it count by their square, those above by their size

    def __post_init__(self) -> None:
        numbers = {"q": self.q, "k": self.k, "b": self.b, "huber": self.huber}
        for key, value in numbers.items():
            if not math.isfinite(value):
                raise ConfigError(f"student: {key} is {value}; expected a finite number")
        if self.q <= 1 or self.stages < 1:
            raise ConfigError(f"student: q {self.q:g} must exceed 1 and stages {self.stages} be at least 1")
        if self.k < 0 or self.b < 0 or self.huber <= 0:
            raise ConfigError(
                f"student: k {self.k:g} and b {self.b:g} must be 0 or more, and huber {self.huber:g} positive"
            )
        smallest, largest = self.q**-self.stages, (1 + self.k / 2) * self.q**-self.stages
        if largest >= 1:
            raise ConfigError(
                f"student: q {self.q:g} in {self.stages} stages and k {self.k:g} leave the clean target to low noise "
                f"to the end; (1 + k / 2) / q^stages is {largest:.3g}, take more stages until it is below 1"
            )
        if smallest < _SMALLEST_GAP:
            raise ConfigError(
                f"student: q {self.q:g} in {self.stages} stages ends at noise levels that are {smallest:.3g} apart, "
                "where rounding is most of the difference; take fewer stages (8 with q 2: 0.0039)"
            )


@dataclass(frozen=True)
class Sampling:
    """How the finished model samples unless told otherwise."""

    sampler: str = "euler"
    num_denoising_steps: int = 4
    sigma_min: float = 0.05
    sigma_max: float = 20.0
    warp: str = "none"  # what geometry compensates, see conditioning.WARPS
    schedule: str = "karras"  # how noise levels fall, see sigmas.SCHEDULES
    guidance_scale: float = 0.0  # of causal action guidance; 0 is off (one evaluation a step, not two)
    guidance_rescale: float = 0.7


@dataclass(frozen=True)
class Watch:
    """What is looked at while a run goes on, in steps; 0 is never. None of it changes a weight."""

    log_every: int = 10  # figures: loss, learning rates, gradient norm, throughput
    curve_every: int = 500  # points of the validation curve
    rollouts_every: int = 500  # pictures of held-out clips, observed above predicted
    rollout_clips: int = 2


@dataclass(frozen=True)
class TrainConfig:
    """One run: dataset directory in, checkpoint directory out; or several datasets, and a checkpoint for each robot."""

    name: str
    out: str
    dataset: str = ""
    datasets: tuple[DatasetEntry, ...] = ()  # in place of ``dataset``: of one robot or more, in one backbone
    notes: str = ""  # for the model card: where the data came from, how the run went
    seed: int = 0
    bf16: bool = False  # otherwise as accelerate's mixed_precision has it
    device: str = AUTO  # such as cpu or cuda; auto: a GPU where there is one
    gradient_accumulation: int = 1  # passes that a step's batch is cut into, to save memory
    workers: int = -1  # processes that decode frames ahead; -1: as many as fit, none where nothing is decoded
    store_latents: bool = True  # of all frames, beside the run, where a latent is a single frame
    tracker: str = "none"  # tensorboard, wandb, ... as accelerate has them
    threads: int = 0  # 0: PyTorch's choice
    save_every_s: float = 120.0
    validation_episodes: int = 4  # the last ones of the dataset, never trained on
    autoencoder_from: str = ""  # another run's directory, to share its autoencoder
    vae: dict[str, Any] = field(default_factory=dict)
    denoiser: dict[str, Any] = field(default_factory=dict)
    autoencoder_run: AutoencoderRun = field(default_factory=AutoencoderRun)
    denoiser_run: DenoiserRun = field(default_factory=DenoiserRun)
    student: Student | None = None  # given: the run makes a few-step student of a trained model
    sampling: Sampling = field(default_factory=Sampling)
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        if bool(self.dataset) == bool(self.datasets):
            given = "both" if self.dataset else "neither"
            raise ConfigError(f"{self.name}: {given} of dataset and datasets given; name one dataset, or list several")
        if self.student is not None:
            _check_student(self.name, self.student, self.denoiser_run)

    @property
    def sources(self) -> tuple[DatasetEntry, ...]:
        """The datasets, however they were given."""
        return self.datasets or (DatasetEntry(self.dataset),)


def load_train_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainConfig:
    """Read a run's YAML; ``overrides`` replace top-level keys.

    Raises:
        ConfigError: unreadable, not a mapping, unknown or missing keys.
    """
    values = read_yaml(path)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    if "dataset" in given:
        values.pop("datasets", None)  # one dataset in place of whatever the configuration names
    values.update(given)
    return train_config(values, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: unreadable, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error}); expected a training configuration") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    return values


def train_config(values: dict[str, Any], where: str) -> TrainConfig:
    """A mapping to a checked configuration; ``where`` names it in errors.

    Raises:
        ConfigError: unknown or missing keys.
    """
    values = dict(values)
    sections: tuple[tuple[str, type[Any]], ...] = (
        ("autoencoder_run", AutoencoderRun),
        ("denoiser_run", DenoiserRun),
        ("sampling", Sampling),
        ("watch", Watch),
    )
    for key, kind in sections:
        values[key] = kind(**read_fields(kind, values.get(key, {}), f"{where}: {key}"))
    if values.get("student") is not None:
        student = Student(**read_fields(Student, values["student"], f"{where}: student"))
        run = values["denoiser_run"]
        values["student"] = student
        values["denoiser_run"] = replace(run, init_from=run.init_from or student.teacher)
    values = read_fields(TrainConfig, values, where)
    values["datasets"] = tuple(
        DatasetEntry(
            **read_fields(DatasetEntry, {"path": item} if isinstance(item, str) else item, f"{where}: datasets")
        )
        for item in values.get("datasets", ())
    )
    return TrainConfig(**values)


def _check_student(name: str, student: Student, run: DenoiserRun) -> None:
    if run.init_from != student.teacher:
        raise ConfigError(
            f"{name}: a student starts from its teacher {student.teacher}, denoiser_run.init_from says "
            f"{run.init_from or 'nothing'}; leave init_from out"
        )
    if run.from_scratch:
        raise ConfigError(f"{name}: a student has its teacher's weights; leave denoiser_run.from_scratch out")
    if run.diffusion_forcing:
        raise ConfigError(
            f"{name}: consistency tuning moves a whole clip along its path, one noise level for all frames; leave "
            "denoiser_run.diffusion_forcing out"
        )
    if run.steps < student.stages:
        raise ConfigError(
            f"{name}: {run.steps} steps are fewer than the student's {student.stages} stages; take at least as many"
        )
