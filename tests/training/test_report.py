"""The report of a conversion: what its pages say, and that nothing in a recording can break them."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from training.report.fields import since_start_s, text
from training.report.page import MAX_EXCLUSIONS, write_report
from training.report.places import page_names, without_paths
from training.report.plots import draw_histogram, read_histograms, summed_histograms
from training.report.summary import summary_lines
from training.report.svg import ticks, time_ticks
from training.report.timeline import MAX_BINS, MAX_TOPICS, draw_timeline, read_timeline
from training.report.verdict import BAD, GOOD, WARN, dropped_by_reason, judge, read_lag
from training.report.words import DASH, amount, clock, figure, percent

T0 = 1_700_000_000_123_456_789
VOID = {"meta", "img", "input", "link", "br"}
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>\'"&'


class Page(HTMLParser):
    """Elements with their attributes, the text outside style and script, and a check that tags are balanced."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data.replace("\u00a0", " ")
        if self._open and self._open[-1] in ("td", "th"):
            self.text += " "

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def span(start_s: float, end_s: float) -> dict[str, int]:
    return {"start_ns": T0 + round(start_s * 1e9), "end_ns": T0 + round(end_s * 1e9)}


def make_lag(frames: int, *, corrected: bool = False, confidence: float = 0.95) -> dict[str, Any]:
    offsets = [round(k / 3, 6) for k in range(-2, 6)]
    curve = [round(confidence * np.exp(-((o - frames / 3) ** 2) * 9), 4) for o in offsets]
    return {
        "frames": frames,
        "seconds": frames / 3,
        "confidence": confidence,
        "interval_s": 1 / 3,
        "offsets_s": offsets,
        "correlations": curve,
        "corrected_s": frames / 3 if corrected else 0.0,
        "correlation_before": curve[2],
        "correlation_after": confidence,
        "method": "sideways shift of the picture against yaw rate",
    }


def make_entry(name: str = "hall_1", **changes: Any) -> dict[str, Any]:
    """A recording of 100 s with nothing wrong."""
    edges = [-0.25, -0.2, -0.1, 0.0, 0.1, 0.2, 0.25]
    entry = {
        "recording": name,
        "kind": "mcap",
        "duration_s": 100.0,
        "image_topic": "/camera/image",
        "motion_topic": "/odom",
        "task": "drive",
        "frames_in": 410,
        "ticks": 400,
        "kept": 380,
        "dropped": 20,
        "segments": 2,
        "episodes": 2,
        "first_episode": 4,
        "reasons": {"image duplicate stamp": 3, "segment too short": 17, "image gap (break)": 1},
        "exclusions": [],
        "tick_rate_hz": 4.0,
        "start_ns": T0,
        "topics": [
            {"name": "/odom", "type": "nav_msgs/msg/Odometry", "count": 5000, "rate_hz": 50.0, "median_ms": 20.0,
             "p99_ms": 23.4, "longest_gap_ms": 61.0},
            {"name": "/camera/image", "type": "sensor_msgs/msg/Image", "count": 410, "rate_hz": 4.1, "median_ms": 250.0,
             "p99_ms": 263.0, "longest_gap_ms": 480.0},
        ],
        "timeline": {"bin_s": 1.0, "topics": {"/odom": [50] * 100, "/camera/image": [4] * 100}, "kept": [4] * 95},
        "gaps": [],
        "lag": make_lag(0),
        "histograms": {
            "dx": {"edges": edges, "counts": [0, 10, 90, 200, 80, 0], "limits": [-0.2, 0.2], "unit": "m"},
            "dyaw": {"edges": edges, "counts": [0, 40, 130, 150, 60, 0], "limits": [-0.2, 0.2], "unit": "rad"},
        },
        "largest_action": {"dx": 0.15, "dyaw": 0.19},
        "quality": [{"episode": 4, "motion": 0.31, "sharpness": 210.5, "brightness": 0.44}, {"episode": 5}],
        "faces_blurred": 0,
        "strip": None,
        "warnings": [],
    }  # fmt: skip
    return {**entry, **changes}


def report(dataset: Path, *entries: dict[str, Any], **failed: str) -> Page:
    return Page(write_report(dataset, list(entries), failed).read_text(encoding="utf-8"))


