"""FaultySimulation: each fault does to wheels, world or camera what it says, and nothing before it begins or after."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from egowm_core.geometry import wrap_angle
from egowm_sim import camera
from egowm_sim.backend import SimulationError
from egowm_sim.faults import FaultKind, parse_fault
from egowm_sim.faulty import FaultySimulation
from egowm_sim.lens import Lens
from egowm_sim.robot_simulation import Observation
from egowm_sim.simulation import Simulation

SEED, SIZE = 10, {"height": 96, "width": 128}
OF_THE_CAMERA = [
    kind for kind in FaultKind if kind not in (FaultKind.WHEEL_SLIP, FaultKind.STUCK_WHEEL, FaultKind.ENCODER_BIAS)
]


def _faulty(*faults: str, seed: int = SEED, camera_noise: float = 0.0, people: int | None = None) -> FaultySimulation:
    planned = [parse_fault(fault) for fault in faults]
    return FaultySimulation(seed=seed, faults=planned, camera_noise=camera_noise, people=people, **SIZE)


def _drive(simulation: Simulation, *, seconds: float, v: float = 0.3, w: float = 0.3) -> list[Observation]:
    """A picture every quarter of a second, the first now; odometry at 20 Hz."""
    seen = [simulation.observe()]
    for i in range(round(seconds / 0.05)):
        simulation.step(v, w, 0.05)
        if i % 5 == 4:
            seen.append(simulation.observe())
    return seen


@pytest.fixture(scope="module")
def sound() -> list[Observation]:
    """Two seconds without any fault."""
    with Simulation(seed=SEED, **SIZE) as simulation:
        return _drive(simulation, seconds=2.0)


def _same(a: Observation, b: Observation) -> bool:
    return np.array_equal(a.image, b.image) and (a.odometry, a.pose, a.stamp_ns) == (b.odometry, b.pose, b.stamp_ns)


# ---- without a fault -----------------------------------------------------------------------------------------


def test_without_faults_and_before_they_begin_nothing_differs(sound: list[Observation]) -> None:
    everything = [f"{kind}@1.9" for kind in FaultKind if kind is not FaultKind.PEOPLE]
    for simulation in (_faulty(), _faulty(*everything, "people:2@1.9"), _faulty(people=2)):
        with simulation:
            seen = _drive(simulation, seconds=1.75)
        assert all(map(_same, seen, sound))


@pytest.mark.parametrize("kind", OF_THE_CAMERA)
def test_what_happens_to_the_camera_leaves_no_trace_when_it_is_over(kind: FaultKind, sound: list[Observation]) -> None:
    with _faulty(f"{kind}@0.6-1.4") as simulation:
        seen = _drive(simulation, seconds=2.0)
    assert all(a.odometry == b.odometry and a.pose == b.pose for a, b in zip(seen, sound, strict=True))
    differs = [not np.array_equal(a.image, b.image) for a, b in zip(seen, sound, strict=True)]
    assert not any(differs[:3] + differs[6:])
    if kind is not FaultKind.PEOPLE:  # who have yet to come into view
        assert all(differs[3:6])


# ---- wheels --------------------------------------------------------------------------------------------------


def _speeds(simulation: FaultySimulation, v: float, w: float) -> NDArray[np.float64]:
    """Mean true v, w and odometry's v, w (m/s, rad/s) of the last half of two seconds."""
    rows = []
    for _ in range(40):
        simulation.step(v, w, 0.05)
        pose, odometry = simulation.pose(), simulation.odometry()
        rows.append((pose.v, pose.w, odometry.v, odometry.w))
    return np.mean(rows[20:], axis=0)


def test_slipping_wheels_turn_and_the_robot_does_not() -> None:
    with _faulty("wheel_slip:0.95@0-2") as simulation:
        true_v, _, told_v, _ = _speeds(simulation, 0.3, 0.0)
        assert true_v < 0.05
        assert told_v == pytest.approx(0.3, abs=0.03)
        true_v, _, told_v, _ = _speeds(simulation, 0.3, 0.0)  # the grip is back
        assert true_v == pytest.approx(told_v, abs=0.01) == pytest.approx(0.3, abs=0.02)
    with _faulty("wheel_slip:0.95@0") as simulation:
        _, true_w, _, told_w = _speeds(simulation, 0.0, 0.5)
        assert abs(true_w) < 0.1
        assert told_w == pytest.approx(0.5, abs=0.05)
    with _faulty("wheel_slip.right:1@0") as simulation:  # the left wheel alone turns the robot to the right
        _, true_w, _, told_w = _speeds(simulation, 0.3, 0.0)
        assert true_w < -0.1
        assert told_w > -0.02


def test_more_severe_slip_is_slower() -> None:
    speeds = []
    for severity in (0.2, 0.6, 0.9, 1.0):
        with _faulty(f"wheel_slip:{severity}@0") as simulation:
            speeds.append(float(_speeds(simulation, 0.4, 0.0)[0]))
    assert all(slower < faster - 0.02 for faster, slower in pairwise(speeds))
    assert abs(speeds[-1]) < 0.01


