"""The humanoid: joints in the embodiment's order, commands that are obeyed within limits, things that move."""

from __future__ import annotations

import math

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_sim.backend import SimulationError
from egowm_sim.humanoid import JOINT_NAMES, JOINTS, HumanoidOperator, HumanoidSimulation
from egowm_sim.humanoid.reach import Reach
from egowm_sim.humanoid.simulation import HOME
from egowm_sim.humanoid.workplace import generate_workplace

SEED = 5
INDEX = {name: index for index, name in enumerate(JOINT_NAMES)}


@pytest.fixture
def simulation():
    with HumanoidSimulation(seed=SEED, height=96, width=128) as made:
        yield made


def moved(**targets: float) -> np.ndarray:
    joints = HOME.copy()
    for name, value in targets.items():
        joints[INDEX[name]] = value
    return joints


def test_names_are_those_of_the_embodiment_in_its_order() -> None:
    embodiment = load_embodiment("humanoid_25dof")
    assert [channel.source for channel in embodiment.channels] == list(JOINT_NAMES)
    assert [state.source for state in embodiment.states] == list(JOINT_NAMES)


def test_no_joint_can_outrun_the_embodiments_limits() -> None:
    embodiment = load_embodiment("humanoid_25dof")
    for joint, channel in zip(JOINTS, embodiment.channels, strict=False):
        assert joint.speed / embodiment.rate_hz <= channel.limits[1]


@pytest.mark.parametrize("joint", [joint.name for joint in JOINTS])
def test_every_joint_goes_where_it_is_told_and_no_other_moves(simulation: HumanoidSimulation, joint: str) -> None:
    limits = JOINTS[INDEX[joint]]
    wanted = HOME[INDEX[joint]] + 0.3 * (limits.high - HOME[INDEX[joint]])
    before = simulation.reading().positions
    after = simulation.step(moved(**{joint: wanted}), 0.0, 0.0, 1.5).positions
    assert after[INDEX[joint]] == pytest.approx(wanted, abs=0.05)
    others = [index for index in range(len(JOINTS)) if index != INDEX[joint]]
    np.testing.assert_allclose(after[others], before[others], atol=0.05)


def test_targets_are_cut_to_limits_of_position_and_speed(simulation: HumanoidSimulation) -> None:
    simulation.step(moved(NECK_PITCH=50.0), 0.0, 0.0, 0.1)
    assert simulation.targets[INDEX["NECK_PITCH"]] == pytest.approx(HOME[INDEX["NECK_PITCH"]] + 0.09)
    simulation.step(moved(NECK_PITCH=50.0), 0.0, 0.0, 2.0)
    assert simulation.targets[INDEX["NECK_PITCH"]] == JOINTS[INDEX["NECK_PITCH"]].high


@pytest.mark.parametrize(
    ("joints", "v", "dt_s"),
    [(HOME * math.nan, 0.0, 0.1), (HOME[:5], 0.0, 0.1), (HOME, math.inf, 0.1), (HOME, 0.0, 0.0), (HOME, 0.0, 0.013)],
)
def test_a_command_that_makes_no_sense_is_refused(simulation: HumanoidSimulation, joints, v, dt_s) -> None:
    with pytest.raises(SimulationError, match="expected 23 finite joints"):
        simulation.step(joints, v, 0.0, dt_s)


def test_the_base_drives_and_says_how_fast(simulation: HumanoidSimulation) -> None:
    before = simulation.pose()
    simulation.step(HOME, -0.3, 0.2, 1.4)
    reading = simulation.step(HOME, -0.3, 0.2, 0.1)
    after = simulation.pose()
    assert after.yaw - before.yaw == pytest.approx(0.2 * 1.5, abs=0.05)
    ahead = (after.x - before.x) * math.cos(before.yaw) + (after.y - before.y) * math.sin(before.yaw)
    assert ahead == pytest.approx(-0.3 * 1.3, abs=0.08)
    assert reading.positions[-2:] == pytest.approx([-0.3, 0.2], abs=0.03)


