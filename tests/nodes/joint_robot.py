"""A scripted humanoid for tests: its joints follow known curves, and drivers publish parts of them as they like."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, JointState

from egowm_core.embodiment import load_embodiment
from egowm_nodes import conversions
from tests.nodes.streams import picture_at

HUMANOID = load_embodiment("humanoid_25dof")
NAMES = tuple(channel.source for channel in HUMANOID.channels)
IMAGE_HZ = 10.0
_PACE = 0.9  # rad/s of every curve


def positions(seconds: np.ndarray | float) -> np.ndarray:
    """(..., 25) where every joint is at a time; the last two are velocities."""
    phases = 0.5 * np.arange(len(NAMES))
    return np.asarray(0.3 * np.sin(_PACE * np.asarray(seconds)[..., None] + phases) + 0.3)


def actions(stamps_s: np.ndarray) -> np.ndarray:
    """(T,25) what lies between successive ``stamps_s`` (T+1,): differences of joints, mean velocities of the base."""
    change = np.diff(positions(stamps_s), axis=0)
    before, after = stamps_s[:-1, None], stamps_s[1:, None]
    phases = 0.5 * np.arange(len(NAMES))
    area = 0.3 / _PACE * (np.cos(_PACE * before + phases) - np.cos(_PACE * after + phases)) + 0.3 * (after - before)
    return np.hstack([change[:, :-2], (area / (after - before))[:, -2:]])


@dataclass
class Driver:
    """Publishes ``names`` at ``rate_hz``, each message ``late_s`` after its stamp; ``bend`` changes or drops it."""

    names: tuple[str, ...] = NAMES
    rate_hz: float = 50.0
    late_s: float = 0.0
    bend: Callable[[JointState], JointState | None] = field(default=lambda message: message)


class JointRobot:
    """Streams pictures at 10 Hz and what ``drivers`` say, in real time; ``seconds`` is the curves' time of a stamp."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._images = node.create_publisher(CompressedImage, "image/compressed", qos_profile_sensor_data)
        self._states = [node.create_publisher(JointState, "joint_states", 50) for _ in range(3)]
        self._base_ns = time.time_ns()
        self._lock = threading.Lock()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = self._epoch = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started_s = time.monotonic()
        self._every(1 / IMAGE_HZ, self._picture, epoch=None, first_s=0.0)
        self.drive(Driver())
        self._thread.start()

    def seconds(self, stamp_ns: np.ndarray | int) -> np.ndarray:
        return np.asarray((np.asarray(stamp_ns, np.int64) - self._base_ns) * 1e-9)

    def drive(self, *drivers: Driver) -> None:
        """Let these drivers publish from now on, one publisher each, in place of the ones before."""
        with self._lock:
            self._epoch += 1
            epoch = self._epoch
        now_s = time.monotonic() - self._started_s
        for number, driver in enumerate(drivers):
            first_s = math.ceil(now_s * driver.rate_hz) / driver.rate_hz
            self._every(1 / driver.rate_hz, self._speaker(driver, number), epoch=epoch, first_s=first_s)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _speaker(self, driver: Driver, number: int) -> Callable[[float], None]:
        columns = [NAMES.index(name) for name in driver.names]

        def speak(when_s: float) -> None:
            stamp_ns = self._base_ns + round(when_s * 1e9)
            message = JointState(header=conversions.header(stamp_ns, ""), name=list(driver.names))
            message.position = positions(when_s)[columns].tolist()
            bent = driver.bend(message)
            if bent is not None:
                self._at(when_s + driver.late_s, lambda: self._states[number].publish(bent))

        return speak

    def _picture(self, when_s: float) -> None:
        stamp_ns = self._base_ns + round(when_s * 1e9)
        self._images.publish(conversions.compressed_message(picture_at(when_s), stamp_ns, "head"))

    def _every(self, period_s: float, act: Callable[[float], None], *, epoch: int | None, first_s: float) -> None:
        def again(number: int = 0) -> None:
            if epoch in (None, self._epoch):
                when_s = first_s + number * period_s
                act(when_s)
                self._at(first_s + (number + 1) * period_s, lambda: again(number + 1))

        self._at(first_s, again)

    def _at(self, when_s: float, act: Callable[[], None]) -> None:
        with self._lock:
            self._count += 1
            heapq.heappush(self._due, (when_s, self._count, act))

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            now_s = time.monotonic() - self._started_s
            while True:
                with self._lock:
                    if not self._due or self._due[0][0] > now_s:
                        break
                    act = heapq.heappop(self._due)[2]
                act()
