"""MuJoCo and its OpenGL context, imported in one place so that a missing library is named.

Knows how MuJoCo's GL back ends fail to import. Knows nothing of rooms or robots. The environment variable
``MUJOCO_GL`` (egl, osmesa, glfw) is respected; without it EGL is used, which needs no display.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, NoReturn

from egowm_core.errors import EgowmError

PACKAGES = {
    "egl": "apt-get install libegl1 libgl1 libgl1-mesa-dri",
    "osmesa": "apt-get install libosmesa6",
    "glfw": "a running display, or set MUJOCO_GL=egl",
}


class SimulationError(EgowmError):
    """The simulator cannot run as asked."""


def _refuse(backend: str, error: Exception) -> NoReturn:
    raise SimulationError(
        f"MuJoCo cannot use the OpenGL back end {backend!r} ({type(error).__name__}: {error}); "
        f"it needs: {PACKAGES.get(backend, PACKAGES['egl'])}. "
        f"Without a GPU either `{PACKAGES['egl']}` (MUJOCO_GL=egl) or `{PACKAGES['osmesa']}` (MUJOCO_GL=osmesa) serves."
    ) from error


def chosen_backend() -> str:
    """The OpenGL back end that rendering will use: MUJOCO_GL, or egl where it is unset."""
    return os.environ.get("MUJOCO_GL", "").strip().lower() or "egl"


try:
    import mujoco
except (AttributeError, ImportError, OSError) as _error:  # e.g. AttributeError glGetError: no OSMesa or EGL library
    _refuse(chosen_backend(), _error)


def create_gl_context(width: int, height: int) -> Any:
    """An offscreen OpenGL context of at least ``width`` x ``height`` pixels.

    Raises:
        SimulationError: the OpenGL library is missing or gives no context; the message names the packages.
    """
    backend = chosen_backend()
    if backend not in PACKAGES:
        raise SimulationError(
            f"MUJOCO_GL={backend!r} is not a back end for rendering; expected one of {sorted(PACKAGES)}"
        )
    try:
        module = importlib.import_module(f"mujoco.{backend}")
        return module.GLContext(width, height)
    except Exception as error:  # the back ends fail in many ways: AttributeError, ImportError, GLError, RuntimeError
        _refuse(backend, error)


__all__ = ["SimulationError", "chosen_backend", "create_gl_context", "mujoco"]
