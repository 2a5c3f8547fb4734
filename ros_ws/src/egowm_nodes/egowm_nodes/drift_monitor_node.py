"""``drift_monitor``: does the camera see what was predicted? Scores rollouts against reality, live.

A lifecycle node around plain parts: ``frame_buffer`` (pictures by stamp), ``judging`` (one comparison),
``drift_watch`` (the state), ``worker`` (scoring off the callback thread; the newest rollout wins).

    python -m egowm_nodes.drift_monitor_node --ros-args -p auto_start:=true -r rollouts:=world_model/rollout

Subscribes image, image/compressed and rollouts. Publishes ~/drift for every rollout judged: the state rests on rollouts
of *executed* actions alone, so that a robot that changes its plan isn't called drift; planned and held ones are judged
when they fall due and carry their own scores under that same state. Also ~/overlay and /diagnostics; service ~/reset.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
from egowm_msgs.msg import Drift as DriftMsg
from egowm_msgs.msg import Rollout as RolloutMsg
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from egowm_core.errors import EgowmError
from egowm_core.scs import DenseFlowTracker, DriftReport, DriftState, draw_overlay
from egowm_core.types import ActionSource, Rollout
from egowm_nodes import conversions
from egowm_nodes.diagnostics import Durations, InputWatch, RateMeter, Status
from egowm_nodes.drift_monitor_params import DriftMonitorParams
from egowm_nodes.drift_monitor_status import drift_status, inputs_status
from egowm_nodes.drift_watch import DriftWatch
from egowm_nodes.frame_buffer import FrameBuffer
from egowm_nodes.image_input import ImageInput
from egowm_nodes.judging import Judgement, compare, due_ns, judge_comparison, tolerance_ns
from egowm_nodes.lifecycle_main import run
from egowm_nodes.managed_node import ManagedNode
from egowm_nodes.worker import LatestWorker

EXECUTED, PLANNED = "executed", "planned"
WATCH_PERIOD_S = 0.5
_QUIET = (DriftState.OK, DriftState.UNDEFINED)


class DriftMonitorNode(ManagedNode[DriftMonitorParams]):
    """See the module. Publishers exist while configured; buffer, detector and worker while active."""

    def __init__(self) -> None:
        super().__init__("drift_monitor", DriftMonitorParams)
        self._outputs: list[Any] = []
        self._reset_service: Any = None
        self._images: ImageInput | None = None
        self._subscription: Any = None
        self._timer: Any = None
        self._worker: LatestWorker[tuple[Rollout, int]] | None = None

    # ---- lifecycle ----------------------------------------------------------------------------------------------

    def configure(self) -> None:
        if self.parameters.num_threads:
            cv2.setNumThreads(self.parameters.num_threads)
        self._drift = self.create_lifecycle_publisher(DriftMsg, "~/drift", QoSProfile(depth=10))
        self._overlay = self.create_lifecycle_publisher(Image, "~/overlay", qos_profile_sensor_data)
        self._outputs = [self._drift, self._overlay]
        self._reset_service = self.create_service(Trigger, "~/reset", self._on_reset)

    def activate(self) -> None:
        p = self.parameters
        self._buffer = FrameBuffer(keep_s=p.buffer_s, max_bytes=p.buffer_mb << 20)
        self._watch = DriftWatch(p.limits(), time.monotonic)
        self._tracker = DenseFlowTracker()
        self._waiting: dict[str, Rollout] = {}  # by slot, until the camera has caught up
        self._executed_seen = 0
        self._planned_taken_ns: int | None = None
        self._frame_id = ""
        self._logged = DriftState.UNDEFINED
        self._judged = RateMeter(time.monotonic)
        self._scoring = Durations()
        self._counts: Counter[str] = Counter()
        self._last: dict[str, Judgement] = {}
        self._worker = LatestWorker(
            self._judge, slots=(EXECUTED, PLANNED), on_error=self._judging_failed, name="scoring"
        )
        self._images = ImageInput(self, p.image_transport, self._on_image, timeout_s=p.input_timeout_s)
        self._subscription = self.create_subscription(RolloutMsg, "rollouts", self._on_rollout, QoSProfile(depth=5))
        self._rollout_watch = InputWatch(
            "rollout", self._subscription.topic_name, time.monotonic, timeout_s=p.stale_after_s
        )
        self._timer = self.create_timer(WATCH_PERIOD_S, self._check, clock=self._steady)

    def deactivate(self) -> None:
        if self._images is not None:
            self._images.close()
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._worker is not None and not self._worker.close():
            self.get_logger().error("the scoring thread did not end in time; it is left behind")
        self._images = self._subscription = self._timer = self._worker = None

    def cleanup(self) -> None:
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        if self._reset_service is not None:
            self.destroy_service(self._reset_service)
        self._outputs, self._reset_service = [], None

    # ---- inputs, on the executor's thread -----------------------------------------------------------------------

    def _on_image(self, message: Any, _arrived_s: float) -> None:
        if self._worker is None:
            return
        self._frame_id = message.header.frame_id
        backwards = self._buffer.backwards
        try:
            reset = self._buffer.add(message)
        except EgowmError as error:
            self.report("input: image", f"image skipped: {error}")
            return
        if self._buffer.backwards > backwards:
            self.report(
                "input: stamps", "image skipped: its stamp is not later than the last; check the camera's clock"
            )
        if reset:
            self._forget("the image stamps jumped back: the clock was reset, started over")
        self._submit_due()

    def _on_rollout(self, message: RolloutMsg) -> None:
        if self._worker is None:
            return
        self._rollout_watch.arrived()
        try:
            rollout = conversions.rollout_from_message(message)
        except EgowmError as error:
            self.report("input: rollout", f"rollout skipped: {error}")
            return
        self._buffer.fit(*rollout.frames.images.shape[1:3])
        first_ns = self._buffer.first_ns
        if first_ns is None or rollout.context_stamp_ns < first_ns - tolerance_ns(rollout):
            self._counts["from before the first image"] += 1
            return
        if rollout.actions.source is ActionSource.EXECUTED:
            self._executed_seen += 1
            if (self._executed_seen - 1) % self.parameters.score_every == 0:
                self._waiting[EXECUTED] = rollout
        elif self._wants_planned(rollout.context_stamp_ns):
            self._planned_taken_ns = rollout.context_stamp_ns
            self._waiting[PLANNED] = rollout
        self._submit_due()

    def _wants_planned(self, context_ns: int) -> bool:
        period_s, last_ns = self.parameters.planned_period_s, self._planned_taken_ns
        if not period_s or PLANNED in self._waiting:
            return False
        return last_ns is None or abs(context_ns - last_ns) >= period_s * 1e9

    def _submit_due(self) -> None:
        """Hand over the rollouts whose frames the camera has caught up with."""
        newest_ns = self._buffer.newest_ns
        if newest_ns is None or self._worker is None:
            return
        for slot in [slot for slot, r in self._waiting.items() if due_ns(r, self.parameters.horizons) <= newest_ns]:
            self._worker.offer(slot, (self._waiting.pop(slot), self._watch.generation))

    def _forget(self, why: str) -> None:
        self._waiting.clear()
        self._planned_taken_ns = None
        self._watch.reset()
        self.report("input: reset", why)

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._worker is None:
            response.success, response.message = False, f"the node is {self.lifecycle_state}, there is nothing to reset"
            return response
        self._waiting.clear()
        self._watch.reset()
        response.success = True
        response.message = f"baseline and scores forgotten; learning anew from {self.parameters.learn} scores"
        self.get_logger().info(response.message)
        return response

    def _check(self) -> None:
        """Say when scores have stopped coming."""
        before = self._watch.stale
        report = self._watch.check()
        if self._watch.stale and not before:
            self._log_change(report)
            stamp_ns = self._buffer.newest_ns or 0
            self._publish(report, ActionSource.EXECUTED, stamp_ns, report.stamp_ns or 0, None)

    # ---- scoring, on the worker's thread ------------------------------------------------------------------------

    def _judge(self, task: tuple[Rollout, int]) -> None:
        rollout, generation = task
        p, started_s = self.parameters, time.monotonic()
        comparison = compare(rollout, p.horizons, self._buffer.frame)
        judgement = judge_comparison(comparison, p.horizons, max_structures=p.max_structures, tracker=self._tracker)
        self._scoring.add(time.monotonic() - started_s)
        self._judged.tick()
        self._last[judgement.source.value] = judgement
        executed = judgement.source is ActionSource.EXECUTED
        if executed:
            report = self._watch.score(judgement.scs, judgement.newest_stamp_ns, generation=generation)
            self._log_change(report)
        else:
            report = self._watch.report
        self._publish(report, judgement.source, judgement.newest_stamp_ns, judgement.context_stamp_ns, judgement)
        if executed and self._overlay.get_subscription_count():
            picture = draw_overlay(
                judgement.newest, judgement.predicted_masks, judgement.observed_masks, factor=p.overlay_scale
            )
            self._overlay.publish(conversions.image_message(picture, judgement.newest_stamp_ns, self._frame_id))

    def _log_change(self, report: DriftReport) -> None:
        if report.state is self._logged:
            return
        self._logged = report.state
        text = f"drift is {report.state.value}: {report.reason}"
        if report.state in _QUIET:
            self.get_logger().info(text)
        else:  # a line of its own: rclpy refuses another severity from the same line
            self.get_logger().warning(text)

    def _judging_failed(self, error: Exception) -> None:
        if isinstance(error, EgowmError):
            self._counts["not judged"] += 1
            self.report("scoring: skipped", str(error))
        else:
            self._counts["failed"] += 1
            self.report("scoring: failed", f"scoring failed: {type(error).__name__}: {error}")

    def _publish(
        self, report: DriftReport, source: ActionSource, stamp_ns: int, context_ns: int, judgement: Judgement | None
    ) -> None:
        self._drift.publish(
            conversions.drift_message(
                stamp_ns=stamp_ns,
                frame_id=self._frame_id,
                state=report.state,
                reason=report.reason,
                source=source,
                context_stamp_ns=context_ns,
                scs={} if judgement is None else judgement.scs,
                num_structures={} if judgement is None else judgement.num_structures,
                psnr={} if judgement is None else judgement.psnr,
                baseline=self._watch.baseline(),
            )
        )

    # ---- diagnostics --------------------------------------------------------------------------------------------

    def statuses(self) -> list[Status]:
        if self._images is None or self._worker is None:
            return []
        publishers = self.count_publishers(self._rollout_watch.topic)
        found = [self._images.missing(), self._rollout_watch.missing(publishers=publishers)]
        missing = [text for text in found if text is not None]
        for text in missing:
            self.report(f"missing: {text.split(' for ')[0]}", text)
        figures = {
            "images_hz": f"{self._images.watch.meter.rate_hz():.1f}",
            "transport": self._images.transport,
            "rollouts_hz": f"{self._rollout_watch.meter.rate_hz():.2f}",
            "judged_hz": f"{self._judged.rate_hz():.2f}",
            "judged": str(self._judged.count),
            "scoring_ms p50 / p99": self._scoring.text(),
            "replaced executed": str(self._worker.replaced[EXECUTED]),
            "replaced planned": str(self._worker.replaced[PLANNED]),
            "buffered": f"{len(self._buffer)} images, {self._buffer.bytes / 2**20:.1f} MB",
        }
        figures |= {f"skipped: {reason}": str(count) for reason, count in sorted(self._counts.items())}
        return [
            inputs_status(missing, self.notices.recent(), figures),
            drift_status(self._watch.report, self._watch.baseline(), dict(self._last)),
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(DriftMonitorNode, argv, name="drift_monitor")


if __name__ == "__main__":
    sys.exit(main())
