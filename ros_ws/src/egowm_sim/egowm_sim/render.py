"""Camera images, structure masks and depth of a scene, offscreen.

No shadows and no multi-sampling, for speed. Knows MuJoCo's visualisation calls only; one instance belongs to
the thread that made it (OpenGL contexts do).
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError, create_gl_context, mujoco
from egowm_sim.scene import HIDDEN_GROUP, Scene


class CameraRenderer:
    """Renders the scene's ``front`` camera at ``height`` x ``width`` pixels.

    Raises:
        SimulationError: no OpenGL back end works here (names the packages), or the size exceeds the model's buffer.
    """

    def __init__(self, scene: Scene, *, height: int, width: int) -> None:
        model = scene.model
        limit = (model.vis.global_.offheight, model.vis.global_.offwidth)
        if height > limit[0] or width > limit[1]:
            raise SimulationError(
                f"images of {height}x{width} exceed the scene's buffer of {limit[0]}x{limit[1]}; build the scene larger"
            )
        self.height, self.width = height, width
        self._model = model
        self._structures = np.append(scene.geom_structure, np.uint16(0))  # index -1: background
        self._gl = create_gl_context(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._view = mujoco.MjvScene(model, maxgeom=model.ngeom + 16)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[HIDDEN_GROUP] = 0
        self._option.geomgroup[2] = 1
        for flag in (
            mujoco.mjtRndFlag.mjRND_SHADOW,
            mujoco.mjtRndFlag.mjRND_REFLECTION,
            mujoco.mjtRndFlag.mjRND_SKYBOX,
            mujoco.mjtRndFlag.mjRND_HAZE,
        ):
            self._view.flags[flag] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera("front").id
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._geom_of_segment: NDArray[np.int64] | None = None
        self._groups = model.geom_group.copy()
        flat = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        self._reach = np.where(flat, np.hypot(model.geom_size[:, 0], model.geom_size[:, 1]), model.geom_rbound)
        half = np.deg2rad(model.cam_fovy[self._camera.fixedcamid]) / 2
        across = np.arctan(np.tan(half) * width / height)
        self._edges = np.array([  # inward normals of the view's sides, in the camera's frame
            [np.cos(across), 0, -np.sin(across)], [-np.cos(across), 0, -np.sin(across)],
            [0, np.cos(half), -np.sin(half)], [0, -np.cos(half), -np.sin(half)],
        ])  # fmt: skip

    def update(self, data: Any, *, cull: bool = True) -> None:
        """Take the poses of ``data`` for the next pictures; ``cull`` leaves out what lies outside the view (faster)."""
        self._geom_of_segment = None
        self._model.geom_group[:] = self._groups
        if cull:
            camera = self._camera.fixedcamid
            local = (data.geom_xpos - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
            outside = (local @ self._edges.T < -self._reach[:, None]).any(axis=1)
            self._model.geom_group[outside] = HIDDEN_GROUP
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._view
        )

    def image(self) -> NDArray[np.uint8]:
        """RGB (H,W,3) uint8."""
        self._gl.make_current()
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_render(self._rect, self._view, self._context)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def truth(self) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        """Structure ids (H,W) uint16 (0 = background) and depth along the optical axis (H,W) float32 in m."""
        self._gl.make_current()
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        raw = np.empty((self.height, self.width), np.float32)
        segment, id_color = mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR
        self._view.flags[segment] = self._view.flags[id_color] = 1
        try:
            mujoco.mjr_render(self._rect, self._view, self._context)
            mujoco.mjr_readPixels(pixels, raw, self._rect, self._context)
        finally:
            self._view.flags[segment] = self._view.flags[id_color] = 0
        wide = pixels.astype(np.uint32)
        segments = wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16
        structures = self._structures[self._geoms()[segments]]
        return np.ascontiguousarray(structures[::-1]), np.ascontiguousarray(self._metric(raw)[::-1])

    def _geoms(self) -> NDArray[np.int64]:
        """Geom id of each segment number of this view (0 is nothing: -1)."""
        if self._geom_of_segment is None:
            table = np.full(self._view.ngeom + 1, -1, np.int64)
            for geom in self._view.geoms[: self._view.ngeom]:
                if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                    table[geom.segid + 1] = geom.objid
            self._geom_of_segment = table
        return self._geom_of_segment

    def _metric(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reversed z-buffer values (1 near, 0 far) to metres."""
        near = self._model.vis.map.znear * self._model.stat.extent
        far = self._model.vis.map.zfar * self._model.stat.extent
        z = raw.astype(np.float64)
        return (near * far / (near + z * (far - near))).astype(np.float32)

    def close(self) -> None:
        """Free the OpenGL context. Safe to call twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def __del__(self) -> None:
        """Free under its own context: left to the garbage collector it would free another renderer's textures."""
        if getattr(self, "_gl", None) is not None and hasattr(self, "_context"):
            with contextlib.suppress(Exception):  # at interpreter exit the display may be gone already
                self.close()
