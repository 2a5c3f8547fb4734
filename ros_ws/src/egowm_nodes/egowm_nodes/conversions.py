"""ROS messages to the core's values and back. Pure functions of ordinary message classes; knows no node.

``data`` fields are assigned as ``bytes``: an array takes rclpy a hundred times longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from egowm_msgs.msg import Rollout as RolloutMsg
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from egowm_core.channels import Camera
from egowm_core.data.images import decode_image
from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError, EmbodimentError
from egowm_core.types import (
    NANOSECONDS_PER_SECOND,
    ActionSequence,
    ActionSource,
    FloatArray,
    Frames,
    ImageArray,
    Rollout,
)
from egowm_nodes.pictures import encode_jpeg

JPEG_FORMAT = "rgb8; jpeg compressed bgr8"  # as image_transport writes it
SOURCES = {
    ActionSource.PLANNED: ActionSequenceMsg.PLANNED,
    ActionSource.HELD: ActionSequenceMsg.HELD,
    ActionSource.EXECUTED: ActionSequenceMsg.EXECUTED,
}
_SOURCES_BACK = {number: source for source, number in SOURCES.items()}
_MAX_FRAMES = 512
_MOST_DISTORTION, _LONGEST_NAME = 14, 64  # parameters and name, of the longest model there is


def time_message(stamp_ns: int) -> Time:
    """Nanoseconds to builtin_interfaces/Time."""
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    return Time(sec=seconds, nanosec=nanoseconds)


def time_ns(message: Time) -> int:
    """builtin_interfaces/Time to nanoseconds."""
    return int(message.sec) * NANOSECONDS_PER_SECOND + int(message.nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header of this stamp and frame."""
    return Header(stamp=time_message(stamp_ns), frame_id=frame_id)


