"""The report of a conversion: what its pages, drawings and lines in the terminal say of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.report_fixtures import T0, Page, make_entry, make_lag, only_page, report, span
from training.report.fields import since_start_s
from training.report.page import MAX_EXCLUSIONS
from training.report.plots import draw_histogram, read_histograms, summed_histograms
from training.report.summary import summary_lines
from training.report.svg import ticks, time_ticks
from training.report.timeline import MAX_BINS, MAX_TOPICS, draw_timeline, read_timeline
from training.report.verdict import BAD, GOOD, WARN, dropped_by_reason, judge, read_lag
from training.report.words import DASH, amount, clock, figure, percent


def test_a_good_recording_is_shown_with_all_there_is_to_know(tmp_path: Path) -> None:
    strip = tmp_path / "report" / "strips" / "hall_1.jpg"
    strip.parent.mkdir(parents=True)
    strip.write_bytes(b"jpeg")
    index = report(tmp_path, make_entry(strip="report/strips/hall_1.jpg"))
    assert "1 good" in index.text and "95.0 %" in index.text
    assert not index.find("section", class_="loud")
    assert len(index.find("svg", class_="histogram")) == 2
    page = only_page(tmp_path)
    for expected in (
        "/odom",
        "nav_msgs/msg/Odometry",
        "23.4",
        "210",
        "segment too short",
        "17",
        "image gap",
        "numbers 4 to 5",
    ):
        assert expected in page.text, expected
    assert "380 frames of 400 ticks (95.0 %)" in page.text
    assert len(page.find("svg", class_="timeline")) == len(page.find("svg", class_="lag")) == 1
    [picture] = page.find("img")
    assert picture["src"] == "../strips/hall_1.jpg" and "hall_1" in str(picture["alt"])
    assert page.find("path", class_="kept") and not page.find("path", class_="gap")


def test_a_lag_that_was_not_corrected_is_loud_everywhere(tmp_path: Path) -> None:
    index = report(tmp_path, make_entry(lag=make_lag(2)), make_entry("fine"))
    [_box] = index.find("section", class_="loud")
    assert "The pictures lag the motion in 1 recording" in index.text and "+0.667 s, not corrected" in index.text
    page = Page((tmp_path / "report/recordings/hall_1.html").read_text())
    assert len(page.find("section", class_="loud")) == 1
    assert "come 0.667 s after the motion" in page.text and "--lag correct" in page.text
    assert "is 0.02 and would be 0.95 at +0.667 s" in page.text
    lines = summary_lines([make_entry(lag=make_lag(2))], {})
    assert any(line.startswith("!!! LAG NOT CORRECTED in 1 recording") for line in lines)
    assert any("0.02, with correction 0.95" in line for line in lines)


def test_a_corrected_lag_tells_before_and_after(tmp_path: Path) -> None:
    index = report(tmp_path, make_entry(lag=make_lag(2, corrected=True)))
    page = only_page(tmp_path)
    assert not index.find("section", class_="loud") and not page.find("section", class_="loud")
    assert "was 0.02 before and is 0.95 after" in page.text
    assert not any("!!!" in line for line in summary_lines([make_entry(lag=make_lag(2, corrected=True))], {}))


@pytest.mark.parametrize(
    ("lag", "state", "level"),
    [
        (None, "unknown", GOOD),
        (make_lag(0), "none", GOOD),
        (make_lag(2, corrected=True), "corrected", GOOD),
        (make_lag(2), "uncorrected", BAD),
        (make_lag(-1), "uncorrected", BAD),
        (make_lag(2, confidence=0.4), "uncertain", WARN),
        ({**make_lag(2, confidence=0.4), "convincing": True}, "uncorrected", BAD),
        ({**make_lag(2), "convincing": False}, "uncertain", WARN),
        ({**make_lag(0), "corrected_s": 1.0}, "uncorrected", BAD),
        ({"frames": 2, "interval_s": 0.5, "confidence": 0.9}, "uncorrected", BAD),
    ],
)
def test_what_a_lag_means(lag: dict[str, Any] | None, state: str, level: str) -> None:
    assert read_lag({"lag": lag}).state == state
    assert judge(make_entry(lag=lag)).level == level


def test_bad_recordings_come_first_and_say_why(tmp_path: Path) -> None:
    gap = {"topic": "/camera/image", "seconds": 3.5, **span(40, 43.5)}
    index = report(
        tmp_path,
        make_entry("a_good"),
        make_entry("b_gap", gaps=[gap]),
        make_entry("c_paused", kept=20, reasons={"pause": 380}),
        make_entry("d_empty", kept=0, episodes=0),
        make_entry("e_fast", largest_action={"dyaw": 0.31}),
        make_entry("f_warned", warnings=["ticks come at 3 Hz"]),
        broken="the chunk at byte 12 does not decompress; record it again",
    )
    rows = [a["data-level"] for a in index.find("tr") if "data-level" in a]
    assert rows == ["bad", "bad", "warn", "warn", "warn", "good"]
    for why in (
        "1 gap, longest 3.5 s",
        "only 5.0 % kept, most lost to: pause",
        "nothing kept",
        "beyond limits: dyaw up to 0.31 (limit 0.2)",
        "ticks come at 3 Hz",
        "the chunk at byte 12 does not decompress; record it again",
    ):
        assert why in index.text
    assert "1 failed" in index.text and "2 need action" in index.text


def test_gaps_are_red_and_kept_spans_green_where_they_were() -> None:
    kept = [4.0] * 20 + [0.0] * 30 + [4.0] * 50
    gap = {"topic": "/camera/image", "seconds": 30.0, **span(20, 50)}
    entry = make_entry(gaps=[gap], timeline={"bin_s": 1.0, "topics": {"/camera/image": kept}, "kept": kept})
    timeline = read_timeline(entry)
    assert timeline is not None
    drawn = draw_timeline(timeline)
    page = Page(f"<div>{drawn}</div>")
    assert page.find("path", class_="kept")[0]["d"] == "M0 14h200v12h-200zM500 14h500v12h-500z"
    assert page.find("path", class_="gap")[0]["d"] == "M200 46h300v12h-300z"
    assert page.find("path", class_="count s4")[0]["d"] == "M0 46h200v12h-200zM500 46h500v12h-500z"


def test_long_recordings_are_merged_to_few_bins_and_rows() -> None:
    topics = {f"/topic_{i}": [1] * 5000 for i in range(100)}
    timeline = read_timeline(make_entry(timeline={"bin_s": 0.1, "topics": topics, "kept": [2] * 4999}))
    assert timeline is not None
    assert timeline.bins <= MAX_BINS and len(timeline.topics) == MAX_TOPICS and timeline.hidden == 70
    assert sum(timeline.kept) == 9998
    assert timeline.duration_s == pytest.approx(500, rel=0.01)
    assert len(draw_timeline(timeline)) < 40_000
    many = [{"topic": "/odom", "seconds": 1.0, **span(i / 100, i / 100 + 0.001)} for i in range(20_000)]
    busy = read_timeline(make_entry(gaps=many))
    assert busy is not None and len(draw_timeline(busy)) < 40_000


def test_exclusions_are_listed_with_time_frames_value_and_limit_and_bounded(tmp_path: Path) -> None:
    some = [
        {"reason": "blurred", "frames": 5, "value": 11.25, "limit": 20, "episode": 1, **span(62.5, 64)},
        {"reason": "near duplicate", "frames": 9, "value": "hall_0", "limit": 0.98, **span(10, 12.25)},
    ]
    report(tmp_path, make_entry(exclusions=some))
    shown = only_page(tmp_path).text
    duplicate, blurred = shown.rindex("near duplicate"), shown.rindex("blurred")
    assert duplicate < blurred  # in order of time
    assert shown[duplicate:blurred].split() == [
        "near",
        "duplicate",
        "10",
        "s",
        "2.25",
        "s",
        "9",
        "hall_0",
        "0.98",
        DASH,
    ]
    assert shown[blurred:].split()[:8] == ["blurred", "1:02", "1.5", "s", "5", "11.2", "20", "1"]
    many = [{"reason": "blank", "frames": 1, **span(i, i + 1)} for i in range(2000)]
    report(tmp_path, make_entry(exclusions=many))
    page = only_page(tmp_path)
    assert page.text.count("blank") == MAX_EXCLUSIONS + 1  # and the sum
    assert "1,500 more exclusions" in page.text


def test_what_was_dropped_and_what_was_left_out_add_up() -> None:
    entry = make_entry(
        reasons={"no odom": 2, "dark": 1, "clock reset (break)": 1},
        exclusions=[
            {"reason": "pause", "frames": 10},
            {"reason": "pause", "frames": 20},
            {"reason": "dark", "frames": 4},
        ],
    )
    assert list(dropped_by_reason(entry).items()) == [("pause", 30), ("dark", 5), ("no odom", 2)]


def test_histograms_mark_what_is_beyond_the_limits() -> None:
    edges = list(np.linspace(-0.25, 0.25, 11))
    data = {"edges": edges, "counts": [3, 0, 5, 50, 100, 90, 50, 5, 0, 1], "limits": [-0.2, 0.2], "unit": "m"}
    [histogram] = read_histograms(make_entry(histograms={"dx": data}))
    assert histogram.outside_share == pytest.approx(4 / 304)
    page = Page(f"<div>{draw_histogram(histogram)}</div>")
    assert str(page.find("path", class_="bar-out")[0]["d"]).count("M") == 2
    assert str(page.find("path", class_="bar")[0]["d"]).count("M") == 6  # empty bins are not drawn
    assert len(page.find("line", class_="limit")) == 2
    assert "304 actions" in str(page.find("svg")[0]["aria-label"])
    [fine] = read_histograms(make_entry(histograms={"dx": {**data, "edges": list(range(1001)), "counts": [1] * 1000}}))
    assert len(fine.counts) <= 120 and fine.counts.sum() == 1000


def test_histograms_of_a_dataset_add_up_even_with_other_bins() -> None:
    one = read_histograms(make_entry())
    other = {"edges": [-0.1, 0.0, 0.1], "counts": [10, 20], "limits": [-0.2, 0.2], "unit": "m"}
    [dx, dyaw] = summed_histograms([one, one, read_histograms(make_entry(histograms={"dx": other}))])
    assert dx.channel == "dx" and dx.counts.tolist() == [0, 20, 190, 420, 160, 0]
    assert dyaw.counts.sum() == 2 * 380


def test_the_terminal_gets_an_aligned_table_and_all_that_matters() -> None:
    entries = [
        make_entry("b\x1b[31m", warnings=["ticks\ncome slowly"]),
        make_entry("a_much_longer_name", tick_rate_hz=None, lag=None),
    ]
    lines = summary_lines(entries, {"broken": "no index; reindex it"})
    head, first, second = lines[:3]
    assert (
        head.split()[0] == "recording" and first.startswith("a_much_longer_name") and second.startswith("b\\x1b[31m ")
    )
    for column in ("ticks", "kept", "share"):
        end = head.index(column) + len(column)
        assert all(line[end - 1] != " " and line[end : end + 2] == "  " for line in (head, first, second))
    assert "segment too short 17, image duplicate stamp 3, (image gap 1)" in second
    assert "warning: b\\x1b[31m: ticks come slowly" in lines
    assert "FAILED broken: no index; reindex it" in lines
    assert lines[-1] == "2 recordings, 4 episodes, 760 frames kept of 800 ticks (95.0 %), 3.3 min recorded, 1 FAILED"
    assert all(line.isprintable() for line in lines)
    assert summary_lines([], {}) == ["0 recordings, 0 episodes, 0 frames kept, 0 s recorded"]


def test_times_are_exact_to_the_nanosecond_and_read_well() -> None:
    assert since_start_s({"start_ns": T0}, T0 + 1) == 1e-9
    assert since_start_s({}, T0) is None
    assert [clock(s).replace("\u00a0", " ") for s in (0, 4.256, 59.97, 187, 3753)] == [
        "0 s",
        "4.26 s",
        "1:00",
        "3:07",
        "1:02:33",
    ]
    assert [amount(s).replace("\u00a0", " ") for s in (42, 186, 18_720)] == ["42 s", "3.1 min", "5.2 h"]
    assert [percent(s).replace("\u00a0", " ") for s in (0, 1e-5, 0.5, 0.99999, 1)] == [
        "0 %",
        "< 0.1 %",
        "50.0 %",
        "> 99.9 %",
        "100 %",
    ]
    assert [figure(v) for v in (None, 1234567, 0.12345, 12345.6, float("nan"))] == [
        DASH,
        "1,234,567",
        "0.123",
        "12,346",
        DASH,
    ]
    assert ticks(-0.7, 1.4, 12) == pytest.approx([-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4])
    assert time_ticks(400, 8) == [0, 60, 120, 180, 240, 300, 360]
