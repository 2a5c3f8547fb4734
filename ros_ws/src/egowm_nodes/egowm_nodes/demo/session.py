"""A recorded demo read back into arrays: what the camera saw, what was predicted, how it was judged.

Knows message layouts and the topics that were recorded; knows no drawing. Messages that cannot be decoded are left
out and counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from egowm_core.data.images import decode_image
from egowm_core.data.messages import odometry_pose, stamp_ns, twist_velocity
from egowm_core.data.preprocess import Preprocess
from egowm_core.errors import DataError
from egowm_core.types import FloatArray, ImageArray, StampArray

ROLLOUT, DRIFT = "egowm_msgs/msg/Rollout", "egowm_msgs/msg/Drift"
ODOMETRY, DIAGNOSTICS = "nav_msgs/msg/Odometry", "diagnostic_msgs/msg/DiagnosticArray"
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_TOPICS = ("/image/compressed", "/image")  # the first that was recorded is used
OVERLAY_TOPICS = ("/drift_monitor/overlay/compressed", "/drift_monitor/overlay")
SOURCES = ("planned", "held", "executed")
STATES = ("OK", "WARN", "ERROR", "STALE", "UNDEFINED")
MOST_IMAGES_HZ = 15.0  # pictures kept a second


@dataclass(frozen=True)
class Picture:
    """An image (H,W,3) uint8 RGB and the time it shows."""

    stamp_ns: int
    image: ImageArray


@dataclass(frozen=True)
class Prediction:
    """A recorded rollout: ``frames`` (T,H,W,3) of ``stamps_ns`` (T,), ``actions`` (T,D), from ``context_ns``."""

    context_ns: int
    stamps_ns: StampArray
    frames: ImageArray
    actions: FloatArray
    source: str
    inference_s: float
    received_ns: int
    model: str
    num_denoising_steps: int
    embodiment: str = ""


@dataclass(frozen=True)
class Judgement:
    """A recorded Drift message; ``scs``, ``psnr`` and ``baseline_scs`` (what is usual) by horizon (frames).

    Scores are NaN where nothing could be judged. ``alarm`` and ``strengths`` are 1 at the alarm; messages of before
    they were introduced have none (NaN, empty), and one ``baseline_scs`` for all horizons.
    """

    stamp_ns: int
    received_ns: int
    state: str
    reason: str
    source: str
    scs: dict[int, float]
    psnr: dict[int, float]
    baseline_scs: dict[int, float] = field(default_factory=dict)
    cause: str = "none"
    alarm: float = math.nan
    strengths: dict[str, float] = field(default_factory=dict)
    lag_s: float = math.nan


@dataclass(frozen=True)
class TopicRate:
    """A recorded topic; ``rate_hz`` over the time between its first and last message, NaN for fewer than two."""

    name: str
    type: str
    count: int
    rate_hz: float


@dataclass
class Session:
    """Everything the pictures and the report are made of. Lists are in order of stamp."""

    observed: list[Picture] = field(default_factory=list)
    overlays: list[Picture] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    odometry_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    odometry: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 6)))  # x, y, yaw, vx, vy, yaw rate
    diagnostics: dict[str, tuple[int, str, dict[str, str]]] = field(default_factory=dict)  # level, message, values
    topics: list[TopicRate] = field(default_factory=list)
    arrivals_ns: dict[int, int] = field(default_factory=dict)  # camera stamp -> when it was received
    undecodable: Counter[str] = field(default_factory=Counter)
    duration_s: float = 0.0
    image_lag_s: float = 0.0  # how late image stamps are against odometry's

    def twist_at(self, at_ns: int) -> NDArray[np.float64]:
        """(3,) m/s, m/s, rad/s when the picture of ``at_ns`` was taken; NaN where there is none within 1 s."""
        return self._odometry_at(at_ns)[3:]

    def pose_at(self, at_ns: int) -> NDArray[np.float64]:
        """(3,) m, m, rad when the picture of ``at_ns`` was taken; NaN where there is none within 1 s."""
        return self._odometry_at(at_ns)[:3]

    def _odometry_at(self, at_ns: int) -> NDArray[np.float64]:
        taken_ns = at_ns - round(self.image_lag_s * 1e9)
        if not len(self.odometry_ns):
            return np.full(6, math.nan)
        nearest = int(np.abs(self.odometry_ns - taken_ns).argmin())
        near = abs(int(self.odometry_ns[nearest]) - taken_ns) <= 1_000_000_000
        return self.odometry[nearest] if near else np.full(6, math.nan)

    def latencies_s(self, *sources: str) -> NDArray[np.float64]:
        """From the arrival of the camera message to that of the rollout that starts from it."""
        return np.array(
            [
                (prediction.received_ns - self.arrivals_ns[prediction.context_ns]) * 1e-9
                for prediction in self.predictions
                if prediction.context_ns in self.arrivals_ns and (not sources or prediction.source in sources)
            ]
        )


def read_session(path: Path, *, image_lag_s: float = 0.0) -> Session:
    """Read a bag that the recorder made. Raises DataError when it cannot be read."""
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            session = _read(reader)
            session.image_lag_s = image_lag_s
            return session
    except DataError:
        raise
    except Exception as error:  # rosbags lets struct, index and type errors of broken files through
        raise DataError(f"{path} cannot be read: {error}; run egowm-demo again") from error


def _read(reader: AnyReader) -> Session:
    session = Session(duration_s=max(0.0, reader.duration * 1e-9) if reader.message_count else 0.0)
    _Rollouts(session).read(reader)
    if session.predictions:
        shape = session.predictions[0].frames.shape[1:3]
        _Pictures(session, Preprocess(height=shape[0], width=shape[1])).read(reader)
    else:
        _Pictures(session, None).read(reader)
    session.predictions.sort(key=lambda prediction: (prediction.context_ns, prediction.received_ns))
    session.judgements.sort(key=lambda judgement: judgement.received_ns)
    return session


class _Rollouts:
    """Everything but pictures."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._odometry: list[tuple[int, NDArray[np.float64]]] = []

    def read(self, reader: AnyReader) -> None:
        session = self._session
        takers: dict[str, Callable[[Any, int], None]] = {
            ROLLOUT: lambda message, at: session.predictions.append(_prediction(message, at)),
            DRIFT: lambda message, at: session.judgements.append(_judgement(message, at)),
            ODOMETRY: lambda message, _: self._odometry.append(
                (stamp_ns(message), np.concatenate([odometry_pose(message), twist_velocity(message)]))
            ),
            DIAGNOSTICS: lambda message, _: session.diagnostics.update(_diagnostics(message)),
        }
        times: dict[str, list[int]] = {c.topic: [0, 0, 0] for c in reader.connections}  # count, first, last
        for connection, received_ns, raw in reader.messages():
            seen = times[connection.topic]
            seen[1] = seen[1] or received_ns
            seen[0], seen[2] = seen[0] + 1, received_ns
            if connection.msgtype not in takers:
                continue
            try:
                takers[connection.msgtype](reader.deserialize(raw, connection.msgtype), received_ns)
            except Exception:  # rosbags lets struct and index errors of broken messages through; the report tells
                session.undecodable[connection.topic] += 1
        if self._odometry:
            self._odometry.sort(key=lambda item: item[0])
            session.odometry_ns = np.array([at for at, _ in self._odometry], np.int64)
            session.odometry = np.stack([values for _, values in self._odometry])
        types = {c.topic: c.msgtype for c in reader.connections}
        session.topics = [
            TopicRate(name, types[name], count, (count - 1) * 1e9 / (last - first) if last > first else math.nan)
            for name, (count, first, last) in sorted(times.items())
        ]


