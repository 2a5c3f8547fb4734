"""The splitter on made-up streams of ticks: what it cuts, drops and keeps, and that it says so."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from egowm_core.data.bag import Bag
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import Tick
from egowm_core.data.values import ImageValue
from egowm_core.embodiment import Embodiment, load_embodiment
from training.curation.config import CurationConfig, load_curation
from training.curation.quality import EpisodeQuality
from training.curation.splitter import MOST_HELD, Exclusion, Placed, Splitter

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bags"
BASE = load_embodiment("base_3dof")
STANDARD, NONE = load_curation("standard"), load_curation("none")
PERIOD_NS = 250_000_000
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real recordings are not here")


def tick(index: int, frame: np.ndarray, action) -> Tick:
    values = {
        "stamp_ns": index * PERIOD_NS,
        "frame": frame,
        "action_from_previous": None if action is None else np.asarray(action, np.float32),
        "state": np.zeros(3, np.float32),
    }
    return Tick(**{name: values[name] for name in inspect.signature(Tick).parameters})


def place(seed: int) -> np.ndarray:
    """A large picture to look around in: other shapes and colours for every seed."""
    rng = np.random.default_rng(seed)
    canvas = np.full((160, 900, 3), rng.integers(40, 200, 3), np.uint8)
    for _ in range(300):
        x, y, size = int(rng.integers(900)), int(rng.integers(160)), int(rng.integers(4, 22))
        cv2.rectangle(canvas, (x, y), (x + size, y + size), tuple(int(c) for c in rng.integers(0, 256, 3)), -1)
    return canvas


def look(canvas: np.ndarray, at: int) -> np.ndarray:
    return np.ascontiguousarray(canvas[30:126, at : at + 128])


def drive(count: int, *, seed: int = 0, first: int = 0, step: int = 8, since: int | None = None) -> list[Tick]:
    """A robot that turns: ``step`` pixels of 128 a tick, as if since tick ``since`` (default: the first)."""
    canvas, passed = place(seed), 0 if since is None else first - since
    views = [look(canvas, 20 + step * (i + passed)) for i in range(count)]
    return [tick(first + i, view, None if first + i == 0 else (0.05, 0, 0.1)) for i, view in enumerate(views)]


def stand(count: int, *, like: np.ndarray, first: int) -> list[Tick]:
    rng = np.random.default_rng(first)
    frames = (np.clip(like + rng.normal(0, 2, like.shape), 0, 255).astype(np.uint8) for _ in range(count))
    return [tick(first + i, frame, (0.001, 0, 0.002)) for i, frame in enumerate(frames)]


def moving(count: int, frame: np.ndarray, *, first: int, action=(0.1, 0, 0)) -> list[Tick]:
    return [tick(first + i, frame, action) for i in range(count)]


def run(
    ticks: list[Tick], config: CurationConfig = STANDARD, robot: Embodiment = BASE
) -> tuple[list[Placed], list[Exclusion]]:
    splitter, placed = Splitter(config, robot), []
    for number, item in enumerate(ticks, 1):
        placed += splitter.add(item)
        settled = len(placed) + sum(e.frames for e in splitter.exclusions)
        open_frames = 0 if splitter._open is None else splitter._open.frames
        assert number - settled - open_frames <= MOST_HELD
    placed += splitter.finish()
    stamps = [item.tick.stamp_ns for item in placed]
    assert stamps == sorted(set(stamps))
    assert len(placed) + sum(e.frames for e in splitter.exclusions) == len(ticks), "every tick is kept or told of"
    assert all((item.tick.action_from_previous is None) == item.starts for item in placed)
    return placed, splitter.exclusions


def starts(placed: list[Placed]) -> list[int]:
    return [item.tick.stamp_ns // PERIOD_NS for item in placed if item.starts]


def test_a_clean_drive_comes_out_as_it_went_in():
    ticks = drive(60)
    placed, exclusions = run(ticks)
    assert exclusions == []
    assert starts(placed) == [0]
    for before, after in zip(ticks, placed, strict=True):
        assert after.tick is before


def test_breaks_of_the_synchronizer_are_kept():
    ticks = drive(30)
    ticks[12] = replace(ticks[12], action_from_previous=None)
    placed, exclusions = run(ticks)
    assert exclusions == []
    assert starts(placed) == [0, 12]


@pytest.mark.parametrize("step", [4, 16, 26])  # 26 of 128 pixels of 90 degrees are 0.3 rad
def test_a_fast_turn_is_no_cut(step):
    _, exclusions = run(drive(28, step=step))
    assert exclusions == []


def test_a_splice_is_a_cut():
    placed, exclusions = run(drive(25) + drive(25, seed=7, first=25))
    (cut,) = exclusions
    assert (cut.reason, cut.frames, cut.start_ns, cut.limit) == ("scene cut", 0, 25 * PERIOD_NS, 0.3)
    assert cut.value < cut.limit
    assert starts(placed) == [0, 25]


def test_nothing_is_curated_where_it_is_turned_off():
    ticks = drive(25) + drive(25, seed=7, first=25) + moving(30, np.zeros((96, 128, 3), np.uint8), first=50)
    placed, exclusions = run(ticks, NONE)
    assert exclusions == []
    assert len(placed) == 80
    assert starts(placed) == [0]


@pytest.mark.parametrize(("still", "cut"), [(8, False), (12, False), (13, True), (200, True)])
def test_a_pause_of_over_three_seconds_is_cut_out(still, cut):
    before = drive(20)
    pause = stand(still, like=before[-1].frame, first=20)
    ticks = before + pause + drive(20, first=20 + still, since=still + 1)
    placed, exclusions = run(ticks)
    pauses = [e for e in exclusions if e.reason == "pause"]
    if not cut:
        assert (pauses, len(placed)) == ([], len(ticks))
        return
    (found,) = pauses
    last = 20 + still - 1
    assert found.frames == still - 1
    assert (found.start_ns, found.end_ns) == (20 * PERIOD_NS, (last - 1) * PERIOD_NS)
    assert found.value == pytest.approx(still * 0.25)
    assert found.limit == 3.0
    assert last in starts(placed), "the next episode starts from standstill, with the action that ends it"
    after = next(item for item in placed if item.tick.stamp_ns == (last + 1) * PERIOD_NS)
    assert after.tick.action_from_previous is not None


def test_a_pause_at_either_end_leaves_nothing_behind():
    first = place(0)[30:126, 20:148]
    opening = [tick(0, np.ascontiguousarray(first), None), *stand(39, like=first, first=1)]
    drove = drive(20, first=40, since=40)
    ending = stand(40, like=drove[-1].frame, first=60)
    placed, exclusions = run(opening + drove + ending)
    assert [e.reason for e in exclusions] == ["pause", "pause"]
    assert [e.frames for e in exclusions] == [39, 40]
    assert starts(placed) == [39]


def test_a_long_pause_limit_still_holds_few_ticks():
    patient = replace(STANDARD, pause_s=60.0)
    drove = drive(10)
    _, exclusions = run(drove + stand(300, like=drove[-1].frame, first=10), patient)
    assert [e.reason for e in exclusions] == ["pause"]


@pytest.mark.parametrize("encoded", [False, True])
def test_a_frozen_camera_of_a_moving_robot_is_left_out(encoded):
    before = drive(20)
    frame = before[-1].frame
    if encoded:
        frame = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_COLOR)
    frozen = moving(12, frame, first=20, action=(0.1, 0, 0.05))
    if encoded:  # what a video encoder leaves of a still picture
        row = (np.arange(96) % 24 == 0).astype(np.uint8)[:, None, None]
        frozen = [replace(t, frame=np.clip(t.frame, 1, 254) + i % 2 * row) for i, t in enumerate(frozen)]
    after = drive(20, first=32, since=12)
    placed, exclusions = run(before + frozen + after)
    (found,) = exclusions
    assert found.reason == "frozen picture"
    assert found.frames >= (12 if not encoded else 11)
    assert found.value > found.limit == 1.0
    assert 32 in starts(placed)


def test_a_camera_that_lags_when_the_robot_sets_off_is_not_frozen():
    before = stand(6, like=look(place(0), 20), first=1)
    late = moving(3, before[-1].frame, first=7)
    ticks = [tick(0, before[0].frame, None), *before, *late, *drive(20, first=10, since=10)]
    placed, exclusions = run(ticks)
    assert exclusions == []
    assert len(placed) == len(ticks)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f // 40, "too dark"),
        (lambda f: np.full_like(f, 252), "too bright"),
        (lambda f: np.full_like(f, 120), "no contrast"),
        (lambda f: np.where(np.arange(128)[None, :, None] < 120, 255, 0).astype(np.uint8) + 0 * f, "overexposed"),
        (lambda f: cv2.GaussianBlur(f, (0, 0), 4), "blurred"),
    ],
)
def test_pictures_of_no_use_are_left_out(change, reason):
    ticks = drive(60)
    for i in range(40, 45):
        ticks[i] = replace(ticks[i], frame=change(ticks[i].frame))
    placed, exclusions = run(ticks)
    assert [(e.reason, e.frames, e.start_ns, e.end_ns) for e in exclusions] == [
        (reason, 5, 40 * PERIOD_NS, 44 * PERIOD_NS)
    ]
    assert (exclusions[0].value < exclusions[0].limit) == (reason not in ("too bright", "overexposed"))
    assert 45 in starts(placed)


def test_a_bare_wall_is_not_blurred():
    wall = np.repeat(np.linspace(100, 130, 128, dtype=np.uint8)[None, :], 96, axis=0)
    ticks = drive(40) + [tick(40 + i, np.dstack([wall + i] * 3), (0.05, 0, 0)) for i in range(10)]
    assert "blurred" not in [e.reason for e in run(ticks)[1]]


def test_a_constant_command_is_no_pause():
    """An absolute channel says where to, not how fast: a car that holds its throttle is not standing still."""
    data = BASE.to_dict() | {"integrate": "sum"}
    for channel in data["channels"]:
        channel |= {"kind": "absolute", "unit": "1"}
    robot = Embodiment.from_dict(data)
    held = np.full(3, 0.1, np.float32)
    ticks = [replace(t, action_from_previous=held if i else None) for i, t in enumerate(drive(60))]
    assert run(ticks, robot=robot)[1] == []
    standing = [ticks[0], *(replace(t, frame=ticks[0].frame) for t in ticks[1:])]
    assert [e.reason for e in run(standing, robot=robot)[1]] == ["pause"]


def test_quality_of_an_episode():
    moved, stood = EpisodeQuality(BASE), EpisodeQuality(BASE)
    for item in drive(20):
        moved.add(item)
    for item in stand(20, like=look(place(0), 20), first=0):
        stood.add(item)
    figures = moved.summary()
    assert figures["motion"] == pytest.approx(0.1 / 0.15, abs=1e-5)
    assert set(figures) == {"motion", "sharpness", "brightness", "contrast", "saturated"}
    assert moved.judge(STANDARD) is None
    excluded = stood.judge(STANDARD)
    assert excluded is not None
    assert (excluded.reason, excluded.frames, excluded.limit) == ("too little motion", 20, 0.02)
    assert excluded.value < excluded.limit
    assert stood.judge(NONE) is None


def test_a_larger_model_frame_is_judged_alike():
    ticks = drive(25) + drive(25, seed=7, first=25)
    large = [replace(t, frame=cv2.resize(t.frame, (640, 480), interpolation=cv2.INTER_CUBIC)) for t in ticks]
    small_cuts, large_cuts = ([e.start_ns for e in run(some)[1]] for some in (ticks, large))
    assert small_cuts == large_cuts == [25 * PERIOD_NS]


@needs_shared
@pytest.mark.parametrize("name", ["gostanford_no1vc_7_1", "gostanford_no1vc_9_1"])
def test_nothing_of_a_good_recording_is_lost(name):
    preprocess, ticks = Preprocess(96, 128), []
    with Bag(SHARED / name) as bag:
        for i, item in enumerate(bag.read(["/camera/image_raw/compressed"])):
            assert isinstance(item.value, ImageValue)
            ticks.append(tick(i, preprocess(item.value.decode()), None if i == 0 else (0.1, 0, 0.05)))
    placed, exclusions = run(ticks)
    assert exclusions == []
    assert len(placed) == len(ticks)


@needs_shared
def test_two_real_recordings_spliced_are_cut():
    preprocess, ticks = Preprocess(96, 128), []
    for name in ("gostanford_no1vc_7_1", "donkeycar_tub"):
        with Bag(SHARED / name) as bag:
            for i, item in enumerate(bag.read(["/camera/image_raw/compressed"])):
                if i == 40:
                    break
                assert isinstance(item.value, ImageValue)
                frame = preprocess(item.value.decode())
                ticks.append(tick(len(ticks), frame, (0.1, 0, 0.05) if ticks else None))
    placed, exclusions = run(ticks)
    assert [(e.reason, e.start_ns // PERIOD_NS) for e in exclusions] == [("scene cut", 40)]
    assert starts(placed) == [0, 40]
