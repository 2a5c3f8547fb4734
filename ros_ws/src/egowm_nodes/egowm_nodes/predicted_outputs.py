"""The pictures that the world model publishes beside its rollouts: drawn only while somebody listens.

Knows rclpy's publishers and the messages; knows no model and no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.types import Frames, Rollout
from egowm_nodes import conversions
from egowm_nodes.pictures import draw_strip, strip_frames


class PredictedOutputs:
    """~/predicted/image_raw (and compressed, camera_info) and ~/predicted/strip.

    ``create(kind, topic, qos)`` makes a publisher; ``report(key, text)`` says what can't be used.
    """

    def __init__(
        self, embodiment: Embodiment, create: Callable[[type, str, Any], Any], report: Callable[[str, str], None]
    ) -> None:
        self._embodiment, self._report = embodiment, report
        qos = qos_profile_sensor_data
        self._image = create(Image, "~/predicted/image_raw", qos)
        self._jpeg = create(CompressedImage, "~/predicted/image_raw/compressed", qos)
        self._info = create(CameraInfo, "~/predicted/camera_info", qos)
        self._strip = create(Image, "~/predicted/strip", qos)
        self.camera_info: CameraInfo | None = None  # of the real camera, as it came

    def show(self, rollout: Rollout, context: Frames, *, number: int, strip_step_s: float, frame_id: str) -> None:
        """Publish frame ``number`` (from 1; 0 is the last) of a rollout with its future stamp, and the strip."""
        frames = rollout.frames
        number = min(number or len(frames), len(frames))
        image, stamp_ns = frames.images[number - 1], int(frames.stamps_ns[number - 1])
        if self._image.get_subscription_count():
            self._image.publish(conversions.image_message(image, stamp_ns, frame_id))
        if self._jpeg.get_subscription_count():
            self._jpeg.publish(conversions.compressed_message(image, stamp_ns, frame_id))
        if self._info.get_subscription_count() and (info := self._scaled_info()) is not None:
            info.header = conversions.header(stamp_ns, frame_id)
            self._info.publish(info)
        if self._strip.get_subscription_count():
            numbers = strip_frames(len(frames), self._embodiment.rate_hz, strip_step_s)
            ahead_s = [(int(frames.stamps_ns[n - 1]) - rollout.context_stamp_ns) * 1e-9 for n in numbers]
            strip = draw_strip(context.images[-1], [frames.images[n - 1] for n in numbers], ahead_s)
            self._strip.publish(conversions.image_message(strip, rollout.context_stamp_ns, frame_id))

    def _scaled_info(self) -> CameraInfo | None:
        """Intrinsics of the predicted picture: the camera's own, scaled, or else what the embodiment says."""
        camera, original = self._embodiment.camera(), self.camera_info
        try:
            if original is None:
                return conversions.camera_info_of(camera)
            return conversions.scaled_camera_info(original, Preprocess.for_camera(camera))
        except DataError as error:
            self._report("input: camera_info", f"camera_info not used: {error}")
            return None
