"""The parameters of the world_model node, as they stand in ``config/world_model.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from egowm_nodes.guards.actions import ACTION_GUARDS
from egowm_nodes.guards.frames import FRAME_GUARDS
from egowm_nodes.plans.chooser import EXTENSIONS, PLAN_SOURCES
from egowm_nodes.runtime.image_input import TRANSPORTS
from egowm_nodes.runtime.params import Change, param


@dataclass(frozen=True, kw_only=True)
class WorldModelParams:
    """See each description; ``ros2 param describe`` shows them, too."""

    auto_start: bool = param(
        False, "configure and activate without being told by a lifecycle manager", change=Change.START
    )
    checkpoint: str = param(
        "embedded:base_3dof", "checkpoint directory, embedded:NAME or hub id", change=Change.UNCONFIGURED
    )
    embodiment: str = param(
        "base_3dof",
        "this robot (built-in name or YAML path); a checkpoint made for another is refused; empty accepts any",
        change=Change.UNCONFIGURED,
    )
    device: str = param("cpu", "torch device: cpu, cuda, cuda:1, ...", change=Change.UNCONFIGURED)
    engine: str = param(
        "torch",
        "what evaluates the networks: torch, or onnx-cpu, onnx-cuda, onnx-tensorrt for a checkpoint from egowm-export",
        change=Change.UNCONFIGURED,
    )
    compile: str = param(
        "none",
        "none, or default: networks by torch.compile; predicting takes less then, configuring minutes, and so does each"
        " number of candidates that imagine is asked for the first time",
        choices=("none", "default"),
        change=Change.UNCONFIGURED,
    )
    overlap: bool = param(
        False,
        "decode a part of a long rollout while the next is denoised: on a CPU with cores to spare, and where no"
        " geometry joins the parts",
        change=Change.UNCONFIGURED,
    )
    num_threads: int = param(
        1, "threads of torch and OpenCV, 0 leaves their own choice", low=0, high=256, change=Change.UNCONFIGURED
    )
    horizon: int = param(
        0, "frames to predict, 0 for one chunk of the checkpoint", low=0, high=256, change=Change.UNCONFIGURED
    )
    tick_rate_hz: float = param(
        0.0,
        "model ticks a second, 0 for the checkpoint's own rate; others run it outside its training (WARN)",
        low=0.0,
        high=100.0,
        change=Change.UNCONFIGURED,
    )
    num_denoising_steps: int = param(0, "sampler steps per chunk, 0 for the checkpoint's own", low=0, high=256)
    seed: int = param(0, "seed of the sampler's noise", low=0, high=2**62)
    image_transport: str = param(
        "both",
        "image, image/compressed, or whichever of both delivers",
        choices=TRANSPORTS,
        change=Change.INACTIVE,
    )
    image_lag_s: float = param(
        0.0, "how late picture stamps are against odometry", low=-2.0, high=2.0, change=Change.INACTIVE
    )
    input_timeout_s: float = param(
        2.0, "an input silent for so long is reported", low=0.1, high=3600.0, change=Change.INACTIVE
    )
    hindsight_every: int = param(
        2, "ticks between predictions from executed actions (what drift is judged by), 0 for none", low=0, high=10_000
    )
    hold_last_command: bool = param(
        True, "without a fresh plan, predict with the last cmd_vel (or else the last executed action) held"
    )
    plan_source: str = param(
        "auto",
        "which plan is used; auto: the first fresh one of actions, joint_trajectory, path, cmd_vel",
        choices=PLAN_SOURCES,
        change=Change.INACTIVE,
    )
    plan_extension: str = param(
        "auto",
        "where a plan ends before the horizon: hold its last action, stop, or refuse to predict; auto: hold for"
        " actions, stop for paths and joint trajectories",
        choices=EXTENSIONS,
    )
    plan_timeout_s: float = param(
        1.0,
        "actions stamped longer than this before the newest frame are not used; paths and joint trajectories, longer"
        " than this after their end",
        low=0.0,
        high=600.0,
    )
    plan_speed_mps: float = param(
        0.0,
        "speed along a path whose poses have no stamps, 0 for cmd_vel's or else the measured one",
        low=0.0,
        high=100.0,
        change=Change.INACTIVE,
    )
    cmd_vel_stamped: bool = param(
        False, "cmd_vel is a TwistStamped, whose age counts by its stamp", change=Change.INACTIVE
    )
    command_timeout_s: float = param(1.0, "a cmd_vel older than this is not held", low=0.0, high=600.0)
    action_guard: str = param(
        "refuse", "actions up to twice a limit are refused or clipped; beyond, always refused", choices=ACTION_GUARDS
    )
    frame_guard: str = param(
        "drop", "blank or repeated predictions are dropped, or published and reported", choices=FRAME_GUARDS
    )
    blur_faces: str = param(
        "",
        "blur faces in what is published: empty for no, builtin, or the path of a YuNet .onnx file",
        change=Change.UNCONFIGURED,
    )
    predicted_frame: int = param(
        0, "which frame of each prediction ~/predicted/image_raw shows, from 1; 0 for the last", low=0, high=256
    )
    strip_step_s: float = param(0.5, "seconds between the frames of ~/predicted/strip", low=0.01, high=60.0)
    shown_ahead_s: tuple[float, ...] = param(
        (0.0, 1.0, 2.0),
        "moments with topics of their own, ~/predicted/now (0: what was predicted for this moment), plus_1s, ...",
        change=Change.UNCONFIGURED,
    )
    budget_ms: int = param(
        0,
        "what a live prediction may take once its work begins, and one turn of imagine: denoising steps, horizon and"
        " imagine's batch are chosen to keep to it, num_denoising_steps and horizon are then the most; 0 for no budget."
        " Predictions from executed actions keep the full settings, which drift is judged by",
        low=0,
        high=60_000,
    )
    imagine_candidates: int = param(64, "most candidates of one goal of ~/imagine", low=1, high=1024)
    imagine_horizon: int = param(64, "most frames a candidate of ~/imagine is rolled out for", low=1, high=256)
    imagine_batch: int = param(
        2, "candidates that ~/imagine predicts at once, between which live predictions take their turn", low=1, high=256
    )
    imagine_queue: int = param(2, "goals of ~/imagine that may wait while one is worked on", low=0, high=32)
