"""A room and a robot into one MuJoCo model, with the table from geoms to structures.

Knows MuJoCo's ways (cube textures for solids, flat ones for planes); knows no rendering and no physics loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import mujoco
from egowm_sim.camera import vertical_fov_deg
from egowm_sim.parts import Part, Surface, front
from egowm_sim.people import Limb
from egowm_sim.robot import add_robot
from egowm_sim.rooms import Room

HIDDEN_GROUP = 4  # touched but not seen
SHAPES = {
    "box": "mjGEOM_BOX", "cylinder": "mjGEOM_CYLINDER", "capsule": "mjGEOM_CAPSULE", "ellipsoid": "mjGEOM_ELLIPSOID",
    "plane": "mjGEOM_PLANE",
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """``model`` with camera ``front``; ``geom_structure`` (ngeom,) uint16 gives each geom's structure, 0 background."""

    model: Any
    geom_structure: NDArray[np.uint16]


class SceneBuilder:
    """A room's geoms, materials and lights into an MjSpec, ``spec``."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.spec = mujoco.MjSpec()
        self.materials: dict[tuple[int, bool], str] = {}
        self.textures: dict[tuple[int, bool], str] = {}
        self.structure_of: dict[str, int] = {}

    def material(self, surface: Surface, *, flat: bool) -> str:
        """The name of the surface's material, made once for flat (plane) and once for solid use."""
        key = (id(surface), flat)
        if key not in self.materials:
            name = f"material_{len(self.materials)}"
            material = self.spec.add_material(
                name=name, emission=surface.emission, specular=0.05, shininess=0.1, reflectance=0.0
            )
            if surface.image is None:
                material.rgba = [*(self._muted(np.array(surface.rgb)) / 255.0), 1.0]
            else:
                material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = self._texture(surface.image, flat=flat)
                material.texrepeat = surface.repeat if flat else (1.0, 1.0)
            self.materials[key] = name
        return self.materials[key]

    def _muted(self, colors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Colours (...,3) at the room's saturation."""
        grey = colors @ np.array([0.299, 0.587, 0.114])
        return grey[..., None] + self.room.saturation * (colors - grey[..., None])

    def _texture(self, image: NDArray[np.uint8], *, flat: bool) -> str:
        key = (id(image), flat)
        if key not in self.textures:
            name = f"texture_{len(self.textures)}"
            muted = np.clip(self._muted(image.astype(np.float64)), 0, 255).astype(np.uint8)
            pixels = (
                muted if flat else np.tile(muted, (6, 1, 1))
            )  # a cube texture is six square faces, one below the other
            texture = self.spec.add_texture(name=name, nchannel=3)
            texture.type = mujoco.mjtTexture.mjTEXTURE_2D if flat else mujoco.mjtTexture.mjTEXTURE_CUBE
            texture.height, texture.width = pixels.shape[:2]
            texture.data = np.ascontiguousarray(pixels).tobytes()
            self.textures[key] = name
        return self.textures[key]

    def part(
        self, part: Part, *, x: float = 0.0, y: float = 0.0, yaw: float = 0.0, structure: int = 0, body: Any = None
    ) -> Any:
        """Add a part at (x, y, yaw) of ``body``; of the world, where the robot can touch it, without one.

        Returns the MjSpec geom, for who wants it otherwise.
        """
        c, s = math.cos(yaw), math.sin(yaw)
        px, py, pz = part.position
        turn = (yaw + part.yaw) / 2
        tilt = part.tilt / 2
        quat = [
            math.cos(turn) * math.cos(tilt),
            math.cos(turn) * math.sin(tilt),
            math.sin(turn) * math.sin(tilt),
            math.sin(turn) * math.cos(tilt),
        ]
        name = f"geom_{len(self.structure_of)}"
        solid = part.solid and part.shape != "plane" and body is None
        geom = (self.spec.worldbody if body is None else body).add_geom(
            name=name,
            type=getattr(mujoco.mjtGeom, SHAPES[part.shape]),
            pos=[x + c * px - s * py, y + s * px + c * py, pz],
            quat=quat,
            size=part.size,
            material=self.material(part.surface, flat=part.shape == "plane"),
            contype=0,
            conaffinity=1 if solid else 0,
            condim=1,
        )
        self.structure_of[name] = structure
        return geom

    def shell(self) -> None:
        """Floor, ceiling, walls and what carries them."""
        room, plan = self.room, self.room.plan
        middle = (plan.width / 2, plan.depth / 2)
        half = (plan.width / 2, plan.depth / 2, 0.1)
        self.spec.worldbody.add_geom(
            name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=[*middle, 0], size=half,
            material=self.material(room.floor, flat=True), contype=0, conaffinity=1, condim=1,
            friction=[1.0, 0.005, 0.0001],
        )  # fmt: skip
        self.part(Part("plane", (*middle, plan.height), half, room.ceiling, tilt=math.pi, solid=False))
        for face, surface in zip(plan.faces, room.walls, strict=True):
            self.part(front(0, 0, 0, face.length, plan.height, surface), x=face.x, y=face.y, yaw=face.yaw)
        for block in plan.blocks:
            size = [block.wide / 2, block.deep / 2, (block.top - block.bottom) / 2]
            position = [block.x, block.y, (block.top + block.bottom) / 2]
            if block.shown:
                self.part(Part("box", (position[0], position[1], position[2]), (size[0], size[1], size[2]), room.trim))
            else:
                self.spec.worldbody.add_geom(
                    type=mujoco.mjtGeom.mjGEOM_BOX,
                    pos=position,
                    size=size,
                    group=HIDDEN_GROUP,
                    contype=0,
                    conaffinity=1,
                    condim=1,
                )

    def person(self, limbs: list[Limb], structure: int) -> None:
        """One body a limb, placed from outside (mocap) and touching nothing."""
        for limb in limbs:
            body = self.spec.worldbody.add_body(name=f"person_{structure}_{limb.name}", mocap=True)
            for part in limb.parts:
                self.part(part, structure=structure, body=body)

    def compile(self) -> Scene:
        """The model, and which structure each of its geoms is part of."""
        model = self.spec.compile()
        table = np.array([self.structure_of.get(model.geom(i).name, 0) for i in range(model.ngeom)], np.uint16)
        return Scene(model, table)

    def lights(self) -> None:
        self.spec.visual.headlight.ambient = [self.room.ambient] * 3
        self.spec.visual.headlight.diffuse = [0.12] * 3
        self.spec.visual.headlight.specular = [0.0] * 3
        for light in self.room.lights:
            lamp = self.spec.worldbody.add_light(pos=light.position, dir=[0, 0, -1], castshadow=False)
            lamp.diffuse, lamp.specular, lamp.ambient = light.diffuse, [0.0] * 3, [0.0] * 3
            lamp.cutoff, lamp.exponent = 180.0, 0.0


def build_scene(
    room: Room,
    *,
    x: float,
    y: float,
    yaw: float,
    height: int,
    width: int,
    timestep_s: float,
    people: Mapping[int, list[Limb]] | None = None,
) -> Scene:
    """Compile ``room`` with the base at (x, y, yaw) (m, rad) and a ``height`` x ``width`` camera.

    ``people`` maps structure ids to limbs, which become mocap bodies in that order.
    """
    builder = furnished(room, height=height, width=width, timestep_s=timestep_s)
    add_robot(builder.spec, x=x, y=y, yaw=yaw, fovy_deg=vertical_fov_deg(height, width))
    for structure, limbs in (people or {}).items():  # after all else, whose numbers then stay as they are without them
        builder.person(limbs, structure)
    return builder.compile()


def furnished(room: Room, *, height: int, width: int, timestep_s: float) -> SceneBuilder:
    """``room`` with its furniture, shell and lights, for pictures of ``height`` x ``width``; no robot yet."""
    builder = SceneBuilder(room)
    spec = builder.spec
    spec.option.timestep = timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.option.iterations = 20
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.numslices, spec.visual.quality.numstacks, spec.visual.quality.numquads = 20, 10, 3
    spec.visual.global_.offheight, spec.visual.global_.offwidth = height, width
    spec.stat.extent = 1.0
    spec.visual.map.znear, spec.visual.map.zfar = 0.03, 40.0
    for placed in room.placed:
        for part in placed.piece.parts:
            builder.part(part, x=placed.x, y=placed.y, yaw=placed.yaw, structure=placed.structure_id)
    builder.shell()  # last: what furniture hides of it is then not painted (a fifth faster)
    builder.lights()
    return builder