def only_page(dataset: Path) -> Page:
    [path] = (dataset / "report" / "recordings").glob("*.html")
    return Page(path.read_text(encoding="utf-8"))


def files(dataset: Path) -> dict[str, bytes]:
    return {str(p.relative_to(dataset)): p.read_bytes() for p in sorted(dataset.rglob("*")) if p.is_file()}


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


def test_nothing_of_a_recording_becomes_markup(tmp_path: Path) -> None:
    entry = make_entry(
        HOSTILE,
        kind=HOSTILE,
        task=HOSTILE,
        image_topic=HOSTILE,
        reasons={HOSTILE: 3, HOSTILE + "(break)": 1},
        exclusions=[{"reason": HOSTILE, "value": HOSTILE, "frames": 2, **span(1, 2)}],
        topics=[{"name": HOSTILE, "type": HOSTILE, "count": HOSTILE}],
        timeline={"bin_s": 1.0, "topics": {HOSTILE: [1, 2], HOSTILE * 4: [1]}, "kept": [1, 1]},
        gaps=[{"topic": HOSTILE, "seconds": 1, **span(0, 1)}],
        lag={**make_lag(2), "method": HOSTILE},
        histograms={HOSTILE: {"edges": [0, 1, 2], "counts": [1, 2], "limits": [0, 1], "unit": HOSTILE}},
        largest_action={HOSTILE: 9.0},
        quality=[{HOSTILE: HOSTILE}],
        warnings=[HOSTILE],
        strip=HOSTILE,
    )
    pages = [report(tmp_path, entry, **{HOSTILE: HOSTILE}), only_page(tmp_path)]
    for page in pages:
        assert len(page.find("script")) == 1  # our own
        assert not page.find("img") and all(not name.startswith("on") for _, a in page.elements for name in a)
        assert page.text.count('<script>alert("x")</script>') >= 4
        [policy] = page.find("meta", http_equiv="") or [a for t, a in page.elements if "http-equiv" in a]
        assert "default-src 'none'" in str(policy["content"]) and "unsafe-inline'; script" in str(policy["content"])


def test_pages_reach_for_nothing_but_each_other_and_all_of_that_exists(tmp_path: Path) -> None:
    strips = tmp_path / "report" / "strips"
    strips.mkdir(parents=True)
    (strips / "50% #1?.jpg").write_bytes(b"jpeg")
    report(
        tmp_path,
        make_entry("b/ü 1", strip="report/strips/50% #1?.jpg"),
        make_entry("a"),
        make_entry("c", lag=make_lag(2)),
    )
    seen = 0
    for path in (tmp_path / "report").rglob("*.html"):
        source = path.read_text()
        page = Page(source)
        for _, attributes in page.elements:
            for name in ("src", "href"):
                if (target := attributes.get(name)) is not None:
                    assert (path.parent / unquote(target.split("#")[0])).is_file(), target
                    seen += 1
        assert "//" not in source.replace("</", "") and "@import" not in source and "url(" not in source
        for image in page.find("img"):
            assert image["alt"]
        for drawn in page.find("svg"):
            assert drawn["role"] == "img" and drawn["aria-label"]
        assert all("scope" in a for a in page.find("th"))
        assert page.find("html", lang="en") and page.find("meta", name="viewport")
    assert seen >= 12


@pytest.mark.parametrize(
    "strip", ["../secret.jpg", "/etc/hostname", "report/../../x", "javascript:alert(1)", 7, "report/\0"]
)
def test_a_strip_outside_the_report_is_not_shown(tmp_path: Path, strip: object) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"jpeg")
    report(tmp_path / "data", make_entry(strip=strip))
    assert not only_page(tmp_path / "data").find("img")


def test_the_same_reports_give_the_same_bytes_wherever_and_in_whatever_order(tmp_path: Path) -> None:
    entries = [make_entry("a", lag=make_lag(2)), make_entry("b/1"), make_entry("b_1", warnings=["w"])]
    failed = {"z": "bad", "y": "worse"}
    one, two = tmp_path / "one", tmp_path / "elsewhere" / "two"
    write_report(one, entries, failed)
    write_report(two, entries[:1], {"b/1": "killed"})
    (two / "report" / "recordings" / "a.html.partial").write_text("left by a kill")
    write_report(two, entries[::-1], dict(reversed(failed.items())))
    assert files(one) == files(two) and len(files(one)) == 4