def image_message(image: ImageArray, stamp_ns: int, frame_id: str) -> Image:
    """RGB (H,W,3) uint8 to sensor_msgs/Image rgb8."""
    height, width = image.shape[:2]
    message = Image(header=header(stamp_ns, frame_id), height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = image.tobytes()
    return message


def compressed_message(image: ImageArray, stamp_ns: int, frame_id: str) -> CompressedImage:
    """RGB (H,W,3) uint8 to a JPEG sensor_msgs/CompressedImage."""
    message = CompressedImage(header=header(stamp_ns, frame_id), format=JPEG_FORMAT)
    message.data = encode_jpeg(image)
    return message


def action_message(actions: ActionSequence, embodiment: Embodiment, start_ns: int) -> ActionSequenceMsg:
    """Actions from the frame at ``start_ns`` on."""
    return ActionSequenceMsg(
        header=header(start_ns, embodiment.base_frame),
        embodiment=embodiment.name,
        channels=list(embodiment.channel_names),
        rate_hz=embodiment.rate_hz,
        source=SOURCES[actions.source],
        data=actions.values.ravel().tolist(),
    )


def rollout_message(
    rollout: Rollout, *, model: str, embodiment: Embodiment, frame_id: str, sequence: int
) -> RolloutMsg:
    """A prediction to egowm_msgs/Rollout; ``frame_id`` is the camera's optical frame."""
    stamps = rollout.frames.stamps_ns.tolist()
    return RolloutMsg(
        header=header(rollout.context_stamp_ns, frame_id),
        model=model,
        embodiment=embodiment.name,
        actions=action_message(rollout.actions, embodiment, rollout.context_stamp_ns),
        stamps=[time_message(stamp) for stamp in stamps],
        frames=[
            image_message(image, stamp, frame_id) for image, stamp in zip(rollout.frames.images, stamps, strict=True)
        ],
        num_denoising_steps=rollout.num_denoising_steps,
        seed=rollout.seed,
        inference_s=float(rollout.timings_s.get("total", math.nan)),
        sequence=sequence,
    )


def rollout_from_message(message: RolloutMsg) -> Rollout:
    """egowm_msgs/Rollout back to the core's value (``timings_s`` holds the total alone).

    Raises:
        DataError: no frames, frames that differ in size or number from the stamps, stamps that do not increase, or
            actions that do not parse, are not finite or fewer than the frames.
    """
    if not 1 <= len(message.frames) <= _MAX_FRAMES or len(message.frames) != len(message.stamps):
        raise DataError(
            f"a rollout has one frame per stamp and 1..{_MAX_FRAMES} of them, got {len(message.frames)} frames and"
            f" {len(message.stamps)} stamps; check its publisher"
        )
    sizes = {(image.height, image.width) for image in message.frames}
    if len(sizes) != 1:
        raise DataError(f"the frames of a rollout are of one size, got {sorted(sizes)}; check its publisher")
    images = np.stack([decode_image(image) for image in message.frames])
    stamps = np.array([time_ns(stamp) for stamp in message.stamps], np.int64)
    context_ns = time_ns(message.header.stamp)
    if stamps[0] <= context_ns:
        raise DataError("a rollout's first frame is stamped no later than its context; check its publisher")
    values = action_values(message.actions)
    if len(values) < len(images) or not np.all(np.isfinite(values)):
        raise DataError(
            f"a rollout of {len(images)} frames has {len(values)} actions, all of them finite numbers expected, one a"
            " frame; check its publisher"
        )
    return Rollout(
        frames=Frames(images, stamps),
        actions=ActionSequence(values, action_source(message.actions)),
        context_stamp_ns=context_ns,
        num_denoising_steps=int(message.num_denoising_steps),
        seed=int(message.seed),
        timings_s={"total": float(message.inference_s)},
    )


def scaled_camera_info(info: CameraInfo, preprocess: Preprocess) -> CameraInfo:
    """The intrinsics of the model's picture, given those of the camera's; header and distortion are kept.

    Raises:
        DataError: the camera info has no size.
    """
    height, width = int(info.height), int(info.width)
    if not (height and width):
        raise DataError(f"camera_info has size {height}x{width}; the driver must fill in the picture's size")
    if len(info.d) > _MOST_DISTORTION or len(info.distortion_model) > _LONGEST_NAME:
        raise DataError(
            f"camera_info has {len(info.d)} distortion parameters of {info.distortion_model[:40]!r}; expected up to 14"
        )
    top, left, crop_height, crop_width = preprocess.crop_window(height, width)
    sx, sy = preprocess.width / crop_width, preprocess.height / crop_height
    move = np.array(  # pixel centres lie at whole numbers in both pictures
        [[sx, 0, (0.5 - left) * sx - 0.5], [0, sy, (0.5 - top) * sy - 0.5], [0, 0, 1]], np.float64
    )
    scaled = CameraInfo(header=info.header, height=preprocess.height, width=preprocess.width)
    scaled.distortion_model, scaled.d, scaled.r = info.distortion_model, info.d, info.r
    scaled.k = (move @ np.asarray(info.k).reshape(3, 3)).ravel().tolist()
    scaled.p = (move @ np.asarray(info.p).reshape(3, 4)).ravel().tolist()
    return scaled


def camera_info_of(camera: Camera) -> CameraInfo | None:
    """Intrinsics of the model's picture from the embodiment's field of view, where it says one."""
    if camera.hfov_deg is None:
        return None
    focal = camera.width / 2 / math.tan(math.radians(camera.hfov_deg) / 2)
    cx, cy = (camera.width - 1) / 2, (camera.height - 1) / 2
    info = CameraInfo(height=camera.height, width=camera.width, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def require_robot(message: RolloutMsg, embodiment: Embodiment) -> None:
    """Check that a rollout is of the robot that ``embodiment`` describes.

    Raises:
        EmbodimentError: its actions have other channels, or the same in another order.
    """
    channels = tuple(str(name) for name in message.actions.channels)
    if channels != embodiment.channel_names:
        raise EmbodimentError(
            f"it is of another robot: {message.embodiment or 'unnamed'} with channels {_brief(channels)}, expected"
            f" {embodiment.name} with {_brief(embodiment.channel_names)}; set parameter embodiment as the world model's"
        )


def action_values(message: ActionSequenceMsg) -> FloatArray:
    """Rows (T,D) of an ActionSequence. Raises DataError: no channels, or no whole number of rows."""
    width = len(message.channels)
    if not width or len(message.data) % width:
        raise DataError(
            f"actions have {len(message.data)} values for {width} channels {list(message.channels)}; expected a whole"
            " number of rows"
        )
    return np.asarray(message.data, np.float32).reshape(-1, width)


def action_source(message: ActionSequenceMsg) -> ActionSource:
    """Where its actions come from. Raises DataError for a number that means nothing."""
    source = _SOURCES_BACK.get(int(message.source))
    if source is None:
        raise DataError(f"actions have source {message.source}; expected one of {sorted(_SOURCES_BACK)}")
    return source


def _brief(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"[{shown}, ... {len(names)} in all]" if len(names) > 4 else f"[{shown}]"
