"""Rendering off the physics thread: one picture in the making at a time, later ones dropped and counted.

Knows Simulation's snapshot and render and a function that takes pictures; knows no ROS.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError
from egowm_sim.robot_simulation import Instant, RobotSimulation

Sink = Callable[[NDArray[np.uint8], Instant], None]


class CameraPump:
    """Renders and delivers pictures in a thread of its own, which owns the OpenGL context.

    Raises:
        SimulationError: no OpenGL back end works (on construction).
    """

    def __init__(self, simulation: RobotSimulation, deliver: Sink) -> None:
        self._simulation, self._deliver = simulation, deliver
        self._requests: queue.Queue[Instant | None] = queue.Queue()
        self._idle = threading.Event()
        self._ready = threading.Event()
        self.error: Exception | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self.error is not None:
            raise self.error

    def shoot(self) -> bool:
        """Ask for a picture of this very instant, from the thread that steps; False if one is still in the making.

        Raises:
            SimulationError: the camera thread has ended with an error.
        """
        if self.error is not None:
            raise SimulationError(f"the camera stopped: {self.error}") from self.error
        if not self._idle.is_set():
            self.dropped += 1
            return False
        self._idle.clear()
        self._requests.put(self._simulation.snapshot())
        return True

    def close(self) -> None:
        """End the thread and free the renderer in it."""
        self._requests.put(None)
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        try:
            self._simulation.open_camera()
            self._idle.set()
            self._ready.set()
            while (instant := self._requests.get()) is not None:
                self._deliver(self._simulation.render(), instant)
                self._idle.set()
        except Exception as error:
            self.error = error
        finally:
            self._simulation.close()
            self._ready.set()