def test_pages_of_recordings_that_are_gone_are_removed(tmp_path: Path) -> None:
    report(tmp_path, make_entry("a"), make_entry("b"))
    report(tmp_path, make_entry("b"))
    assert [path.name for path in (tmp_path / "report/recordings").iterdir()] == ["b.html"]


def test_paths_of_the_machine_stay_out(tmp_path: Path) -> None:
    home = tmp_path / "my bags"
    reason = f"{home}/site__run 1/run 1_0.mcap: no topic /camera/image among /odom; disk {tmp_path}/data/.staging full"
    report(tmp_path / "data", make_entry("x", warnings=[f"{home}/x.db3: index rebuilt"]), **{"site__run 1": reason})
    assert all(str(tmp_path).encode() not in content for content in files(tmp_path / "data").values())
    assert without_paths(reason, "site__run 1", tmp_path / "data") == (
        "run 1_0.mcap: no topic /camera/image among /odom; disk .staging full"
    )
    assert (
        without_paths("cannot read /camera/image of /data/b.mcap", "b", tmp_path)
        == "cannot read /camera/image of b.mcap"
    )


@pytest.mark.parametrize(
    "value", [None, "text", 3, -1.5, float("nan"), float("inf"), [], {}, [None, "x", 1], {"a": {"b": 1}}, True]
)
def test_every_key_may_be_absent_or_of_another_type(tmp_path: Path, value: object) -> None:
    full = make_entry(gaps=[{"topic": "/odom", **span(1, 2)}], exclusions=[{"reason": "pause", **span(1, 2)}])
    entries = [{}, {"recording": "bare"}]
    entries += [{k: v for k, v in full.items() if k != key} | {"recording": f"without {key}"} for key in full]
    entries += [{**full, "recording": f"odd {key}", key: value} for key in full if key != "recording"]
    for nested in ("lag", "timeline"):
        entries += [
            {**full, "recording": f"{nested} {key}", nested: {**full[nested], key: value}} for key in full[nested]
        ]
    entries += [
        {**full, "recording": f"histogram {key}", "histograms": {"dx": {**full["histograms"]["dx"], key: value}}}
        for key in full["histograms"]["dx"]
    ]
    entries += [
        {**full, "recording": f"item {key}", "topics": [{key: value}], "gaps": [{key: value}]}
        for key in ("name", "start_ns")
    ]
    index = report(tmp_path, *entries)
    assert f"{len(entries)} recordings" in index.text
    for path in (tmp_path / "report/recordings").glob("*.html"):
        Page(path.read_text())
    assert len(summary_lines(entries, {})) >= len(entries)


def test_page_names_are_safe_and_unlike_each_other() -> None:
    names = ["run 1", "run/1", "run_1", "RUN_1", "../..", "con", "x" * 300, "x" * 299 + "y", "", "run_2", "\ud800"]
    pages = page_names(names)
    assert len({page.casefold() for page in pages}) == len(names)
    assert all(set(page) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for page in pages)
    assert all(0 < len(page) < 100 and not page.startswith(".") for page in pages)
    assert pages[names.index("run_2")] == "run_2" and pages[names.index("con")] != "con"
    assert page_names(names[::-1]) == pages[::-1]
    assert len(set(page_names(["same", "same"]))) == 2


def test_a_thousand_recordings_stay_usable(tmp_path: Path) -> None:
    small = {"ticks": 100, "kept": 90, "episodes": 1, "lag": make_lag(0)}
    index = write_report(tmp_path, [{"recording": f"bag_{i:04d}", **small} for i in range(1000)], {})
    assert len(list((tmp_path / "report/recordings").iterdir())) == 1000
    assert index.stat().st_size < 2_000_000
    lines = summary_lines([{"recording": f"bag_{i:04d}", **small} for i in range(1000)], {})
    assert len(lines) < 10 and "1,000 more recordings" in lines[0] and "90,000 frames kept" in lines[-1]


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


def test_text_is_one_printable_line() -> None:
    assert text("a\n b\u202etxt.exe\x00\ud800") == "a b\\u202etxt.exe\\x00\\ud800"
    assert text(None) == "" and len(text("x" * 10_000)) == 2000
