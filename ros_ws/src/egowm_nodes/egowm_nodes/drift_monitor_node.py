"""``drift_monitor``: does the camera see what was predicted? Judges rollouts against reality, live.

A lifecycle node around plain parts: ``frame_buffer`` (pictures by stamp), ``sampling`` (which rollouts are judged),
``egowm_core.drift`` (comparison, evidence, detector), ``drift.watch`` (the detector between threads and clocks),
``worker`` (scoring off the callback thread; the newest rollout wins), ``drift.outputs`` (messages and pictures).

    python -m egowm_nodes.drift_monitor_node --ros-args -p auto_start:=true -r rollouts:=world_model/rollout

Subscribes image, image/compressed and rollouts. Publishes ~/drift for every rollout judged: the state rests on rollouts
of *executed* actions alone, so that a robot that changes its plan isn't called drift; planned and held ones are judged
when they fall due and carry their own scores under that same state. What was planned is held against what was then
done. Also ~/overlay, ~/history, ~/markers and /diagnostics; service ~/reset.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
from egowm_msgs.msg import Rollout as RolloutMsg
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from egowm_core.drift import (
    DriftBaseline,
    DriftReport,
    DriftState,
    Evidence,
    compare,
    drift_tracker,
    judge_comparison,
    tolerance_ns,
)
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.given_baseline import given_baseline
from egowm_core.types import ActionSource, Rollout
from egowm_nodes import conversions
from egowm_nodes.drift.frame_buffer import FrameBuffer
from egowm_nodes.drift.outputs import DriftOutputs
from egowm_nodes.drift.params import DriftMonitorParams
from egowm_nodes.drift.sampling import SLOTS, Sampling, slot_of
from egowm_nodes.drift.status import drift_status, inputs_status, sampling_status, verdict
from egowm_nodes.drift.watch import DriftWatch
from egowm_nodes.runtime.diagnostics import CpuShare, InputWatch, Status
from egowm_nodes.runtime.image_input import ImageInput
from egowm_nodes.runtime.lifecycle_main import run
from egowm_nodes.runtime.managed_node import ManagedNode
from egowm_nodes.runtime.worker import LatestWorker

WATCH_PERIOD_S = 0.5
_QUIET = (DriftState.OK, DriftState.UNDEFINED)
_RATE_TOLERANCE = 0.02


class DriftMonitorNode(ManagedNode[DriftMonitorParams]):
    """See the module. Publishers and the baseline exist while configured; buffer, detector and worker while active."""

    def __init__(self) -> None:
        super().__init__("drift_monitor", DriftMonitorParams)
        self._publishers_made: list[Any] = []
        self._reset_service: Any = None
        self._images: ImageInput | None = None
        self._subscription: Any = None
        self._timer: Any = None
        self._worker: LatestWorker[tuple[Rollout, int]] | None = None

    # ---- lifecycle ----------------------------------------------------------------------------------------------

    def configure(self) -> None:
        p = self.parameters
        if p.num_threads:
            cv2.setNumThreads(p.num_threads)
        if not p.embodiment:
            raise ConfigError("parameter embodiment is empty; give the world model's (built-in name or YAML path)")
        self._robot: Embodiment = load_embodiment(p.embodiment)
        self._given: DriftBaseline | None = given_baseline(p.baseline, channels=self._robot.action_dim)
        self._outputs = DriftOutputs(self._output, time.monotonic)
        self._reset_service = self.create_service(Trigger, "~/reset", self._on_reset)

    def activate(self) -> None:
        p = self.parameters
        if self._given is not None and not set(p.horizons) & set(self._given.scs):
            raise ConfigError(
                f"parameter horizons is {list(p.horizons)}, the baseline {p.baseline} knows {sorted(self._given.scs)};"
                " give at least one of those"
            )
        self._buffer = FrameBuffer(keep_s=p.buffer_s, max_bytes=p.buffer_mb << 20)
        self._watch = DriftWatch(self._robot, p.limits(), time.monotonic, baseline=self._given)
        self._tracker = drift_tracker()
        self._sampling = Sampling(p.horizons, time.monotonic)
        self._rate_hz = self._robot.rate_hz
        self._frame_id, self._base_frame = "", self._robot.base_frame
        self._logged = DriftState.UNDEFINED
        self._cpu = CpuShare(time.monotonic)
        self._counts: Counter[str] = Counter()
        self._last: dict[str, Evidence] = {}
        self._outputs.start()
        self._worker = LatestWorker(self._judge, slots=SLOTS, on_error=self._judging_failed, name="scoring")
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
        for publisher in self._publishers_made:
            self.destroy_lifecycle_publisher(publisher)
        if self._reset_service is not None:
            self.destroy_service(self._reset_service)
        self._publishers_made, self._reset_service = [], None

    def _output(self, kind: type[Any], topic: str, qos: QoSProfile) -> Any:
        self._publishers_made.append(self.create_lifecycle_publisher(kind, topic, qos))
        return self._publishers_made[-1]

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
            conversions.require_robot(message, self._robot)
            rollout = conversions.rollout_from_message(message)
        except EgowmError as error:
            self._counts["refused"] += 1
            self.report("input: rollout", f"rollout skipped: {error}")
            return
        self._follow_rate(float(message.actions.rate_hz))
        self._buffer.fit(*rollout.frames.images.shape[1:3])
        p = self.parameters
        self._base_frame = message.actions.header.frame_id or self._robot.base_frame
        if rollout.actions.source is not ActionSource.EXECUTED:
            self._watch.plan(rollout.context_stamp_ns, rollout.actions.values)
            self._outputs.path(
                rollout, self._robot, self._watch.report, frame_id=self._base_frame, lifetime_s=p.marker_lifetime_s
            )
        first_ns = self._buffer.first_ns
        if first_ns is None or rollout.context_stamp_ns < first_ns - tolerance_ns(rollout):
            self._counts["from before the first image"] += 1
            return
        self._sampling.offer(rollout, every=p.score_every, planned_period_s=p.planned_period_s)
        self._submit_due()

    def _follow_rate(self, rate_hz: float) -> None:
        """Rollouts say at what rate the model ticks; it may have been told another than its embodiment's."""
        if rate_hz > 0 and abs(rate_hz / self._rate_hz - 1) > _RATE_TOLERANCE:
            self.get_logger().info(f"the model ticks at {rate_hz:g} Hz, not {self._rate_hz:g}: started over")
            self._rate_hz = rate_hz
            self._sampling.clear()
            self._watch.reset(tick_s=1.0 / rate_hz)

    def _submit_due(self) -> None:
        """Hand over the rollouts whose frames the camera has caught up with."""
        newest_ns = self._buffer.newest_ns
        if newest_ns is None or self._worker is None:
            return
        for slot, rollout in self._sampling.due(newest_ns):
            self._worker.offer(slot, (rollout, self._watch.generation))

    def _forget(self, why: str) -> None:
        self._sampling.clear()
        self._watch.reset()
        self.report("input: reset", why)

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._worker is None:
            response.success, response.message = False, f"the node is {self.lifecycle_state}, there is nothing to reset"
            return response
        self._sampling.clear()
        self._watch.reset()
        response.success = True
        response.message = "evidence forgotten; the given baseline stays"
        if self._watch.learns:
            response.message = f"baseline and evidence forgotten; learning anew for {self.parameters.learn_ticks} ticks"
        self.get_logger().info(response.message)
        return response

    def _check(self) -> None:
        """Say when comparisons have stopped coming, and draw the last minute."""
        before = self._watch.stale
        report, stamp_ns = self._watch.check(), self._buffer.newest_ns or 0
        if self._watch.stale and not before:
            self._log_change(report)
            self._outputs.silence(report, stamp_ns=stamp_ns, frame_id=self._frame_id)
        if stamp_ns:
            self._outputs.label(
                self._robot,
                report,
                stamp_ns=stamp_ns,
                frame_id=self._base_frame,
                lifetime_s=self.parameters.marker_lifetime_s,
            )
        self._outputs.history(
            report,
            stale=self._watch.stale,
            error_at=self.parameters.error_at,
            stamp_ns=stamp_ns,
            frame_id=self._frame_id,
        )

    # ---- scoring, on the worker's thread ------------------------------------------------------------------------

    def _judge(self, task: tuple[Rollout, int]) -> None:
        rollout, generation = task
        p, started_s = self.parameters, time.monotonic()
        comparison = compare(rollout, p.horizons, self._buffer.frame)
        judgement = judge_comparison(comparison, p.horizons, max_structures=p.max_structures, tracker=self._tracker)
        self._sampling.scoring.add(time.monotonic() - started_s)
        evidence = judgement.evidence
        self._sampling.judged[slot_of(evidence.source)].tick()
        self._last[evidence.source.value] = evidence
        executed = evidence.source is ActionSource.EXECUTED
        report = self._watch.judge(evidence, generation=generation) if executed else self._watch.report
        self._outputs.judged(report, judgement, self._watch.usual(evidence), frame_id=self._frame_id)
        if executed:
            self._log_change(report)
            self._outputs.overlay(report, judgement, factor=p.overlay_scale, frame_id=self._frame_id)

    def _log_change(self, report: DriftReport) -> None:
        if report.state is self._logged:
            return
        self._logged = report.state
        text = f"drift is {verdict(report, reason=True)}"
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
            "buffered": f"{len(self._buffer)} images, {self._buffer.bytes / 2**20:.1f} MB",
        }
        figures |= {f"skipped: {reason}": str(count) for reason, count in sorted(self._counts.items())}
        every, cpu_share = self.parameters.score_every, self._cpu.share()
        return [
            inputs_status(missing, self.notices.recent(), figures),
            sampling_status(self._sampling, self._worker.replaced, every=every, cpu_share=cpu_share),
            drift_status(self._watch, dict(self._last)),
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(DriftMonitorNode, argv, name="drift_monitor")


if __name__ == "__main__":
    sys.exit(main())
