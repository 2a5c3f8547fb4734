"""A missing or misnamed OpenGL back end is told with its remedy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from egowm_sim.backend import SimulationError, chosen_backend, create_gl_context


def test_egl_is_the_default_and_the_variable_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert chosen_backend() == "egl"
    monkeypatch.setenv("MUJOCO_GL", " OSMesa ")
    assert chosen_backend() == "osmesa"


def test_an_unknown_back_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(SimulationError, match=r"'vulkan'.*egl"):
        create_gl_context(64, 64)


def test_a_missing_library_is_named() -> None:
    """PyOpenGL bound to a platform that is not there fails as a missing library does."""
    code = "from egowm_sim.backend import create_gl_context\ncreate_gl_context(64, 64)"
    environment = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "nowhere"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode != 0
    assert "SimulationError" in result.stderr
    assert "apt-get install libegl1 libgl1 libgl1-mesa-dri" in result.stderr
    assert "libosmesa6" in result.stderr
