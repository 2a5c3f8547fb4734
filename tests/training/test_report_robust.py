"""The report of a conversion: nothing in a recording can break its pages, and no path of the machine gets into them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.training.report_fixtures import Page, make_entry, make_lag, only_page, report, span
from training.report.fields import text
from training.report.page import write_report
from training.report.places import page_names, without_paths
from training.report.summary import summary_lines

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>\'"&'


def files(dataset: Path) -> dict[str, bytes]:
    return {str(p.relative_to(dataset)): p.read_bytes() for p in sorted(dataset.rglob("*")) if p.is_file()}


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


def test_text_is_one_printable_line() -> None:
    assert text("a\n b\u202etxt.exe\x00\ud800") == "a b\\u202etxt.exe\\x00\\ud800"
    assert text(None) == "" and len(text("x" * 10_000)) == 2000
