"""Rooms: repeatable, varied, furnished, and still drivable."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_sim import fixtures
from egowm_sim.backend import SimulationError
from egowm_sim.layout import FloorMap, draw_plan
from egowm_sim.rooms import generate_room

ON_WALLS = {kind.__name__ for kind in fixtures.KINDS}


def test_equal_seeds_give_equal_rooms() -> None:
    a, b = generate_room(4), generate_room(4)
    assert a.structures == b.structures
    assert [(p.x, p.y, p.yaw, p.piece.name) for p in a.placed] == [(p.x, p.y, p.yaw, p.piece.name) for p in b.placed]
    assert np.array_equal(a.floor.image, b.floor.image)
    assert np.array_equal(a.floor_map.blocked, b.floor_map.blocked)


def test_seeds_differ_in_plan_and_look() -> None:
    rooms = [generate_room(seed) for seed in range(5)]
    assert len({(round(r.plan.width, 3), round(r.plan.depth, 3)) for r in rooms}) == 5
    colors = np.array([r.floor.image.reshape(-1, 3).mean(axis=0) for r in rooms])
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert distances[np.triu_indices(5, 1)].min() > 2.0


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_a_room_is_furnished_and_drivable(seed: int) -> None:
    room = generate_room(seed)
    standing = [p for p in room.placed if p.structure_id and p.piece.name not in ON_WALLS]
    assert 8 <= len(standing) <= 20
    assert {p.structure_id for p in room.placed} - {0} == set(room.structures)
    assert all(entry["static"] is True for entry in room.structures.values())
    region, share = room.floor_map.drivable()
    assert share > 0.9
    assert region.sum() * 0.05**2 > 2.0  # m^2 for the robot's centre


def test_furniture_does_not_overlap() -> None:
    room = generate_room(6)
    fresh = FloorMap(room.plan)
    taken = np.zeros(fresh.blocked.shape, int)
    for placed in room.placed:
        if placed.structure_id and placed.piece.name not in ON_WALLS:
            taken += fresh.rectangle(placed.x, placed.y, placed.piece.width, placed.piece.depth, placed.yaw)
    assert taken.max() == 1


def test_all_three_kinds_of_plan_occur() -> None:
    plans = [draw_plan(np.random.default_rng(seed)) for seed in range(30)]
    assert any(len(p.polygon) == 6 for p in plans)
    assert any(p.doorways for p in plans)
    assert any(len(p.polygon) == 4 and not p.doorways for p in plans)
    for plan in plans:
        assert 4.0 <= plan.width <= 8.0
        assert 5.0 <= plan.depth <= 9.0


def test_faces_look_into_the_room() -> None:
    for seed in range(12):
        plan = draw_plan(np.random.default_rng(seed))
        empty = FloorMap(plan)
        for face in plan.faces:
            assert not empty.blocked[empty.index(*face.point(0.0, 0.15))]


def test_a_full_floor_is_refused() -> None:
    room = generate_room(0)
    room.floor_map.blocked[:] = True
    with pytest.raises(SimulationError, match="no place for the robot"):
        room.floor_map.random_free(np.random.default_rng(0))