class _Pictures:
    """Camera and overlay pictures; camera pictures as the model sees them."""

    def __init__(self, session: Session, preprocess: Preprocess | None) -> None:
        self._session, self._preprocess = session, preprocess

    def read(self, reader: AnyReader) -> None:
        session = self._session
        counts = {topic.name: topic.count for topic in session.topics}
        camera = next((name for name in CAMERA_TOPICS if counts.get(name)), None)
        overlay = next((name for name in OVERLAY_TOPICS if counts.get(name)), None)
        wanted = [c for c in reader.connections if c.topic in (camera, overlay) and c.msgtype in IMAGE_TYPES]
        newest_ns = {camera: 0, overlay: 0}
        for connection, received_ns, raw in reader.messages(connections=wanted) if wanted else ():
            topic = connection.topic
            try:
                message = reader.deserialize(raw, connection.msgtype)
                at_ns = stamp_ns(message)
                if topic == camera:
                    session.arrivals_ns.setdefault(at_ns, received_ns)
                if at_ns - newest_ns[topic] < 0.9e9 / MOST_IMAGES_HZ:
                    continue
                image = decode_image(message)
                if topic == camera and self._preprocess is not None:
                    image = self._preprocess(image)
            except Exception:  # as above
                session.undecodable[topic] += 1
                continue
            newest_ns[topic] = at_ns
            (session.observed if topic == camera else session.overlays).append(Picture(at_ns, image))


def _prediction(message: Any, received_ns: int) -> Prediction:
    frames = np.stack([decode_image(frame) for frame in message.frames])
    stamps_ns = np.array([at.sec * 1_000_000_000 + at.nanosec for at in message.stamps], np.int64)
    if len(stamps_ns) != len(frames):
        raise DataError(f"a rollout of {len(frames)} frames has {len(stamps_ns)} stamps")
    channels = max(1, len(message.actions.channels))
    return Prediction(
        context_ns=stamp_ns(message),
        stamps_ns=stamps_ns,
        frames=frames,
        actions=np.asarray(message.actions.data, np.float32).reshape(-1, channels),
        source=_word(SOURCES, message.actions.source),
        inference_s=float(message.inference_s),
        received_ns=received_ns,
        model=str(message.model),
        num_denoising_steps=int(message.num_denoising_steps),
        embodiment=str(message.actions.embodiment),
    )


def _judgement(message: Any, received_ns: int) -> Judgement:
    horizons = [int(horizon) for horizon in message.horizons]
    return Judgement(
        stamp_ns=stamp_ns(message),
        received_ns=received_ns,
        state=_word(STATES, message.state),
        reason=str(message.reason),
        source=_word(SOURCES, message.source),
        scs=dict(zip(horizons, map(float, message.scs), strict=False)),
        psnr=dict(zip(horizons, map(float, message.psnr), strict=False)),
        baseline_scs=dict(zip(horizons, np.broadcast_to(message.baseline_scs, len(horizons)).tolist(), strict=True)),
        cause=str(getattr(message, "cause", "none")),
        alarm=float(getattr(message, "alarm", math.nan)),
        strengths=dict(
            zip(getattr(message, "channels", ()), map(float, getattr(message, "strengths", ())), strict=False)
        ),
        lag_s=float(getattr(message, "lag_s", math.nan)),
    )


def _diagnostics(message: Any) -> dict[str, tuple[int, str, dict[str, str]]]:
    return {
        str(status.name): (
            int(np.asarray(status.level).item()),
            str(status.message),
            {str(pair.key): str(pair.value) for pair in status.values},
        )
        for status in message.status
    }


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)