def test_the_camera_sees_hands_table_and_things(simulation: HumanoidSimulation) -> None:
    look_down = moved(NECK_PITCH=0.5)
    simulation.step(look_down, 0.0, 0.0, 1.0)
    down = simulation.observe().image.astype(int)
    seen = set(np.unique(simulation.truth().segmentation).tolist())
    names = {number: simulation.room.structures[number] for number in seen if number}
    assert simulation.workplace.table_id in names
    things = {thing.structure_id for thing in simulation.workplace.things}
    assert things & set(names)
    assert not any(names[number]["static"] for number in things & set(names))
    raised = look_down.copy()
    raised[INDEX["LEFT_SHOULDER_PITCH"]] = -1.6
    simulation.step(raised, 0.0, 0.0, 1.5)
    changed = np.abs(simulation.observe().image - down).sum(axis=2) > 60
    assert changed[:, :64].mean() > 0.05 > changed[:, 64:].mean()  # the left arm is on the left


def test_a_hand_moves_a_thing(simulation: HumanoidSimulation) -> None:
    operator = HumanoidOperator(simulation, seed=SEED)
    places = [simulation.data.body(thing.name).xpos.copy() for thing in simulation.workplace.things]
    for _ in range(300):
        command = operator.command()
        simulation.step(command.joints, command.v, command.w, 0.05)
    now = [simulation.data.body(thing.name).xpos for thing in simulation.workplace.things]
    assert max(float(np.linalg.norm(a - b)) for a, b in zip(now, places, strict=True)) > 0.05


def test_what_the_operator_plans_is_what_it_then_does(simulation: HumanoidSimulation) -> None:
    operator = HumanoidOperator(simulation, seed=SEED)
    operator.command()
    planned = operator.ahead(0.2)
    for _ in range(4):
        command = operator.command()
    time_s, joints, v, w = planned[-1]
    assert time_s == pytest.approx(0.2)
    np.testing.assert_allclose(command.joints, joints)
    assert (command.v, command.w) == (v, w)


def test_equal_seeds_give_equal_pictures_and_readings() -> None:
    def run() -> tuple[np.ndarray, np.ndarray]:
        with HumanoidSimulation(seed=SEED, height=48, width=64) as simulation:
            operator = HumanoidOperator(simulation, seed=SEED)
            for _ in range(20):
                command = operator.command()
                reading = simulation.step(command.joints, command.v, command.w, 0.05)
            return simulation.observe().image, reading.positions

    (image, positions), (image_again, positions_again) = run(), run()
    np.testing.assert_array_equal(image, image_again)
    np.testing.assert_array_equal(positions, positions_again)


def test_an_arm_reaches_a_place_on_the_table(simulation: HumanoidSimulation) -> None:
    pose, top_m = simulation.pose(), simulation.workplace.top_m
    for side, sign in (("LEFT", 1), ("RIGHT", -1)):
        ahead, aside = 0.5, 0.15 * sign
        x = pose.x + ahead * math.cos(pose.yaw) - aside * math.sin(pose.yaw)
        y = pose.y + ahead * math.sin(pose.yaw) + aside * math.cos(pose.yaw)
        place = np.array([x, y, top_m + 0.15])
        arm = Reach(simulation.model).solve(simulation.data, side, place)
        joints = simulation.targets
        joints[slice(6, 13) if side == "LEFT" else slice(13, 20)] = arm
        simulation.step(joints, 0.0, 0.0, 2.5)
        assert np.linalg.norm(simulation.data.site(f"{side}_grip").xpos - place) < 0.05


def test_every_workplace_has_a_table_within_reach_and_room_to_leave() -> None:
    for seed in range(900, 908):
        workplace = generate_workplace(seed)
        x, y, yaw = workplace.stand
        room = workplace.room
        assert len(workplace.things) >= 1
        assert not room.floor_map.blocked[room.floor_map.index(x, y)]
        back = room.floor_map.index(x - 0.3 * math.cos(yaw), y - 0.3 * math.sin(yaw))
        assert room.floor_map.clearance()[back] > 0.25
        assert room.structures[workplace.table_id]["static"] is True
