"""Inverse kinematics of an arm: damped least squares on MuJoCo's Jacobian, towards a place for the grip.

Knows the model and the body's names; decides nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import mujoco
from egowm_sim.humanoid.body import JOINTS

Vector = NDArray[np.float64]
ITERATIONS, DAMPING, CLOSE_M = 40, 0.08, 0.01
_HAND_DOWN = 0.25  # weight of the hand pointing down against its place (m per unit vector)


class Reach:
    """Solves for one arm at a time, the rest of the body as it stands."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._joints = {}
        for side in ("LEFT", "RIGHT"):
            arm = [joint for joint in JOINTS if joint.name.startswith(side) and "HAND" not in joint.name]
            self._joints[side] = (
                np.array([model.joint(joint.name).qposadr[0] for joint in arm]),
                np.array([model.joint(joint.name).dofadr[0] for joint in arm]),
                np.array([joint.low for joint in arm]),
                np.array([joint.high for joint in arm]),
            )

    def solve(self, now: Any, side: str, place: Vector) -> Vector:
        """Positions (7,) rad of the arm's joints that bring its grip nearest to ``place`` (3,) m, hand downwards.

        ``now`` is the MjData of the present; as near as limits allow where the place is out of reach.
        """
        data, (addresses, dofs, low, high) = self._data, self._joints[side]
        data.qpos[:] = now.qpos
        site = self._model.site(f"{side}_grip").id
        moved, turned = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        for _ in range(ITERATIONS):
            mujoco.mj_kinematics(self._model, data)
            mujoco.mj_comPos(self._model, data)
            away = place - data.site_xpos[site]
            pointing = -data.site_xmat[site].reshape(3, 3)[:, 2]  # along the fingers
            tilt = np.cross(pointing, [0.0, 0.0, -1.0]) * _HAND_DOWN
            if np.linalg.norm(away) < CLOSE_M and np.linalg.norm(tilt) < 0.1:
                break
            mujoco.mj_jacSite(self._model, data, moved, turned, site)
            jacobian = np.concatenate([moved[:, dofs], turned[:, dofs] * _HAND_DOWN])
            wanted = np.concatenate([np.clip(away, -0.1, 0.1), tilt])
            square = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
            change = jacobian.T @ np.linalg.solve(square, wanted)
            data.qpos[addresses] = np.clip(data.qpos[addresses] + np.clip(change, -0.3, 0.3), low, high)
        return np.array(data.qpos[addresses])
