"""`egowm-bench gpu` in small on a CPU: sections run, nothing is measured twice, and the page says what was met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egowm_core.bench import main
from egowm_core.bench.compare import Failed
from egowm_core.bench.gpu import measure
from egowm_core.bench.gpu_page import page
from egowm_core.bench.gpu_sections import SECTIONS, Metrics, Rows, Run, section

CPU = torch.device("cpu")
RUN = Run("tiny", CPU, torch.float32, 1, (), 1e9, (4, 1))
ABOUT = {"size": "real", "device": "made up", "dtype": "bfloat16", "frames": 16, "long_frames": 64, "repeats": 20}
ABOUT |= {"torch": "2", "ceiling_flop_per_s": 4e14}


def test_every_section_runs_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu"
    sections = "svd,stream_svd,long"
    command = ["gpu", str(out), "--size", "tiny", "--device", "cpu", "--repeats", "1"]
    assert main([*command, "--num-denoising-steps", "1", "--sections", sections]) == 0
    rows = {name: json.loads((out / f"{name}.json").read_text())["rows"] for name in sections.split(",")}
    assert set(rows["svd"]) == {"stock", "ours_1_guided", "ours_1", "ours_1_tiny_decoder"}
    assert set(rows["stream_svd"]) == {"stream_1", "stream_1_tiny_decoder"}
    assert set(rows["long"]) == {"ours_1", "ours_1_overlap", "nwm_1", "nwm_1_overlap"}
    counts = {name: row["parameters"]["count"] for name, row in rows["long"].items()}
    assert counts["nwm_1"] == pytest.approx(counts["ours_1"], rel=0.1)
    # 16 frames in chunks of 4, and one by one
    assert rows["long"]["ours_1"]["long_frames"]["count"] == 16
    text = (out / "page.md").read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    assert "What each step bought" in text and "Goals are for the real size" in text
    assert "svd: begins" in (out / "log.txt").read_text()


def test_what_is_measured_is_not_measured_again_and_what_fails_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    broken = {"ours_2", "cosmos"}

    def make(run: Run, name: str, known: Rows, failed: Failed) -> Iterator[tuple[str, Metrics]]:
        if name in broken:
            raise AssertionError("a driver's own")
        for row in ("ours_1", "ours_2", "ours_4"):
            if row in known:
                continue
            made.append(f"{name} {row}")
            if row in broken:
                failed(row, torch.OutOfMemoryError("not enough\nand more"))
            else:
                yield row, {"total": {"p50": 1.0}}

    assert measure(RUN, tmp_path, ["svd", "cosmos"], make=make) == ["svd", "cosmos"]
    assert "cosmos: cosmos failed: AssertionError: a driver's own" in capsys.readouterr().err
    kept = json.loads((tmp_path / "svd.json").read_text())
    assert set(kept["rows"]) == {"ours_1", "ours_4"} and not kept["complete"]
    assert kept["failed"] == {"ours_2": "OutOfMemoryError: not enough"}
    broken.clear()
    made.clear()
    assert measure(RUN, tmp_path, ["svd", "cosmos"], make=make) == []
    assert made == ["svd ours_2", "cosmos ours_1", "cosmos ours_2", "cosmos ours_4"]
    assert measure(RUN, tmp_path, ["svd", "cosmos"], make=make) == [] and len(made) == 4
    assert RUN.long_steps == (4, 1) and len(SECTIONS) == 5
    measure(Run("tiny", CPU, torch.float32, 2, (), 1e9), tmp_path, ["svd"], make=make)
    assert made[4:] == ["svd ours_1", "svd ours_2", "svd ours_4"]  # other repeats are another measurement


def test_an_interrupted_section_keeps_its_rows(tmp_path: Path) -> None:
    def make(run: Run, name: str, known: Rows, failed: Failed) -> Iterator[tuple[str, Metrics]]:
        yield "ours_1", {"total": {"p50": 1.0}}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(RUN, tmp_path, ["svd"], make=make)
    kept = json.loads((tmp_path / "svd.json").read_text())
    assert set(kept["rows"]) == {"ours_1"} and not kept["complete"]


def test_a_row_that_cannot_be_measured_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no compiler
    run, told = Run("tiny", CPU, torch.float32, 1, ("default",), 1e9, (2, 1)), dict[str, Exception]()
    names = [name for name, _ in section(run, "stream_cosmos", {"stream_1": {}}, told.__setitem__)]
    assert names == ["stream_2"] and set(told) == {"stream_2_default", "stream_1_default"}
    assert all("g++" in str(error) for error in told.values())
    told.clear()
    known = {"stock": row(6.0), "ours_1": row(1.0), "ours_1_guided": row(1.0), "ours_1_default": row(1.0)}
    found = dict(section(replace(run, steps=(1,)), "svd", known, told.__setitem__))
    assert set(found) == {"ours_1_tiny_decoder"} and set(told) == {"ours_1_default_tiny_decoder"}
    assert found["ours_1_tiny_decoder"]["speed_up"]["ratio"] == pytest.approx(
        6.0 / found["ours_1_tiny_decoder"]["total"]["p50"]
    )


def row(p50: float) -> dict[str, dict[str, float]]:
    stages = {stage: {"p50": p50 / 3} for stage in ("encode", "denoise", "decode")}
    return {**stages, "total": {"p50": p50, "p99": 1.1 * p50, "flop_per_s": 1e14, "of_ceiling": 0.25}}


def test_the_page_says_what_was_met_and_what_each_step_bought() -> None:
    rows = {"stock": row(6.0), "ours_4": row(1.2), "ours_1": row(0.4), "ours_1_reduce-overhead": row(0.2)}
    text = page({"cosmos": {"rows": rows, "about": ABOUT}})
    assert "0.200 s with ours_1_reduce-overhead, met" in text
    assert "times stock in the same run: 30.0, met" in text
    assert "| CUDA graphs | 200 | 2.00 |" in text
    slow = page({"svd": {"rows": {"stock": row(3.0), "ours_1": row(0.4)}, "about": ABOUT}})
    assert "0.400 s with ours_1, **not met**" in slow and "7.5, **not met**" in slow
    streams = {"stream_1": {"step": {"p50": 0.02, "p99": 0.03}, "frames_per_s": {"p50": 50.0}}}
    assert "60 frames/s: 50.0, **not met**" in page({"stream_svd": {"rows": streams, "about": ABOUT}})
    assert "Nothing was measured" in page({})
    unfinished = {"rows": rows, "about": ABOUT, "complete": False}
    assert "**failed**: ours_1: OutOfMemoryError" in page(
        {"cosmos": unfinished | {"failed": {"ours_1": "OutOfMemoryError"}}}
    )
    assert "interrupted" in page({"cosmos": unfinished | {"failed": {}}}) and "interrupted" not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sections", "svd,cosmo"], "there are"),
        (["--device", "cpu", "--size", "real"], "minutes"),
        (["--repeats", "0", "--device", "cpu", "--size", "tiny"], "1 or more"),
        (["--device", "gpu"], "no device"),
    ],
)
def test_what_cannot_be_is_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpu", str(tmp_path / "out"), *options]) == 1
    assert said in capsys.readouterr().err
