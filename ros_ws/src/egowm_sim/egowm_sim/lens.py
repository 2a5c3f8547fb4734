"""What happens between scene and picture: something on the lens, exposure, sensor noise, a frozen buffer.

The order is that of a camera: occluder, exposure, noise, buffer. Knows arrays only; no MuJoCo and no clock (a
picture's number seeds its noise).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError
from egowm_sim.colors import Image, color, noise, to_image

MOST_NOISE = 64.0
MOST_FLICKER = 0.5


class Lens:
    """A camera's faults and noise for pictures of ``height`` x ``width``.

    Args:
        seed: of noise, flicker and the thing on the lens.
        camera_noise: sigma of the pixels' noise in grey levels; 0 leaves pictures untouched.
        flicker: sigma of the exposure from picture to picture, as a share; 0 leaves pictures untouched.

    Raises:
        SimulationError: noise or flicker are out of range.
    """

    def __init__(self, *, seed: int, height: int, width: int, camera_noise: float = 0.0, flicker: float = 0.0) -> None:
        if not 0 <= camera_noise <= MOST_NOISE:
            raise SimulationError(f"camera noise is {camera_noise}; expected 0 to {MOST_NOISE:g} grey levels")
        if not 0 <= flicker <= MOST_FLICKER:
            raise SimulationError(f"flicker is {flicker}; expected a share of 0 to {MOST_FLICKER}")
        self._seed, self._size = seed, (height, width)
        self._noise, self._flicker = camera_noise, flicker
        self._last: Image | None = None
        self._occluder: tuple[float, NDArray[np.float32], NDArray[np.float32]] | None = None

    def frozen(self) -> Image | None:
        """The last picture again, or None where there is none yet."""
        return None if self._last is None else self._last.copy()

    def expose(self, scene: Image, number: int, *, covered: float = 0.0, gain: float = 1.0) -> Image:
        """The picture (H,W,3) uint8 of ``scene`` (H,W,3) uint8, kept for ``frozen``.

        Args:
            number: of the picture; equal numbers give equal noise.
            covered: share of the picture that something on the lens hides, 0 to 1.
            gain: factor of the exposure.
        """
        rng = np.random.default_rng([self._seed, 0x1E45, number])
        gain *= max(0.0, 1.0 + self._flicker * float(rng.standard_normal())) if self._flicker else 1.0
        if covered == 0.0 and gain == 1.0 and self._noise == 0.0:
            self._last = scene
            return scene
        picture = scene.astype(np.float32)
        if covered > 0:
            alpha, thing = self._thing(covered)
            picture += alpha * (thing - picture)
        picture *= np.float32(gain)
        np.clip(picture, 0, 255, out=picture)  # the well is full before it is read out with noise
        if self._noise:
            picture += np.float32(self._noise) * rng.standard_normal(picture.shape, dtype=np.float32)
        self._last = to_image(np.rint(picture))
        return self._last

    def _thing(self, share: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Opacity (H,W,1) in 0..1 over about ``share`` of the picture, and look (H,W,3), of what is on the lens.

        It comes in from one side with an uneven and, being far too near to be in focus, soft edge.
        """
        if self._occluder is None or self._occluder[0] != share:
            height, width = self._size
            rng = np.random.default_rng([self._seed, 0x0CC1])
            angle = rng.uniform(0, 2 * np.pi)
            y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            depth = np.cos(angle) * x + np.sin(angle) * y + 0.3 * noise(rng, height, width, 3)
            edge = np.quantile(depth, 1.0 - share)
            alpha = np.clip((depth - edge) / 0.12 + 0.5, 0, 1) if share < 1 else np.ones_like(depth)
            base = color(rng, saturation=(0.1, 0.5), value=(0.06, 0.3))
            weave = noise(rng, height, width, 5) + 0.6 * noise(rng, height, width, 17)
            look = base * (1 + 0.25 * weave[..., None])
            self._occluder = (share, alpha[..., None].astype(np.float32), look.astype(np.float32))
        return self._occluder[1], self._occluder[2]
