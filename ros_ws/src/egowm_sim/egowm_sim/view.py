"""A scene's camera as a simulation has it: opened in the thread that renders, shown poses, asked for pictures.

Knows scenes and the renderer; knows no robot, no physics loop and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError
from egowm_sim.render import CameraRenderer
from egowm_sim.scene import Scene

View = TypeVar("View", bound="CameraView")


@dataclass(frozen=True)
class Truth:
    """``segmentation`` (H,W) uint16 structure ids, 0 = background; ``depth_m`` (H,W) float32 along the optical axis."""

    segmentation: NDArray[np.uint16]
    depth_m: NDArray[np.float32]


class CameraView:
    """What a simulation of a ``scene`` with pictures of ``height`` x ``width`` inherits; a context manager.

    Who renders in a thread of its own calls ``open_camera`` and ``render`` there, ``look`` beside stepping.
    """

    scene: Scene
    height: int
    width: int
    _renderer: CameraRenderer | None = None

    def open_camera(self) -> None:
        """Make the renderer, which from then on belongs to the calling thread.

        Raises:
            SimulationError: no OpenGL back end works; the message names the packages.
        """
        if self._renderer is None:
            self._renderer = CameraRenderer(self.scene, height=self.height, width=self.width)

    def render(self) -> NDArray[np.uint8]:
        """The picture (H,W,3) uint8 RGB of the last ``look``."""
        return self._camera().image()

    def look(self, data: Any) -> None:
        """Take the poses of an MjData for the next pictures; from the thread that steps, while none renders."""
        self._camera().update(data)

    def render_truth(self) -> Truth:
        """Structure ids and depth of the last ``look``."""
        return Truth(*self._camera().truth())

    def _camera(self) -> CameraRenderer:
        if self._renderer is None:
            raise SimulationError("there is no camera yet; call open_camera() first, in the thread that will render")
        return self._renderer

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self: View) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
