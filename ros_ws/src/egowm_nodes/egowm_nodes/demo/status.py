"""What is going on, while it goes on: rates, latency, SCS and state, on a terminal or line by line.

Hears messages as the recorder gets them; knows message types, no topic names and no processes.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections import OrderedDict, deque
from statistics import median
from typing import Any, TextIO

from rclpy.serialization import deserialize_message

from egowm_nodes.demo.recorder import header_stamp_ns, message_class

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ROLLOUT, DRIFT = "egowm_msgs/msg/Rollout", "egowm_msgs/msg/Drift"
MOTIONS = {"nav_msgs/msg/Odometry": "odom", "sensor_msgs/msg/JointState": "joints"}  # and what they are called
RATE_WINDOW_S = 5.0
REMEMBERED_IMAGES = 400
PLAIN_PERIOD_S = 5.0
STATES = ("OK", "WARN", "ERROR", "STALE", "UNDEFINED")


class Meter:
    """Events a second over the last ``RATE_WINDOW_S``."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self.count = 0

    def tick(self, now_s: float) -> None:
        self.count += 1
        self._times.append(now_s)
        self._forget(now_s)

    def rate_hz(self, now_s: float) -> float:
        self._forget(now_s)
        return len(self._times) / RATE_WINDOW_S

    def _forget(self, now_s: float) -> None:
        while self._times and self._times[0] < now_s - RATE_WINDOW_S:
            self._times.popleft()


class Monitor:
    """Figures of the running demo, from raw messages. ``camera`` is the topic that the robot's images come on."""

    def __init__(self, cameras: tuple[str, ...]) -> None:
        self._cameras = cameras
        self._seen: OrderedDict[int, int] = OrderedDict()  # image stamp -> received_ns
        self.meters = {name: Meter() for name in ("camera", "rollout", "drift", *MOTIONS.values())}
        self.latencies_s: deque[float] = deque(maxlen=50)
        self.drift: Any = None
        self._drift_class = message_class(DRIFT)

    def hear(self, topic: str, kind: str, data: bytes, received_ns: int) -> None:
        """Take one message."""
        now_s = received_ns * 1e-9
        if topic in self._cameras:
            self.meters["camera"].tick(now_s)
            self._seen[header_stamp_ns(data)] = received_ns
            if len(self._seen) > REMEMBERED_IMAGES:
                self._seen.popitem(last=False)
        elif kind in MOTIONS:
            self.meters[MOTIONS[kind]].tick(now_s)
        elif kind == ROLLOUT:
            self.meters["rollout"].tick(now_s)
            seen_ns = self._seen.get(header_stamp_ns(data))
            if seen_ns is not None:
                self.latencies_s.append((received_ns - seen_ns) * 1e-9)
        elif kind == DRIFT:
            self.meters["drift"].tick(now_s)
            self.drift = deserialize_message(data, self._drift_class)

    def line(self, elapsed_s: float, seconds: float) -> str:
        """Everything in one line."""
        now_s = time.time()
        rates = {name: meter.rate_hz(now_s) for name, meter in self.meters.items()}
        latency = f"{median(self.latencies_s):.2f} s" if self.latencies_s else "-"
        motions = [name for name in MOTIONS.values() if self.meters[name].count] or ["odom"]
        moved = " | ".join(f"{name} {rates[name]:4.1f} Hz" for name in motions)
        whole = f"/{seconds:.0f}" if math.isfinite(seconds) else ""
        return (
            f"{elapsed_s:4.0f}{whole} s | camera {rates['camera']:4.1f} Hz | {moved} | "
            f"rollouts {self.meters['rollout'].count:4d}, {rates['rollout']:3.1f} Hz, latency {latency} | "
            f"{self.verdict()}"
        )

    def verdict(self) -> str:
        """State and SCS in a few words."""
        if self.drift is None:
            return "SCS -"
        scored = [
            f"{score:.0f} at {horizon}"
            for horizon, score in zip(self.drift.horizons, self.drift.scs, strict=False)
            if math.isfinite(score)
        ]
        state = STATES[self.drift.state] if self.drift.state < len(STATES) else str(self.drift.state)
        if self.drift.cause not in ("", "none"):
            state = f"{state}, {self.drift.cause}"
        return f"SCS {', '.join(scored) or '-'} | {state}"


class LiveLine:
    """Shows one line: kept up to date on a terminal, every few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._shown_s = -math.inf
        self._width = 0

    def show(self, text: str) -> None:
        """Replace the line (terminal), or print it if the last one is old enough."""
        now_s = time.monotonic()
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif now_s - self._shown_s >= PLAIN_PERIOD_S:
            self._stream.write(text + "\n")
            self._shown_s = now_s
        self._stream.flush()

    def say(self, text: str) -> None:
        """Print a line of its own, which stays."""
        if self._terminal and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._stream.write(text + "\n")
        self._stream.flush()
