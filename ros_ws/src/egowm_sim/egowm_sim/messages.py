"""Arrays and odometry to ROS messages, with the robot's frames: odom -> base_link -> camera_link -> optical.

Pure functions of ordinary message classes; knows no node.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped, Twist
from nav_msgs.msg import Odometry as OdometryMsg
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from egowm_sim import camera
from egowm_sim.camera import BASE_FRAME, CAMERA_FRAME, ODOM_FRAME, OPTICAL_FRAME
from egowm_sim.codec import JPEG_FORMAT, encode_jpeg
from egowm_sim.robot import Odometry


def time_message(stamp_ns: int) -> Time:
    """Nanoseconds to builtin_interfaces/Time."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=nanoseconds)


def header(stamp_ns: int, frame: str) -> Header:
    return Header(stamp=time_message(stamp_ns), frame_id=frame)


def image_message(image: NDArray[np.uint8], stamp_ns: int) -> Image:
    """RGB (H,W,3) uint8 to sensor_msgs/Image rgb8."""
    height, width = image.shape[:2]
    message = Image(header=header(stamp_ns, OPTICAL_FRAME), height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = image.tobytes()  # bytes: assigning an array takes a hundred times longer
    return message


def compressed_message(image: NDArray[np.uint8], stamp_ns: int) -> CompressedImage:
    """RGB (H,W,3) uint8 to a jpeg sensor_msgs/CompressedImage."""
    message = CompressedImage(header=header(stamp_ns, OPTICAL_FRAME), format=JPEG_FORMAT)
    message.data = encode_jpeg(image).tobytes()
    return message


def camera_info_message(height: int, width: int, stamp_ns: int) -> CameraInfo:
    """The pinhole of the simulated camera."""
    k = camera.camera_matrix(height, width)
    message = CameraInfo(
        header=header(stamp_ns, OPTICAL_FRAME), height=height, width=width, distortion_model="plumb_bob"
    )
    message.d = [0.0] * 5
    message.k = k.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([k, np.zeros((3, 1))]).ravel().tolist()
    return message


def odometry_message(odometry: Odometry) -> OdometryMsg:
    """Wheel odometry, odom -> base_link."""
    message = OdometryMsg(header=header(odometry.stamp_ns, ODOM_FRAME), child_frame_id=BASE_FRAME)
    pose = message.pose.pose
    pose.position.x, pose.position.y = odometry.x, odometry.y
    pose.orientation.z, pose.orientation.w = math.sin(odometry.yaw / 2), math.cos(odometry.yaw / 2)
    message.twist.twist = twist_message(odometry.v, odometry.w)
    return message


def twist_message(v: float, w: float) -> Twist:
    """Forward speed (m/s) and yaw rate (rad/s)."""
    message = Twist()
    message.linear.x, message.angular.z = float(v), float(w)
    return message


def _transform(
    parent: str,
    child: str,
    stamp_ns: int,
    position: tuple[float, float, float],
    quaternion: tuple[float, float, float, float],
) -> TransformStamped:
    message = TransformStamped(header=header(stamp_ns, parent), child_frame_id=child)
    t, r = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = position
    r.x, r.y, r.z, r.w = quaternion
    return message


def odometry_transform(odometry: Odometry) -> TransformStamped:
    """odom -> base_link."""
    turn = (0.0, 0.0, math.sin(odometry.yaw / 2), math.cos(odometry.yaw / 2))
    return _transform(ODOM_FRAME, BASE_FRAME, odometry.stamp_ns, (odometry.x, odometry.y, 0.0), turn)


def camera_transforms(stamp_ns: int) -> list[TransformStamped]:
    """base_link -> camera_link (pitched down) -> camera_optical_frame (z forward, x right, y down)."""
    down = (0.0, math.sin(camera.PITCH_RAD / 2), 0.0, math.cos(camera.PITCH_RAD / 2))
    mount = _transform(BASE_FRAME, CAMERA_FRAME, stamp_ns, (camera.FORWARD_M, 0.0, camera.HEIGHT_M), down)
    return [mount, _transform(CAMERA_FRAME, OPTICAL_FRAME, stamp_ns, (0.0, 0.0, 0.0), (-0.5, 0.5, -0.5, 0.5))]


def tf_message_class() -> Any:
    """tf2_msgs/TFMessage, or None where that package is not installed."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    return TFMessage
