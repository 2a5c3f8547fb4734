"""One camera topic by raw or compressed transport, or whichever delivers. Knows rclpy; decodes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from egowm_core.errors import DataError
from egowm_nodes.runtime.diagnostics import InputWatch
from egowm_nodes.runtime.wire_image import WireImage

if TYPE_CHECKING:
    from egowm_nodes.runtime.managed_node import ManagedNode

TRANSPORTS = ("both", "raw", "compressed")
_TAKE_OVER_S = 1.0
_HEARD, _LOST = "images_heard", "images_lost"


class ImageInput:
    """Subscribes to ``image`` and/or ``image/compressed`` of ``node`` and calls ``take(WireImage, arrived_s)``.

    With ``both``, the transport that delivers first is taken and the other ignored until the first has been silent for
    a second: the same picture never counts twice. ``arrived_s`` is steady time. The queues are short: under a flood the
    newest pictures win, and those that the transport gave up are counted.
    """

    def __init__(
        self, node: ManagedNode[Any], transport: str, take: Callable[[Any, float], None], *, timeout_s: float
    ) -> None:
        self._node, self._take = node, take
        self._speaker: str | None = None
        self._heard_s = 0.0
        self.lost = 0
        kinds = {"raw": ("image", Image), "compressed": ("image/compressed", CompressedImage)}
        chosen = kinds if transport == "both" else {transport: kinds[transport]}
        self._subscriptions = [
            node.create_subscription(
                kind,
                topic,
                self._listener(name, kind),
                qos_profile_sensor_data,
                raw=True,
                event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost),
            )
            for name, (topic, kind) in chosen.items()
        ]
        topics = " or ".join(subscription.topic_name for subscription in self._subscriptions)
        self.watch = InputWatch("image", topics, time.monotonic, timeout_s=timeout_s)
        node.counters[_HEARD] = lambda: self.watch.meter.count
        node.counters[_LOST] = lambda: self.lost

    def missing(self) -> str | None:
        """What is wrong with the input, in words; None when pictures come."""
        count = sum(self._node.count_publishers(subscription.topic_name) for subscription in self._subscriptions)
        return self.watch.missing(publishers=count)

    @property
    def transport(self) -> str:
        """Which transport delivers: raw, compressed or none."""
        return self._speaker or "none"

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        for name in (_HEARD, _LOST):
            self._node.counters.pop(name, None)

    def _on_lost(self, event: Any) -> None:
        self.lost += int(event.total_count_change)

    def _listener(self, name: str, kind: type[Any]) -> Callable[[bytes], None]:
        def listen(data: bytes) -> None:
            now_s = time.monotonic()
            if self._speaker not in (None, name) and now_s - self._heard_s < _TAKE_OVER_S:
                return
            try:
                message = WireImage(kind, data)
            except DataError as error:
                self._node.report("input: wire", f"image skipped: {error}")
                return
            self._speaker, self._heard_s = name, now_s
            self.watch.arrived()
            self._take(message, now_s)

        return listen
