"""The small parts: notices, the newest-wins worker, rates, CPU share and watches, strips and captions."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from egowm_core.errors import DataError
from egowm_nodes.pictures import CAPTION_HEIGHT, STATE_COLORS, add_caption, draw_strip, encode_jpeg, strip_frames
from egowm_nodes.runtime.diagnostics import CpuShare, Durations, InputWatch, Level, RateMeter, judge
from egowm_nodes.runtime.notices import Notices
from egowm_nodes.runtime.worker import LatestWorker

LIMIT_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_notices_are_said_once_counted_and_forgotten():
    clock = Clock()
    notices = Notices(clock, repeat_s=5.0, recent_s=3.0)
    assert notices.report("a", "first") == "first"
    assert [notices.report("a", "again") for _ in range(9)] == [None] * 9
    assert notices.report("b", "other") == "other"
    clock.now_s += 6.0
    assert notices.report("a", "later") == "later (9 more like it since the last message)"
    assert [notice.text for notice in notices.recent()] == ["later"]
    assert notices.counts() == {"a": 11, "b": 1}
    clock.now_s += 4.0
    assert notices.recent() == []


def test_the_newest_item_wins_and_slots_take_turns():
    gate, running, seen = threading.Event(), threading.Event(), []

    def work(item: str) -> None:
        seen.append(item)
        running.set()
        assert gate.wait(LIMIT_S)

    worker = LatestWorker(work, slots=("live", "hindsight"), on_error=seen.append, name="test")
    worker.offer("live", "live 1")
    assert running.wait(LIMIT_S)
    for i in (2, 3, 4):
        worker.offer("live", f"live {i}")
    worker.offer("hindsight", "hindsight 1")
    gate.set()
    wait_until(lambda: worker.idle)
    assert seen == ["live 1", "hindsight 1", "live 4"]
    assert worker.replaced == {"live": 2} and worker.done == {"live": 2, "hindsight": 1}
    assert worker.close(timeout_s=LIMIT_S)
    worker.offer("live", "too late")
    assert seen[-1] == "live 4"


def test_a_failing_item_is_reported_and_the_thread_lives_on():
    errors: list[Exception] = []
    worker = LatestWorker(lambda item: 1 / item, slots=("x",), on_error=errors.append, name="test")
    worker.offer("x", 0)
    wait_until(lambda: worker.idle)
    worker.offer("x", 1)
    wait_until(lambda: worker.idle)
    assert isinstance(errors[0], ZeroDivisionError) and len(errors) == 1 and worker.done["x"] == 2
    with pytest.raises(KeyError, match="no slot 'y'"):
        worker.offer("y", 1)
    assert worker.close(timeout_s=LIMIT_S)


def test_rates_and_percentiles():
    clock = Clock()
    meter = RateMeter(clock, window_s=5.0)
    for _ in range(100):
        clock.now_s += 0.1
        meter.tick()
    assert meter.rate_hz() == pytest.approx(10.0, rel=0.05) and meter.count == 100
    clock.now_s += 20.0
    assert meter.rate_hz() == 0.0
    durations = Durations()
    assert durations.text() == "none yet"
    for i in range(101):
        durations.add(i / 1000)
    assert durations.text() == "50 / 99"


def test_cpu_share_is_that_of_the_window_and_not_of_the_whole_life():
    clock, used = Clock(), Clock()
    meter = CpuShare(clock, used, window_s=10.0)
    for _ in range(20):
        clock.now_s += 1.0
        used.now_s += 0.8
        busy = meter.share()
    assert busy == pytest.approx(0.8)
    for _ in range(11):
        clock.now_s += 1.0
        idle = meter.share()
    assert idle == pytest.approx(0.0)
    clock.now_s += 60.0
    used.now_s += 6.0
    assert meter.share() == pytest.approx(0.1, abs=0.02)  # nobody asked for a minute


def test_a_silent_input_is_named_with_its_topic_and_remedy():
    clock = Clock()
    watch = InputWatch("image", "/robot/image", clock, timeout_s=2.0)
    watch.arrived()
    clock.now_s += 1.9
    assert watch.missing() is None
    clock.now_s += 0.2
    assert watch.missing(publishers=0).startswith("no image for 2.1 s on /robot/image (nobody publishes there")
    assert "QoS" in watch.missing(publishers=1)


def test_the_worst_finding_gives_the_level():
    assert judge([], fine="all well") == (Level.OK, "all well")
    found = [(Level.WARN, "b"), (Level.STALE, "a"), (Level.WARN, "b")]
    assert judge(found, fine="") == (Level.STALE, "a; b")
    assert judge([*found, (Level.ERROR, "c")], fine="")[0] is Level.ERROR


def test_a_strip_shows_now_and_every_half_second():
    assert strip_frames(8, 4.0, 0.5) == [2, 4, 6, 8]
    assert strip_frames(3, 1.0, 0.5) == [1, 2, 3]
    assert strip_frames(1, 4.0, 5.0) == [1]
    frames = [np.full((96, 128, 3), 10 * i, np.uint8) for i in range(5)]
    strip = draw_strip(frames[0], frames[1:], [0.5, 1.0, 1.5, 2.0])
    assert strip.shape == (112, 5 * 130 - 2, 3)
    np.testing.assert_array_equal(strip[16:, 260:388], frames[2])
    assert strip[:16].max() > 150  # somebody wrote on it
    with pytest.raises(DataError, match="one time per frame"):
        draw_strip(frames[0], frames[1:], [0.5])
    assert encode_jpeg(strip).startswith(b"\xff\xd8")


def test_a_caption_stands_below_the_picture_in_the_colour_of_the_state():
    picture = np.full((40, 90, 3), 7, np.uint8)
    captioned = add_caption(picture, "ERROR", "ERROR, not following   SCS 31 at 2, 20 at 8")
    assert captioned.shape == (40 + CAPTION_HEIGHT, 90, 3)
    np.testing.assert_array_equal(captioned[:40], picture)
    assert tuple(captioned[41, 1]) == tuple(captioned[-1, -1]) == STATE_COLORS["ERROR"]
    assert captioned[40:].min() < 60  # and there is dark text on it ...
    assert (captioned[40:, -4:] == STATE_COLORS["ERROR"]).all()  # ... made small enough to fit


def wait_until(condition) -> None:
    ready = threading.Event()
    for _ in range(int(LIMIT_S / 0.005)):
        if condition():
            return
        ready.wait(0.005)
    raise AssertionError("waited too long")
