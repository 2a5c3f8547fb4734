"""The pictures that the world model publishes beside its rollouts: drawn only while somebody listens.

Knows rclpy's publishers and the messages; knows no model and no thread. ``show`` and ``due`` may run on two threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.types import Frames, ImageArray, Rollout
from egowm_nodes import conversions
from egowm_nodes.pictures import draw_strip, strip_frames
from egowm_nodes.prediction.ahead import LONGEST_S, ComingTrue, frame_ahead, moment_name, require_shown_ahead


class PredictedOutputs:
    """~/predicted/image_raw (and compressed, camera_info), ~/predicted/strip, and a pair of topics for each moment.

    For each of ``shown_ahead_s`` that is ~/predicted/MOMENT/image_raw and camera_info, MOMENT being ``now`` or
    ``plus_1s``. ``now`` shows, next to the camera, what the furthest of them showed when that was still the future.
    ``create(kind, topic, qos)`` makes a publisher; ``report(key, text)`` says what can't be used.

    Raises:
        ConfigError: ``shown_ahead_s`` are not what ``require_shown_ahead`` wants.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        create: Callable[[type, str, Any], Any],
        report: Callable[[str, str], None],
        *,
        shown_ahead_s: Sequence[float] = (),
    ) -> None:
        require_shown_ahead(shown_ahead_s)
        self._embodiment, self._report = embodiment, report
        qos = qos_profile_sensor_data
        self._image = create(Image, "~/predicted/image_raw", qos)
        self._jpeg = create(CompressedImage, "~/predicted/image_raw/compressed", qos)
        self._info = create(CameraInfo, "~/predicted/camera_info", qos)
        self._strip = create(Image, "~/predicted/strip", qos)
        self._moments = {
            ahead_s: tuple(
                create(kind, f"~/predicted/{moment_name(ahead_s)}/{name}", qos)
                for kind, name in ((Image, "image_raw"), (CameraInfo, "camera_info"))
            )
            for ahead_s in shown_ahead_s
        }
        self._furthest_s = max(shown_ahead_s, default=0.0) or LONGEST_S
        self._coming_true = ComingTrue()
        self._too_far: set[float] = set()  # said once
        self.camera_info: CameraInfo | None = None  # of the real camera, as it came

    def show(self, rollout: Rollout, context: Frames, *, number: int, strip_step_s: float, frame_id: str) -> None:
        """Publish frame ``number`` (from 1; 0 is the last) of a rollout with its future stamp, moments and strip."""
        frames = rollout.frames
        number = min(number or len(frames), len(frames))
        image, stamp_ns = frames.images[number - 1], int(frames.stamps_ns[number - 1])
        self._publish(self._image, self._info, image, stamp_ns, frame_id)
        if self._jpeg.get_subscription_count():
            self._jpeg.publish(conversions.compressed_message(image, stamp_ns, frame_id))
        self._show_ahead(rollout, frame_id)
        if self._strip.get_subscription_count():
            numbers = strip_frames(len(frames), self._embodiment.rate_hz, strip_step_s)
            ahead_s = [(int(frames.stamps_ns[n - 1]) - rollout.context_stamp_ns) * 1e-9 for n in numbers]
            strip = draw_strip(context.images[-1], [frames.images[n - 1] for n in numbers], ahead_s)
            self._strip.publish(conversions.image_message(strip, rollout.context_stamp_ns, frame_id))

    def due(self, stamp_ns: int, frame_id: str) -> None:
        """A new frame of the camera is there: publish what was predicted for its moment, under its stamp."""
        if 0.0 not in self._moments:
            return
        image = self._coming_true.due(stamp_ns, period_ns=self._embodiment.period_ns)
        if image is not None:
            self._publish(*self._moments[0.0], image, stamp_ns, frame_id)

    def _show_ahead(self, rollout: Rollout, frame_id: str) -> None:
        frames = rollout.frames
        for ahead_s, publishers in self._moments.items():
            if ahead_s == 0.0:
                furthest, _ = frame_ahead(frames, rollout.context_stamp_ns, self._furthest_s)
                self._coming_true.keep(frames, furthest)
                continue
            index, reached = frame_ahead(frames, rollout.context_stamp_ns, ahead_s)
            if not reached and ahead_s not in self._too_far:
                self._too_far.add(ahead_s)
                span_s = (int(frames.stamps_ns[-1]) - rollout.context_stamp_ns) * 1e-9
                self._report(
                    f"pictures: {moment_name(ahead_s)}",
                    f"shown_ahead_s has {ahead_s:g}, predictions reach {span_s:g} s: their last frame is shown; raise"
                    " horizon or take it out",
                )
            self._publish(*publishers, frames.images[index], int(frames.stamps_ns[index]), frame_id)

    def _publish(self, images: Any, infos: Any, image: ImageArray, stamp_ns: int, frame_id: str) -> None:
        """One picture and the intrinsics that belong to it, as far as anybody listens."""
        if images.get_subscription_count():
            images.publish(conversions.image_message(image, stamp_ns, frame_id))
        if infos.get_subscription_count() and (info := self._scaled_info(*image.shape[:2])) is not None:
            info.header = conversions.header(stamp_ns, frame_id)
            infos.publish(info)

    def _scaled_info(self, height: int, width: int) -> CameraInfo | None:
        """Intrinsics of a predicted picture of this size: the camera's own, scaled, or what the embodiment says."""
        original = self.camera_info
        try:
            if original is None:
                camera = replace(self._embodiment.camera(), height=height, width=width)
                return conversions.camera_info_of(camera)
            return conversions.scaled_camera_info(original, Preprocess(height, width))
        except DataError as error:
            self._report("input: camera_info", f"camera_info not used: {error}")
            return None
