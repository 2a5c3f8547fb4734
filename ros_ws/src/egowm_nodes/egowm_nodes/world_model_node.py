"""``world_model``: predicts what the robot's camera will see, live, from its pictures, odometry and plan.

A lifecycle node around plain parts: ``prediction`` (messages to contexts, the model, the pictures), ``plans`` (which
actions), ``guards`` (what is fit to go in and to come out), ``runtime`` (one inference thread; the newest request
wins), ``imagine`` (alternatives, on the same thread). Callbacks never wait for the model.

    python -m egowm_nodes.world_model_node --ros-args -p auto_start:=true -p checkpoint:=embedded:base_3dof

Subscribes image, image/compressed, camera_info, the topics that the embodiment measures motion by (odom, joint_states,
...) and those that plans come by (actions, plan, joint_trajectory, cmd_vel).
Publishes ~/rollout for every tick with planned or held actions and, every ``hindsight_every`` ticks, with the executed
ones; ~/predicted/image_raw (and compressed, camera_info), one future frame per prediction stamped with its future time;
~/predicted/now, plus_1s, ...; ~/predicted/strip; /diagnostics. Serves the action ~/imagine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from egowm_msgs.msg import Rollout as RolloutMsg
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from egowm_core.channels import ActionTopic
from egowm_core.data.motion import motion_types
from egowm_core.errors import ConfigError
from egowm_core.types import ActionSequence, ActionSource, Frames
from egowm_nodes.guards.actions import ActionGuard
from egowm_nodes.guards.frames import FrameGuard
from egowm_nodes.imagine.desk import ImagineDesk
from egowm_nodes.imagine.work import Situation
from egowm_nodes.plans.chooser import ActionChooser, Choice
from egowm_nodes.plans.inputs import PlanInputs
from egowm_nodes.prediction.inference import Inference
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

LIVE, HINDSIGHT, IMAGINE = "live", "hindsight", "imagine"


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
        self._worker: LatestWorker[Request | Callable[[], None]] | None = None
        self._inference: Inference | None = None
        self._imagine: ImagineDesk | None = None

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
            compile_mode=p.compile,
            overlap=p.overlap,
        )
        robot = predictor.model.embodiment
        motion_types(robot, explicit=False)  # refuses what nothing here measures
        self._frame_guard = FrameGuard(robot.scales, mode=p.frame_guard, face_detector=p.blur_faces)
        self._check_predicted_frame(predictor)
        self._warm_up_s = predictor.warm_up()
        self._predictor = predictor
        self.hardware_id = predictor.model.name
        self._rollouts = self._output(RolloutMsg, "~/rollout", QoSProfile(depth=5))
        self._pictures = PredictedOutputs(
            predictor.model.embodiment, self._output, self.report, shown_ahead_s=p.shown_ahead_s
        )
        model = predictor.model
        self._imagine = ImagineDesk(self, model, horizon=predictor.horizon, offer=self._offer_turn)
        self.get_logger().info(
            f"{model.name} on {model.device} for {model.embodiment.name}: {predictor.horizon} frames at"
            f" {model.embodiment.rate_hz:g} Hz, a prediction takes {self._warm_up_s:.2f} s"
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
        self._hindsight_at = 0
        self._inference = Inference(
            self._predictor,
            parameters=lambda: self.parameters,
            frame_guard=self._frame_guard,
            figures=self._figures,
            rollouts=self._rollouts,
            pictures=self._pictures,
            report=self.report,
            warm_up_s=self._warm_up_s,
        )
        self._worker = LatestWorker(
            self._work, slots=(LIVE, HINDSIGHT, IMAGINE), on_error=self._inference.failed, name="inference"
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
        assert self._imagine is not None
        self._imagine.open(self._situation, lambda: None if self._live is None else self._live.picture_size)

    def deactivate(self) -> None:
        if self._imagine is not None:
            self._imagine.stop()
        for part in (self._images, self._motion, self._plans):
            if part is not None:
                part.close()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        if self._worker is not None and not self._worker.close():
            self.get_logger().error("the inference thread did not end in time; it is left behind")
        self._images, self._motion, self._plans, self._inputs = None, None, None, []
        self._worker, self._live, self._inference = None, None, None
        if self._imagine is not None:
            self._imagine.abandon()

    def answering(self) -> bool:
        return self._imagine is not None and self._imagine.answering()

    def cleanup(self) -> None:
        if self._imagine is not None:
            self._imagine.close()
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs, self._predictor, self._imagine = [], None, None

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
                request = Request(context, actions, None, arrived_s, now_s, state, self._frame_id)
                self._worker.offer(LIVE, request)
        every = self.parameters.hindsight_every
        if every and live.num_ticks - self._hindsight_at >= every and (sample := live.hindsight()) is not None:
            self._hindsight_at = live.num_ticks
            executed = ActionSequence(sample.actions, ActionSource.EXECUTED)
            then = Frames(sample.context_images, sample.context_stamps)
            state = live.state_at(int(then.stamps_ns[-1]))
            request = Request(then, executed, sample.future_stamps, None, now_s, state, self._frame_id)
            self._worker.offer(HINDSIGHT, request)

    # ---- the inference thread -----------------------------------------------------------------------------------

    def _work(self, item: Request | Callable[[], None]) -> None:
        """A request, or a turn of imagine; live predictions, hindsight and imagine take turns."""
        if isinstance(item, Request):
            assert self._inference is not None
            self._inference(item)
        else:
            item()

    def _offer_turn(self, turn: Callable[[], None]) -> None:
        if (worker := self._worker) is not None:
            worker.offer(IMAGINE, turn)

    def _situation(self) -> Situation | None:
        """The newest context, for imagine; called on the executor's thread."""
        if self._live is None or (context := self._live.context()) is None:
            return None
        return Situation(context, self._live.state_at(int(context.stamps_ns[-1])), self._frame_id)

    # ---- diagnostics --------------------------------------------------------------------------------------------

    def statuses(self) -> list[Status]:
        if self._live is None or self._images is None or self._motion is None or self._worker is None:
            return []
        assert self._predictor is not None and self._plans is not None
        assert self._inference is not None and self._imagine is not None
        missing = [self._images.missing(), self._motion.missing()]
        for text in missing:
            if text is not None:
                self.report(f"missing: {text.split(' for ')[0]}", text)
        statuses = world_model_statuses(
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
            deadline=self._inference.deadline,
        )
        return [*statuses, self._imagine.status()]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(WorldModelNode, argv, name="world_model")


if __name__ == "__main__":
    sys.exit(main())
