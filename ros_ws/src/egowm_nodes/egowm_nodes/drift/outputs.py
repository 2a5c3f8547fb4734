"""What the drift monitor publishes: ~/drift; ~/overlay, ~/history and ~/markers, drawn only while somebody listens.

Knows rclpy's publishers and the messages; knows no detector, no queue and no lifecycle.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from egowm_msgs.msg import Drift as DriftMsg
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from egowm_core.drift import DriftReport, Judgement
from egowm_core.embodiment import Embodiment
from egowm_core.scs import draw_overlay
from egowm_core.types import ActionSource, Rollout
from egowm_nodes import conversions
from egowm_nodes.drift.history import SPAN_S, Moment, draw_history
from egowm_nodes.drift.markers import path_markers, state_marker
from egowm_nodes.drift.messages import drift_message
from egowm_nodes.drift.status import verdict
from egowm_nodes.pictures import add_caption

_MOST_MOMENTS = 2000


class DriftOutputs:
    """``create(kind, topic, qos)`` makes a publisher; ``clock`` is steady, in s. Safe to use from two threads."""

    def __init__(self, create: Callable[[type, str, Any], Any], clock: Callable[[], float]) -> None:
        self._drift = create(DriftMsg, "~/drift", QoSProfile(depth=10))
        self._overlay = create(Image, "~/overlay", qos_profile_sensor_data)
        self._history = create(Image, "~/history", qos_profile_sensor_data)
        self._markers = create(MarkerArray, "~/markers", QoSProfile(depth=5))
        self._clock = clock
        self._lock = threading.Lock()
        self._moments: deque[Moment] = deque(maxlen=_MOST_MOMENTS)

    def start(self) -> None:
        """Begin a new history."""
        with self._lock:
            self._moments.clear()

    def judged(self, report: DriftReport, judgement: Judgement, usual: dict[int, float], *, frame_id: str) -> None:
        """Publish one judgement under the state of ``report``; ``usual``: SCS by horizon for such motion."""
        evidence = judgement.evidence
        self._remember(report, evidence.source, evidence.scs, usual)
        self._drift.publish(
            drift_message(
                report,
                stamp_ns=int(evidence.stamps_ns[-1]),
                frame_id=frame_id,
                source=evidence.source,
                context_stamp_ns=evidence.context_stamp_ns,
                scs=evidence.scs,
                baseline_scs=usual,
                num_structures=evidence.num_structures,
                psnr=evidence.psnr,
            )
        )

    def silence(self, report: DriftReport, *, stamp_ns: int, frame_id: str) -> None:
        """Publish a state that no comparison made: they have stopped coming."""
        self._drift.publish(
            drift_message(
                report,
                stamp_ns=stamp_ns,
                frame_id=frame_id,
                source=ActionSource.EXECUTED,
                context_stamp_ns=report.stamp_ns or 0,
                scs={},
                baseline_scs={},
                num_structures={},
                psnr={},
            )
        )

    def overlay(self, report: DriftReport, judgement: Judgement, *, factor: int, frame_id: str) -> None:
        """Publish the newest frame with predicted masks blue and observed red, over the state in words."""
        if not self._overlay.get_subscription_count():
            return
        picture = draw_overlay(judgement.newest, judgement.predicted_masks, judgement.observed_masks, factor=factor)
        scs = judgement.evidence.scs
        scores = ", ".join(f"{score:.0f} at {h}" for h, score in scs.items() if math.isfinite(score))
        captioned = add_caption(picture, report.state.value, f"{verdict(report)}   SCS {scores or '-'}")
        stamp_ns = int(judgement.evidence.stamps_ns[-1])
        self._overlay.publish(conversions.image_message(captioned, stamp_ns, frame_id))

    def history(self, report: DriftReport, *, stale: bool, error_at: float, stamp_ns: int, frame_id: str) -> None:
        """Publish the last minute as a plot; ``stale``: silence is a moment, too."""
        if stale:
            self._remember(report, ActionSource.EXECUTED, {}, {})
        if not self._history.get_subscription_count():
            return
        with self._lock:
            moments = list(self._moments)
        picture = draw_history(moments, now_s=self._clock(), error_at=error_at)
        self._history.publish(conversions.image_message(picture, stamp_ns, frame_id))

    def path(
        self, rollout: Rollout, robot: Embodiment, report: DriftReport, *, frame_id: str, lifetime_s: float
    ) -> None:
        """Publish where the actions of a planned or held rollout lead, coloured by ``report``."""
        if self._markers.get_subscription_count():
            message = path_markers(rollout, robot, report, frame_id=frame_id, lifetime_s=lifetime_s)
            if message.markers:
                self._markers.publish(message)

    def label(self, robot: Embodiment, report: DriftReport, *, stamp_ns: int, frame_id: str, lifetime_s: float) -> None:
        """Publish the state in words above the robot."""
        if self._markers.get_subscription_count():
            text = state_marker(robot, report, stamp_ns=stamp_ns, frame_id=frame_id, lifetime_s=lifetime_s)
            self._markers.publish(MarkerArray(markers=[text]))

    def _remember(
        self, report: DriftReport, source: ActionSource, scs: dict[int, float], usual: dict[int, float]
    ) -> None:
        now_s = self._clock()
        executed = source is ActionSource.EXECUTED
        with self._lock:
            self._moments.append(Moment(now_s, report.state, report.cause, report.alarm, executed, scs, usual))
            while self._moments[0].at_s < now_s - SPAN_S:
                self._moments.popleft()