def test_a_stuck_wheel_turns_the_robot_and_odometry_knows() -> None:
    with _faulty("stuck_wheel.left@0") as simulation:
        true_v, true_w, told_v, told_w = _speeds(simulation, 0.3, 0.0)
    assert true_w > 0.5
    assert told_w == pytest.approx(true_w, abs=0.03)
    assert told_v == pytest.approx(true_v, abs=0.02) == pytest.approx(0.15, abs=0.03)


def test_a_biased_encoder_makes_odometry_wrong_and_nothing_else() -> None:
    with _faulty("encoder_bias.right:0.2@0") as simulation:
        true_v, true_w, told_v, told_w = _speeds(simulation, 0.3, 0.0)
    assert (true_v, true_w) == (pytest.approx(0.3, abs=0.01), pytest.approx(0.0, abs=0.01))
    assert told_v == pytest.approx(0.33, abs=0.01)
    assert told_w == pytest.approx(0.2 * 0.3 / 0.36, abs=0.03)


# ---- camera and room -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "yaw", "pitch"), [("camera_yaw:12@0", 12, 0), ("camera_pitch:-9@0", 0, -9), ("camera_pitch:6@0", 0, 6)]
)
def test_a_knocked_camera_sees_what_a_turn_about_its_centre_explains(fault: str, yaw: float, pitch: float) -> None:
    with Simulation(seed=SEED, **SIZE) as simulation:
        before = simulation.observe().image.astype(float)
    with _faulty(fault) as simulation:
        after = simulation.observe().image.astype(float)
    k = camera.camera_matrix(96, 128)
    a, b = math.radians(yaw), math.radians(pitch)
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    down = np.array([[1, 0, 0], [0, math.cos(b), math.sin(b)], [0, -math.sin(b), math.cos(b)]])
    mount = camera.mount_rotation()
    optical = np.diag([1.0, -1.0, -1.0])
    turn = optical @ mount.T @ about_z @ mount @ down @ optical  # old optical frame from new
    rows, columns = np.mgrid[:96, :128]
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ (k @ turn @ np.linalg.inv(k)).T
    u, v = np.round(rays[..., 0] / rays[..., 2]).astype(int), np.round(rays[..., 1] / rays[..., 2]).astype(int)
    ok = (rays[..., 2] > 0) & (u >= 0) & (u < 128) & (v >= 0) & (v < 96)
    assert ok.mean() > 0.6
    explained = np.abs(after[ok] - before[v[ok], u[ok]]).mean()
    assert explained < 0.35 * np.abs(after[ok] - before[ok]).mean()


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_something_on_the_lens_covers_its_share_and_stays_where_it_is(share: float, sound: list[Observation]) -> None:
    with _faulty(f"occlusion:{share}@0") as simulation:
        seen = _drive(simulation, seconds=2.0)
    changed = np.array([(a.image != b.image).any(axis=-1) for a, b in zip(seen, sound, strict=True)])
    assert changed.mean() == pytest.approx(share, abs=0.08)
    solid = changed.all(axis=0) & (np.ptp([a.image for a in seen], axis=0).max(axis=-1) == 0)
    assert solid.mean() > 0.75 * share  # all but the soft edge
    assert np.mean(seen[0].image[solid]) < 80


def test_a_frozen_camera_repeats_a_picture_under_fresh_stamps() -> None:
    with _faulty("frozen_frame@0.6-1.4", camera_noise=2.0) as simulation:
        seen = _drive(simulation, seconds=2.0)
    equal = [np.array_equal(a.image, b.image) for a, b in pairwise(seen)]
    assert equal == [False, False, True, True, True, False, False, False]
    assert {b.stamp_ns - a.stamp_ns for a, b in pairwise(seen)} == {250_000_000}


def test_a_lagging_camera_shows_the_past(sound: list[Observation]) -> None:
    with _faulty("time_lag:0.5@1.1") as simulation:
        seen = _drive(simulation, seconds=2.0)
    for i in range(5, 9):
        image = seen[i].image.astype(int)
        past, present = (np.abs(image - sound[j].image).mean() for j in (i - 2, i))
        assert past < 0.25 * present
        assert seen[i].stamp_ns == sound[i].stamp_ns
    with _faulty("time_lag:3@0.1") as simulation:  # longer than there is a past: the start
        late = _drive(simulation, seconds=0.5)
    assert np.abs(late[-1].image.astype(int) - sound[0].image).mean() < 1.0


def test_when_lights_go_out_the_room_is_dark_and_truth_stays() -> None:
    with Simulation(seed=SEED, **SIZE) as simulation:
        bright, truth = simulation.observe().image.astype(float), simulation.truth()
    for lost, low, high in ((0.5, 0.4, 0.65), (0.95, 0.02, 0.1), (1.0, 0.0, 0.005)):  # bright parts were clipped
        with _faulty(f"lights_out:{lost}@0") as simulation:
            dark, same = simulation.observe().image.astype(float), simulation.truth()
        assert low <= dark.mean() / bright.mean() <= high
        assert np.array_equal(truth.segmentation, same.segmentation)
        assert np.array_equal(truth.depth_m, same.depth_m)


