"""``world_model``: predicts what the robot's camera will see, live, from its pictures, odometry and plan.

A lifecycle node around plain parts: ``prediction`` (messages to contexts, the model, the pictures), ``plans`` (which
actions), ``guards`` (what is fit to go in and to come out), ``runtime`` (one inference thread; the newest request
wins). Callbacks never wait for the model.

    python -m egowm_nodes.world_model_node --ros-args -p auto_start:=true -p checkpoint:=embedded:base_3dof

Subscribes image, image/compressed, camera_info, the topics that the embodiment measures motion by (odom, joint_states,
...) and those that plans come by (actions, plan, joint_trajectory, cmd_vel).
Publishes ~/rollout for every tick with planned or held actions and, every ``hindsight_every`` ticks, with the executed
ones; ~/predicted/image_raw (and compressed, camera_info), one future frame per prediction stamped with its future time;
~/predicted/now, plus_1s, ...; ~/predicted/strip; /diagnostics.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from egowm_msgs.msg import Rollout as RolloutMsg
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from egowm_core.channels import ActionTopic
from egowm_core.data.motion import motion_types
from egowm_core.errors import ConfigError, NotFiniteError
from egowm_core.types import ActionSequence, ActionSource, Frames
from egowm_nodes import conversions
from egowm_nodes.guards.actions import ActionGuard
from egowm_nodes.guards.frames import FrameGuard
from egowm_nodes.plans.chooser import ActionChooser, Choice
from egowm_nodes.plans.inputs import PlanInputs
from egowm_nodes.prediction.live_context import LiveContext, Progress
from egowm_nodes.prediction.motion_inputs import MotionInputs
from egowm_nodes.prediction.outputs import PredictedOutputs
from egowm_nodes.prediction.params import WorldModelParams
from egowm_nodes.prediction.predictor import Predictor, Request
from egowm_nodes.prediction.status import Figures, world_model_statuses
from egowm_nodes.runtime.diagnostics import Status
from egowm_nodes.runtime.image_input import ImageInput
from egowm_nodes.runtime.lifecycle_main import run
from egowm_nodes.runtime.managed_node import ManagedNode
from egowm_nodes.runtime.worker import LatestWorker

LIVE, HINDSIGHT = "live", "hindsight"


class WorldModelNode(ManagedNode[WorldModelParams]):
    """See the module. The model exists while configured; subscriptions and the inference thread while active."""

    def __init__(self) -> None:
        super().__init__("world_model", WorldModelParams)
        self._predictor: Predictor | None = None
        self._outputs: list[Any] = []
        self._inputs: list[Any] = []
        self._images: ImageInput | None = None
        self._motion: MotionInputs | None = None
        self._plans: PlanInputs | None = None
        self._live: LiveContext | None = None
        self._worker: LatestWorker[Request] | None = None

    # ---- lifecycle ----------------------------------------------------------------------------------------------

    def configure(self) -> None:
        p = self.parameters
        predictor = Predictor(
            p.checkpoint,
            embodiment=p.embodiment,
            device=p.device,
            engine=p.engine,
            horizon=p.horizon,
            tick_rate_hz=p.tick_rate_hz,
            num_threads=p.num_threads,
        )
        robot = predictor.model.embodiment
        motion_types(robot, explicit=False)  # refuses what nothing here measures
        self._frame_guard = FrameGuard(robot.scales, mode=p.frame_guard, face_detector=p.blur_faces)
        self._check_predicted_frame(predictor)
        took_s = predictor.warm_up()
        self._predictor = predictor
        self.hardware_id = predictor.model.name
        self._rollouts = self._output(RolloutMsg, "~/rollout", QoSProfile(depth=5))
        self._pictures = PredictedOutputs(
            predictor.model.embodiment, self._output, self.report, shown_ahead_s=p.shown_ahead_s
        )
        model = predictor.model
        self.get_logger().info(
            f"{model.name} on {model.device} for {model.embodiment.name}: {predictor.horizon} frames at"
            f" {model.embodiment.rate_hz:g} Hz, a prediction takes {took_s:.2f} s"
        )

    def activate(self) -> None:
        assert self._predictor is not None
        p, model = self.parameters, self._predictor.model
        self._live = LiveContext(
            model.embodiment,
            context_frames=model.context_frames,
            horizon=self._predictor.horizon,
            image_lag_s=p.image_lag_s,
        )
        self._chooser = ActionChooser(
            model.embodiment,
            horizon=self._predictor.horizon,
            plan_timeout_s=p.plan_timeout_s,
            hold_last_command=p.hold_last_command,
            command_timeout_s=p.command_timeout_s,
            source=p.plan_source,
            extension=p.plan_extension,
            image_lag_s=p.image_lag_s,
            guard=ActionGuard(model.embodiment, p.action_guard),
        )
        self._figures = Figures(time.monotonic)
        self._choice: Choice | None = None
        self._frame_id = model.embodiment.camera().optical_frame
        self._sequence = 0
        self._hindsight_at = 0
        self._worker = LatestWorker(
            self._infer, slots=(LIVE, HINDSIGHT), on_error=self._inference_failed, name="inference"
        )
        self._images = ImageInput(self, p.image_transport, self._on_image, timeout_s=p.input_timeout_s)
        self._motion = MotionInputs(self, model.embodiment, self._on_motion, timeout_s=p.input_timeout_s)
        self._inputs = [
            self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos_profile_sensor_data)
        ]
        self._plans = PlanInputs(
            self,
            model.embodiment,
            self._chooser,
            newest_frame_ns=self._newest_frame_ns,
            report=self.report,
            speed_mps=p.plan_speed_mps,
            image_lag_s=p.image_lag_s,
            stamped_commands=p.cmd_vel_stamped,
        )

    def deactivate(self) -> None:
        for part in (self._images, self._motion, self._plans):
            if part is not None:
                part.close()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        if self._worker is not None and not self._worker.close():
            self.get_logger().error("the inference thread did not end in time; it is left behind")
        self._images, self._motion, self._plans, self._inputs = None, None, None, []
        self._worker, self._live = None, None

    def cleanup(self) -> None:
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs, self._predictor = [], None

    def parameters_changed(self) -> None:
        p = self.parameters
        if self._predictor is not None:
            self._check_predicted_frame(self._predictor)
            self._frame_guard.mode = p.frame_guard
        if self._live is not None:
            self._chooser.plan_timeout_s, self._chooser.hold_last_command = p.plan_timeout_s, p.hold_last_command
            self._chooser.command_timeout_s, self._chooser.extension = p.command_timeout_s, p.plan_extension
            self._chooser.guard.mode = p.action_guard

    def _output(self, kind: type[Any], topic: str, qos: QoSProfile) -> Any:
        self._outputs.append(self.create_lifecycle_publisher(kind, topic, qos))
        return self._outputs[-1]

    def _check_predicted_frame(self, predictor: Predictor) -> None:
        if self.parameters.predicted_frame > predictor.horizon:
            raise ConfigError(
                f"parameter predicted_frame is {self.parameters.predicted_frame}; expected 0..{predictor.horizon}, the"
                " frames of one prediction"
            )

    # ---- inputs, on the executor's thread -----------------------------------------------------------------------

    def _on_image(self, message: Any, arrived_s: float) -> None:
        if self._live is None:
            return
        self._frame_id = message.header.frame_id or self._frame_id
        self._advance(self._live.add_image(message, arrived_s=arrived_s))

    def _on_motion(self, source: ActionTopic, message: Any) -> None:
        if self._live is None or self._plans is None:
            return
        self._plans.add_motion(message, source.type)
        now_ns = self.get_clock().now().nanoseconds
        self._advance(self._live.add_motion(message, source.type, topic=source.topic, received_ns=now_ns))

    def _newest_frame_ns(self) -> int | None:
        return None if self._live is None else self._live.newest_ns

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._pictures.camera_info = message

    def _advance(self, progress: Progress) -> None:
        """Hand over what the new ticks, if any, make possible."""
        assert self._live is not None and self._worker is not None and self._plans is not None
        for skip in progress.skips:
            self.report(f"input: {skip.key}", skip.text)
        if progress.clock_reset:
            self._plans.clock_reset()
        if not progress.ticks:
            return
        now_s, live = time.monotonic(), self._live
        for _ in range(progress.ticks):
            self._figures.ticks.tick()
        if (context := live.context()) is not None:
            at_ns = int(context.stamps_ns[-1])
            self._pictures.due(at_ns, self._frame_id)
            state = live.state_at(at_ns)
            self._choice = self._chooser.choose(
                at_ns, live.last_action, now_s=now_s, state=state, pose=self._plans.pose_at(at_ns)
            )
            for text in self._chooser.unused.values():
                self.report("plan: unused", text)
            if self._choice is not None:
                actions, arrived_s = self._choice.actions, live.newest_arrived_s
                self._worker.offer(LIVE, Request(context, actions, None, arrived_s, offered_s=now_s, state=state))
        every = self.parameters.hindsight_every
        if every and live.num_ticks - self._hindsight_at >= every and (sample := live.hindsight()) is not None:
            self._hindsight_at = live.num_ticks
            executed = ActionSequence(sample.actions, ActionSource.EXECUTED)
            then = Frames(sample.context_images, sample.context_stamps)
            state = live.state_at(int(then.stamps_ns[-1]))
            request = Request(then, executed, sample.future_stamps, offered_s=now_s, state=state)
            self._worker.offer(HINDSIGHT, request)

    # ---- predictions, on the inference thread -------------------------------------------------------------------

    def _infer(self, request: Request) -> None:
        assert self._predictor is not None
        p, model, figures = self.parameters, self._predictor.model, self._figures
        started_s = time.monotonic()
        rollout = self._predictor.predict(request, seed=p.seed, num_denoising_steps=p.num_denoising_steps)
        predicted_s = time.monotonic()
        checked = self._frame_guard.check(rollout, request.context.images[-1])
        for kind, text in checked.found.items():
            self.report(f"guard: {kind}", text)
        if not checked.fit:
            return
        rollout = checked.rollout
        self._rollouts.publish(
            conversions.rollout_message(
                rollout,
                model=model.name,
                embodiment=model.embodiment,
                frame_id=self._frame_id,
                sequence=self._sequence,
            )
        )
        self._sequence += 1
        published_s = time.monotonic()
        figures.model.add(predicted_s - started_s)
        if request.observed_stamps_ns is not None:
            figures.hindsight.tick()
            return
        figures.live.tick()
        if request.arrived_s is not None:
            figures.latency.add(published_s - request.arrived_s)
            figures.waiting.add(request.offered_s - request.arrived_s)
        figures.queued.add(started_s - request.offered_s)
        figures.overhead.add(published_s - predicted_s)
        self._pictures.show(
            rollout,
            Frames(checked.context[None], request.context.stamps_ns[-1:]),
            number=p.predicted_frame,
            strip_step_s=p.strip_step_s,
            frame_id=self._frame_id,
        )

    def _inference_failed(self, error: Exception) -> None:
        self._figures.failures += 1
        if isinstance(error, NotFiniteError):
            self._frame_guard.not_finite()
        self.report("inference: failed", f"a prediction failed: {type(error).__name__}: {error}")

    # ---- diagnostics --------------------------------------------------------------------------------------------

    def statuses(self) -> list[Status]:
        if self._live is None or self._images is None or self._motion is None or self._worker is None:
            return []
        assert self._predictor is not None and self._plans is not None
        missing = [self._images.missing(), self._motion.missing()]
        for text in missing:
            if text is not None:
                self.report(f"missing: {text.split(' for ')[0]}", text)
        return world_model_statuses(
            parameters=self.parameters,
            predictor=self._predictor,
            figures=self._figures,
            notices=self.notices,
            missing=[text for text in missing if text is not None],
            images_hz=self._images.watch.meter.rate_hz(),
            transport=self._images.transport,
            odometry_hz=self._motion.watch.meter.rate_hz(),
            drops={reason.value: count for reason, count in self._live.drops.items()},
            replaced=dict(self._worker.replaced),
            choice=self._choice,
            chooser=self._chooser,
            refused=self._plans.refused,
            frame_guard=self._frame_guard,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(WorldModelNode, argv, name="world_model")


if __name__ == "__main__":
    sys.exit(main())
