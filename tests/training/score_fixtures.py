"""Small videos of a moving picture, and bags with rollouts of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from skimage import data

from tests.training import bag_fixtures as bags
from training.dataset.video import VideoCodec, VideoWriter

SIZE = (96, 128)
RATE_HZ = 4.0
_MESSAGES = Path(__file__).parents[2] / "ros_ws/src/egowm_msgs/msg"


def pan(length: int, *, speed: float = 2.0, size: tuple[int, int] = SIZE, start: float = 20.0) -> np.ndarray:
    """(length,H,W,3): a real picture passing by at ``speed`` px a frame."""
    picture = cv2.resize(data.coffee(), (size[1] * 2, size[0] + 8), interpolation=cv2.INTER_AREA)
    frames = []
    for t in range(length):
        shift = np.float32([[1, 0, -(start + speed * t)], [0, 1, -4]])
        frames.append(cv2.warpAffine(picture, shift, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
    return np.stack(frames)


def write_video(path: Path, frames: np.ndarray, *, rate_hz: float = RATE_HZ, codec: str = "lossless") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"height": frames.shape[1], "width": frames.shape[2]}
    with VideoWriter(path, rate_hz=rate_hz, codec=VideoCodec(codec), **size) as writer:
        for frame in frames:
            writer.add(np.ascontiguousarray(frame))
    return path


def write_pictures(folder: Path, frames: np.ndarray, *, name: str = "frame_{}.png") -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / name.format(number)), frame[..., ::-1])
    return folder


def write_gray(path: Path, picture: np.ndarray) -> Path:
    cv2.imwrite(str(path), picture)
    return path


def rollout_bag(
    path: Path, *, ticks: int = 20, horizon: int = 4, speed: float = 2.0, sources: tuple[int, ...] = (0, 2),
    camera_hz: float = 8.0, camera_size: tuple[int, int] = SIZE, camera: bool = True,
) -> Path:  # fmt: skip
    """A drive past ``pan``: the camera at ``camera_hz``, and rollouts at 4 Hz that predict ``pan`` at ``speed``."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in ("ActionSequence", "Rollout"):
        store.register(get_types_from_msg((_MESSAGES / f"{name}.msg").read_text(), f"egowm_msgs/msg/{name}"))
    types, tick_ns = store.types, round(1e9 / RATE_HZ)
    messages: list[tuple[int, str, object]] = []
    for i in range(round(ticks * camera_hz / RATE_HZ) if camera else 0):
        stamp = bags.START_NS + round(i * 1e9 / camera_hz)
        seen = pan(1, start=20 + 2.0 * i * RATE_HZ / camera_hz, size=camera_size)[0]
        messages.append((stamp + 5_000_000, "/image", bags.image(stamp, seen)))
    for tick in range(ticks):
        now = bags.START_NS + tick * tick_ns
        predicted = pan(horizon + 1, start=20 + 2.0 * tick, speed=speed)[1:]
        stamps = [now + (t + 1) * tick_ns for t in range(horizon)]
        time = types["builtin_interfaces/msg/Time"]
        for source in sources:
            actions = types["egowm_msgs/msg/ActionSequence"](
                header=bags.header(now), embodiment="base_3dof", channels=["dx"], rate_hz=RATE_HZ, source=source,
                data=np.zeros(horizon, np.float32), PLANNED=0, HELD=1, EXECUTED=2,
            )  # fmt: skip
            rollout = types["egowm_msgs/msg/Rollout"](
                header=bags.header(now), model="tiny", embodiment="base_3dof", actions=actions,
                stamps=[time(sec=at // 10**9, nanosec=at % 10**9) for at in stamps],
                frames=[bags.image(at, frame) for at, frame in zip(stamps, predicted, strict=True)],
                num_denoising_steps=1, seed=0, inference_s=0.1, sequence=tick,
            )  # fmt: skip
            messages.append((now + 20_000_000, "/world_model/rollout", rollout))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for log_ns, topic, message in sorted(messages, key=lambda item: item[0]):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], log_ns, store.serialize_cdr(message, kind))
    return path
