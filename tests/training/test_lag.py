"""Lags of known size found in pictures and motion, and none where there is none, or nothing to see."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from egowm_core.data.bag import Bag
from egowm_core.data.values import ImageValue, Topic
from egowm_core.embodiment import Embodiment, load_embodiment
from tests.training import bag_fixtures as bags
from training.convert.lag import LagEstimate, estimate_lag
from training.convert.lag_signals import Cue, cues

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bags"
BASE = load_embodiment("base_3dof")
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real recordings are not here")


def robot(source: str, channels: list[dict], **changes) -> Embodiment:
    data = BASE.to_dict() | {"integrate": "sum", "channels": channels} | changes
    data["action_source"] = {"topic": "motion", "type": source}
    return Embodiment.from_dict(data)


def channel(name: str, unit: str, kind: str, scale: float, source: str) -> dict:
    return {
        "name": name,
        "unit": unit,
        "kind": kind,
        "limits": [-10.0 * scale, 10.0 * scale],
        "scale": scale,
        "source": source,
    }


CAR = robot(
    "geometry_msgs/msg/Twist",
    [channel("throttle", "1", "absolute", 1.0, "linear.x"), channel("steering", "1", "absolute", 1.0, "angular.z")],
)
ARM = robot(
    "sensor_msgs/msg/JointState",
    [channel("shoulder", "rad", "delta", 0.05, "shoulder"), channel("finger", "1", "delta", 0.1, "finger")],
    rate_hz=5.0,
)


def texture(rng: np.random.Generator) -> np.ndarray:
    cells = rng.integers(0, 256, (12, 160), np.uint8)
    return np.dstack([np.kron(cells, np.ones((5, 5), np.uint8))] * 3)


def wander(count: int, rng: np.random.Generator, smooth: int = 5) -> np.ndarray:
    """A smooth random path of about unit speed a step, bounded."""
    steps = np.convolve(rng.normal(size=count + smooth), np.hanning(smooth + 2)[1:-1], "valid")[:count]
    path = np.cumsum(steps)
    trend = np.convolve(np.pad(path, 20, mode="edge"), np.ones(41) / 41, "valid")
    return path - trend


def pan(path: Path, *, late: int, motion: str = "odom", hz: float = 4.0, mirrored: bool = False, **how) -> Path:
    """A camera that pans over a texture, its picture ``late`` frames old; ``how``: jitter_s, shuffled."""
    rng = np.random.default_rng(3)
    picture = texture(rng)
    count = 180
    yaw = 0.25 * wander(count, rng)
    shown = yaw[np.maximum(0, np.arange(count) - late)]
    if how.get("shuffled"):
        yaw = 0.25 * wander(count, np.random.default_rng(99))
    messages = []
    for i in range(count):
        stamp = bags.START_NS + round(i * 1e9 / hz)
        jitter = round(float(rng.uniform(-1, 1)) * how.get("jitter_s", 0.0) * 1e9)
        at = int(np.clip(350 - round(60 * shown[i]), 0, picture.shape[1] - 80))  # turning left shows what is left
        view = picture[:, at : at + 80]
        messages.append((stamp, "/image", bags.image(stamp + jitter, view[:, ::-1] if mirrored else view)))
        if motion == "odom":
            wrapped = float(np.arctan2(np.sin(yaw[i]), np.cos(yaw[i])))
            messages.append((stamp, "/motion", bags.odometry(stamp, (0.1 * i, 0, wrapped))))
        else:
            rate = (yaw[min(i + 1, count - 1)] - yaw[i]) * hz
            messages.append((stamp, "/motion", bags.twist((0.3, 0, rate))))
    return bags.write_bag(path, messages)


def arm_bag(path: Path, *, late: int, moves: bool = True) -> Path:
    """A camera that stands still before an arm that works in bursts; the finger's sensor only chatters."""
    rng = np.random.default_rng(5)
    hz, count = 20.0, 400
    background = cv2.resize(rng.integers(60, 120, (15, 20, 3), np.uint8), (80, 60), interpolation=cv2.INTER_CUBIC)
    pace = np.clip(np.convolve(rng.normal(size=count + 8), np.hanning(11)[1:-1], "valid")[:count], 0, None)
    angle = np.cumsum(0.02 * pace * np.where(np.arange(count) // 40 % 2, 1, -1)) * moves
    joint_state = bags.T["sensor_msgs/msg/JointState"]
    messages = []
    for i in range(count):
        stamp = bags.START_NS + round(i * 1e9 / hz)
        shown = angle[max(0, i - late)]
        frame = background.copy()
        end = (round(16 * (40 + 30 * np.sin(shown))), round(16 * (58 - 45 * np.cos(shown))))
        cv2.line(frame, (40 * 16, 58 * 16), end, (230, 220, 200), 5, cv2.LINE_AA, 4)
        frame = np.clip(frame + rng.normal(0, 1.0, frame.shape), 0, 255).astype(np.uint8)
        positions = np.array([angle[i], rng.normal(0, 0.1) * moves])
        state = joint_state(
            header=bags.header(stamp), name=["shoulder", "finger"], position=positions, velocity=np.zeros(0),
            effort=np.zeros(0),
        )  # fmt: skip
        messages += [(stamp, "/image", bags.image(stamp, frame)), (stamp, "/motion", state)]
    return bags.write_bag(path, messages)


def lag_of(
    path: Path, embodiment: Embodiment = BASE, *, image: str = "/image", motion: str = "/motion", **options
) -> LagEstimate | None:
    with Bag(path) as bag:
        return estimate_lag(bag, bag.topics[image], bag.topics[motion], embodiment, **options)


@pytest.mark.parametrize("late", [0, 1, 3])
def test_a_late_camera_on_a_turning_base(tmp_path, late):
    lag = lag_of(pan(tmp_path / "run", late=late))
    assert lag.frames == late
    assert lag.seconds == pytest.approx(0.25 * late)
    assert lag.confidence > 0.95
    assert lag.convincing == (late > 0)
    assert lag.correlation_best > 0.95
    assert lag.low_s <= lag.seconds <= lag.high_s


def test_correction_raises_the_correlation(tmp_path):
    lag = lag_of(pan(tmp_path / "run", late=3))
    assert lag.correlation_before < lag.correlation_best - 0.5
    assert lag.correlation_at(0.0) == lag.correlation_before
    assert lag.correlation_at(0.75) == lag.correlation_best == max(lag.correlations)
    middle = lag.correlation_at(0.625)
    assert min(lag.correlation_at(0.5), lag.correlation_best) < middle < lag.correlation_best


def test_jittering_stamps_do_not_hide_it(tmp_path):
    lag = lag_of(pan(tmp_path / "run", late=2, jitter_s=0.05))
    assert lag.frames == 2
    assert lag.convincing


def test_velocities_are_integrated(tmp_path):
    lag = lag_of(pan(tmp_path / "run", late=2, motion="twist"))
    assert lag.frames == 2
    assert lag.convincing


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_sign_of_unitless_steering_does_not_matter(tmp_path, mirrored):
    lag = lag_of(pan(tmp_path / "run", late=4, motion="twist", hz=10.0, mirrored=mirrored), CAR)
    assert lag.frames == 4
    assert lag.convincing
    assert lag.correlation_best > 0.9
    assert "sign" in lag.method


def test_the_sign_of_a_heading_does(tmp_path):
    lag = lag_of(pan(tmp_path / "run", late=2, mirrored=True))
    assert not lag.convincing


def test_motion_of_another_recording_does_not_convince(tmp_path):
    lag = lag_of(pan(tmp_path / "run", late=0, shuffled=True))
    assert not lag.convincing
    assert lag.confidence < 0.5


@pytest.mark.parametrize("late", [0, 5])
def test_an_arm_before_a_standing_camera(tmp_path, late):
    lag = lag_of(arm_bag(tmp_path / "run", late=late), ARM)
    assert abs(lag.frames - late) <= 1
    assert lag.convincing == (late > 0)
    assert lag.correlation_best > 0.5


def test_joints_of_other_topics_are_not_waited_for(tmp_path):
    path = arm_bag(tmp_path / "run", late=5)
    channels = [*ARM.to_dict()["channels"], channel("neck", "rad", "delta", 0.05, "neck")]
    lag = lag_of(path, robot("sensor_msgs/msg/JointState", channels, rate_hz=5.0))
    assert lag == lag_of(path, ARM)


def test_without_motion_there_is_nothing_to_say(tmp_path):
    assert lag_of(arm_bag(tmp_path / "run", late=3, moves=False), ARM) is None


def test_a_straight_drive_at_constant_speed_gives_no_false_alarm(tmp_path):
    messages = []
    for i in range(200):
        stamp = bags.START_NS + i * 125_000_000
        messages.append((stamp, "/image", bags.image(stamp, bags.scene(i))))
        messages.append((stamp, "/motion", bags.odometry(stamp, (0.05 * i, 0, 0))))
    lag = lag_of(bags.write_bag(tmp_path / "run", messages))
    assert lag is None or not lag.convincing


def test_a_short_recording_gives_no_answer(tmp_path):
    bag = bags.drive(tmp_path / "run", seconds=3)
    assert lag_of(bag, image="/image/compressed", motion="/odom") is None


def test_decoding_is_bounded_and_the_estimate_repeats(tmp_path, monkeypatch):
    path = pan(tmp_path / "run", late=2)
    assert lag_of(path) == lag_of(path)
    decoded = 0
    original = ImageValue.decode

    def counting(self):
        nonlocal decoded
        decoded += 1
        return original(self)

    monkeypatch.setattr(ImageValue, "decode", counting)
    lag_of(path, max_images=50)
    assert 0 < decoded <= 50


def test_what_is_compared_depends_on_topic_and_units():
    def found(kind: str, embodiment: Embodiment) -> tuple[Cue, ...]:
        return cues(Topic("/motion", kind, 1), embodiment)

    assert found("nav_msgs/msg/Odometry", BASE)[0] is Cue.TURN
    assert found("geometry_msgs/msg/Twist", BASE)[0] is Cue.TURN
    assert found("geometry_msgs/msg/Twist", CAR) == (Cue.STEERING,)
    assert found("sensor_msgs/msg/JointState", ARM) == (Cue.CHANGE,)
    assert found("geometry_msgs/msg/PoseStamped", ARM) == (Cue.CHANGE,)
    assert found("geometry_msgs/msg/PoseStamped", BASE)[0] is Cue.TURN


def test_the_report_s_values_are_plain(tmp_path):
    lag = lag_of(pan(tmp_path / "run", late=2))
    values = json.loads(json.dumps(lag.to_json()))
    assert values["frames"] == 2
    assert len(values["offsets_s"]) == len(values["correlations"])
    assert values["correlation_best"] > values["correlation_before"]


@needs_shared
@pytest.mark.parametrize("name", ["gostanford_no1vc_7_1", "gostanford_no1vc_9_1"])
def test_a_real_base_s_two_frames(name):
    lag = lag_of(SHARED / name, image="/camera/image_raw/compressed", motion="/odom")
    assert lag.frames == 2
    assert lag.convincing
    assert lag.correlation_before < 0.4
    assert lag.correlation_best > 0.92


@needs_shared
def test_a_real_car_s_four_frames():
    lag = lag_of(SHARED / "donkeycar_tub", CAR, image="/camera/image_raw/compressed", motion="/cmd_vel")
    assert 3 <= lag.frames <= 5
    assert lag.convincing


@needs_shared
def test_a_real_humanoid_s_head_moves_after_its_joints():
    robot = load_embodiment("unitree_g1_26")
    path = SHARED / "g1_inspire_ep001"
    lag = lag_of(path, robot, image="/camera/head/image_raw/compressed", motion="/joint_states")
    assert 3 <= lag.frames <= 7
    assert lag.convincing
