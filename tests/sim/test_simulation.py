"""The simulated robot: motion obeys commands, images show it, odometry drifts, truth fits the picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from egowm_core.geometry import se2_delta, wrap_angle
from egowm_sim import camera
from egowm_sim.backend import SimulationError
from egowm_sim.robot import ROBOT_GROUP, WheelOdometry, wheel_speeds
from egowm_sim.robot_simulation import Observation
from egowm_sim.simulation import Simulation

SEED = 10


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(seed=SEED) as made:
        yield made


def _column_shift(before: Observation, after: Observation) -> int:
    """By how many pixels content near the horizon moved to the right."""
    a, b = (o.image[90:130].astype(float).mean(axis=(0, 2)) for o in (before, after))
    shifts = range(-80, 81)

    def difference(shift: int) -> float:
        low, high = max(0, shift), min(len(a), len(a) + shift)
        return float(np.abs(b[low:high] - a[low - shift : high - shift]).mean())

    return min(shifts, key=difference)


def test_equal_seeds_and_commands_give_equal_images_and_odometry() -> None:
    seen = []
    for _ in range(2):
        with Simulation(seed=3, height=96, width=128) as simulation:
            for v, w in ((0.3, 0.2), (0.1, -0.5), (0.0, 0.4)):
                simulation.step(v, w, 0.3)
            seen.append(simulation.observe())
    assert np.array_equal(seen[0].image, seen[1].image)
    assert seen[0].odometry == seen[1].odometry
    assert seen[0].pose == seen[1].pose


def test_forward_moves_forward(simulation: Simulation) -> None:
    before = simulation.observe()
    for _ in range(10):
        simulation.step(0.3, 0.0, 0.1)
    after = simulation.observe()
    start, end = (np.array([o.pose.x, o.pose.y, o.pose.yaw]) for o in (before, after))
    dx, dy, dyaw = se2_delta(start, end)
    assert dx == pytest.approx(0.3 - 0.3**2 / (2 * 0.8), abs=0.02)  # a second at 0.3 m/s less the ramp
    assert abs(dy) < 0.01
    assert abs(dyaw) < 0.01
    assert np.abs(after.image.astype(int) - before.image).mean() > 2.0
    assert after.stamp_ns - before.stamp_ns == 1_000_000_000


def test_turning_left_moves_the_picture_right(simulation: Simulation) -> None:
    simulation.step(0.0, 0.0, 0.1)
    before = simulation.observe()
    for _ in range(6):
        simulation.step(0.0, 0.4, 0.1)
    after = simulation.observe()
    turned = float(wrap_angle(after.pose.yaw - before.pose.yaw))
    assert turned > 0.1
    expected = camera.focal_px(320) * np.tan(turned)
    assert _column_shift(before, after) == pytest.approx(expected, abs=12)


def test_commands_are_limited(simulation: Simulation) -> None:
    speeds = []
    for _ in range(100):
        simulation.step(5.0, -7.0, 0.02)
        speeds.append(simulation.command)
    v, w = np.array(speeds).T
    assert v.max() == pytest.approx(0.6)
    assert w.min() == pytest.approx(-0.6)
    assert np.abs(np.diff(v)).max() <= 0.8 * 0.02 + 1e-9
    assert np.abs(np.diff(w)).max() <= 1.5 * 0.02 + 1e-9


def test_wheels_follow_the_command_without_much_slip(simulation: Simulation) -> None:
    for _ in range(20):
        simulation.step(0.0, 0.6, 0.05)
        assert abs(simulation.pose().w - simulation.command[1]) < 0.05
    assert simulation.pose().w == pytest.approx(0.6, abs=0.01)


def test_odometry_drifts_a_little_from_the_truth(simulation: Simulation) -> None:
    start = simulation.pose()
    for i in range(200):
        simulation.step(0.0, 0.6 if i < 150 else -0.6, 0.05)
    turned = float(wrap_angle(simulation.pose().yaw - start.yaw))
    error = float(wrap_angle(simulation.odometry().yaw - turned))
    assert 1e-5 < abs(error) < 0.3


def test_perfect_wheels_integrate_a_circle() -> None:
    odometry = WheelOdometry(np.random.default_rng(0), angles=np.zeros(2), stamp_ns=0)
    angles, speeds = np.zeros(2), np.array(wheel_speeds(0.4, 0.5))
    for i in range(1, 252):
        angles = angles + speeds * 0.05
        now = odometry.update(angles, i * 50_000_000)
    assert np.hypot(now.x, now.y) < 0.12  # a circle of 0.8 m radius closes after 4 pi seconds, but for the errors
    assert now.v == pytest.approx(0.4, abs=0.02)
    assert now.w == pytest.approx(0.5, abs=0.03)


def test_shifting_the_clock_moves_stamps_and_nothing_else(simulation: Simulation) -> None:
    simulation.step(0.4, 0.0, 0.6)
    before = simulation.step(0.4, 0.0, 0.05)
    simulation.shift_clock(7)
    assert simulation.odometry().stamp_ns == before.stamp_ns + 7 == simulation.stamp_ns
    after = simulation.step(0.4, 0.0, 0.05)
    assert after.v == pytest.approx(before.v, abs=0.1)


@pytest.mark.parametrize(("v", "w", "dt_s"), [(np.nan, 0, 0.1), (0, np.inf, 0.1), (0, 0, 0), (0, 0, 0.013), (0, 0, -1)])
def test_bad_steps_are_refused(simulation: Simulation, v: float, w: float, dt_s: float) -> None:
    with pytest.raises(SimulationError, match="expected finite"):
        simulation.step(v, w, dt_s)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(SimulationError, match="seed is -1"):
        Simulation(seed=-1)
    with pytest.raises(SimulationError, match="image size is 4x320"):
        Simulation(seed=0, height=4)
    with Simulation(seed=0, height=96, width=128) as simulation, pytest.raises(SimulationError, match="open_camera"):
        simulation.snapshot()


def test_structures_cover_a_sensible_part_of_pictures() -> None:
    shares, numbers = [], set()
    with Simulation(seed=12, height=96, width=128) as simulation:
        for _ in range(8):
            simulation.step(0.0, 0.6, 1.3)
            structures = simulation.truth().segmentation
            assert structures.dtype == np.uint16
            shares.append((structures > 0).mean())
            numbers |= set(np.unique(structures).tolist())
        assert numbers - {0} <= set(simulation.room.structures)
    assert 0.08 < np.mean(shares) < 0.9
    assert len(numbers) > 6


def test_depth_and_pose_explain_the_next_picture(simulation: Simulation) -> None:
    """Pixels carried by depth and true motion land on pixels of equal colour and structure."""
    before, truth_before = simulation.observe(), simulation.truth()
    for _ in range(6):
        simulation.step(0.2, 0.4, 0.05)
    after, truth_after = simulation.observe(), simulation.truth()
    k, mount = camera.camera_matrix(240, 320), camera.mount_rotation() @ np.diag([1.0, -1.0, -1.0])
    offset = np.array([camera.FORWARD_M, 0.0, camera.HEIGHT_M])

    def to_world(pose_yaw: float) -> np.ndarray:
        c, s = np.cos(pose_yaw), np.sin(pose_yaw)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    v, u = np.mgrid[:240, :320]
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones(u.shape)], axis=-1)
    world = (rays * truth_after.depth_m[..., None] @ mount.T + offset) @ to_world(after.pose.yaw).T
    world += np.array([after.pose.x - before.pose.x, after.pose.y - before.pose.y, 0.0])
    seen = (world @ to_world(before.pose.yaw) - offset) @ mount
    column = np.round(seen[..., 0] / seen[..., 2] * k[0, 0] + k[0, 2]).astype(int)
    row = np.round(seen[..., 1] / seen[..., 2] * k[1, 1] + k[1, 2]).astype(int)
    ok = (seen[..., 2] > 0) & (column >= 0) & (column < 320) & (row >= 0) & (row < 240)
    ok[ok] &= np.abs(truth_before.depth_m[row[ok], column[ok]] - seen[..., 2][ok]) < 0.05
    assert ok.mean() > 0.6
    still = np.abs(before.image[ok].astype(int) - after.image[ok]).mean()
    moved = np.abs(before.image[row[ok], column[ok]].astype(int) - after.image[ok]).mean()
    assert moved < 0.25 * still
    assert (truth_before.segmentation[row[ok], column[ok]] == truth_after.segmentation[ok]).mean() > 0.98


def test_the_robot_does_not_see_itself_and_culling_changes_nothing(simulation: Simulation) -> None:
    for _ in range(4):
        simulation.step(0.1, 0.6, 0.5)
        image, truth = simulation.observe().image, simulation.truth()
        renderer, data = simulation._renderer, simulation._data
        assert renderer is not None
        renderer._option.geomgroup[ROBOT_GROUP] = 0
        renderer.update(data, cull=False)
        whole, (segmentation, depth_m) = renderer.image(), renderer.truth()
        renderer._option.geomgroup[ROBOT_GROUP] = 1
        assert np.array_equal(image, whole)
        assert np.array_equal(truth.segmentation, segmentation)
        assert np.array_equal(truth.depth_m, depth_m)


def test_two_simulations_live_side_by_side() -> None:
    with Simulation(seed=1, height=96, width=128) as a:
        alone = a.observe().image
        with Simulation(seed=2, height=96, width=128) as b:
            assert not np.array_equal(b.observe().image, alone)
            assert np.array_equal(a.observe().image, alone)
        assert np.array_equal(a.observe().image, alone)


def test_pictures_are_bright_and_textured() -> None:
    for seed in range(20, 24):
        with Simulation(seed=seed, height=96, width=128) as simulation:
            images = []
            for _ in range(4):
                images.append(simulation.observe().image)
                simulation.step(0.0, 0.6, 2.6)
        assert 50 < np.mean(images) < 220
        assert np.std(images) > 20