@pytest.mark.parametrize("gain", [0.4, 2.0])
def test_a_jump_of_exposure_multiplies_and_clips(gain: float, sound: list[Observation]) -> None:
    with _faulty(f"gain_change:{gain}@0") as simulation:
        image = simulation.observe().image
    assert np.array_equal(image, np.rint(np.clip(sound[0].image * np.float32(gain), 0, 255)).astype(np.uint8))


def test_noise_has_its_size_differs_by_picture_and_repeats(sound: list[Observation]) -> None:
    runs = []
    for _ in range(2):
        with _faulty(camera_noise=3.0) as simulation:
            runs.append([simulation.observe().image, *(o.image for o in _drive(simulation, seconds=0.25)[1:])])
    assert all(map(np.array_equal, *runs))
    noise = [image.astype(float) - clean.image for image, clean in zip(runs[0], sound, strict=False)]
    middle = [n[(clean.image > 20) & (clean.image < 235)] for n, clean in zip(noise, sound, strict=False)]
    assert [float(np.std(n)) for n in middle] == [pytest.approx(3.0, rel=0.05)] * 2
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(
    "values", [{"camera_noise": -1.0}, {"camera_noise": math.nan}, {"flicker": 2.0}, {"people": 3}]
)
def test_bad_arguments_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SimulationError, match="expected"):
        FaultySimulation(seed=0, **SIZE, **values)  # type: ignore[arg-type]
    with _faulty() as simulation, pytest.raises(SimulationError, match="0 people in store"):
        simulation.begin(parse_fault("people@0"))


def test_flicker_changes_the_exposure_from_picture_to_picture() -> None:
    lens = Lens(seed=1, height=96, width=128, flicker=0.05)
    grey = np.full((96, 128, 3), 100, np.uint8)
    levels = [float(lens.expose(grey, number).mean()) for number in range(200)]
    assert np.std(levels) == pytest.approx(5.0, rel=0.2)
    assert np.mean(levels) == pytest.approx(100.0, abs=1.5)
    assert np.array_equal(lens.expose(grey, 7), lens.expose(grey, 7))


# ---- people --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [20, 22, 26])
def test_people_come_into_view_and_walk_and_are_no_static_structures(seed: int) -> None:
    with _faulty("people:2@0.5-6", seed=seed) as simulation:
        table = simulation.room.structures
        ids = [number for number, entry in table.items() if not entry["static"]]
        assert len(ids) == 2
        assert len(table) == len({entry["name"] for entry in table.values()})
        covered, middles, nearest_m = [], [], []
        for _ in range(30):
            simulation.step(0.0, 0.2, 0.25)
            here = np.isin(simulation.truth().segmentation, ids)
            covered.append(float(here.mean()))
            if here.any():
                middles.append(float(np.nonzero(here)[1].mean()))
            pose = simulation.pose()
            nearest_m += [math.hypot(walker.x - pose.x, walker.y - pose.y) for walker in simulation._walkers]
    assert covered[0] == 0.0  # before
    assert max(covered[1:8]) > 0.01  # soon
    assert np.mean(np.array(covered[3:23]) > 0) > 0.6  # most of the time
    assert covered[-4:] == [0.0] * 4  # after
    assert np.ptp(middles) > 30  # across the picture
    assert min(nearest_m) > 0.35


def test_people_touch_nothing(sound: list[Observation]) -> None:
    with _faulty("people:2@0", seed=SEED) as simulation:
        seen = _drive(simulation, seconds=2.0)
    assert [o.pose for o in seen] == [o.pose for o in sound]
    assert float(wrap_angle(seen[-1].pose.yaw - seen[0].pose.yaw)) > 0.3


# ---- faults begun and ended by hand --------------------------------------------------------------------------


def test_faults_begin_and_end_by_hand_and_are_told() -> None:
    with _faulty("lights_out@0.2") as simulation:
        simulation.step(0.0, 0.0, 0.5)
        assert [(change.fault.kind, change.active) for change in simulation.changes()] == [("lights_out", True)]
        bright = simulation.observe().image.mean()
        simulation.begin(parse_fault("gain_change:0.5@0"))
        simulation.begin(parse_fault("camera_yaw@0"))
        assert [fault.what for fault in simulation.active] == ["lights_out:0.95", "gain_change:0.5", "camera_yaw:10"]
        assert [change.time_s for change in simulation.changes()] == [0.5, 0.5]
        simulation.end(FaultKind.LIGHTS_OUT)
        assert simulation.observe().image.mean() > 3 * bright
        simulation.end()
        assert simulation.active == ()
        assert [change.active for change in simulation.changes()] == [False] * 3
        assert simulation.changes() == []
