"""Damaged recordings and broken disks: one clear line each, everything else converted, nothing half-written.

``EGOWM_MUTATIONS`` (default 60) is how many damaged bags are tried: 300 take a few minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.bag_fixtures import moving_bag
from tests.training.mutations import mutate
from training.convert.engines import UNEXPECTED
from training.dataset.reader import Dataset

MUTATIONS = int(os.environ.get("EGOWM_MUTATIONS", "60"))
SHARED = Path(__file__).parents[3] / "shared" / "data" / "bags"


def run(*arguments: str | Path, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def originals(folder: Path) -> list[Path]:
    found = [moving_bag(folder / "mcap", storage="mcap"), moving_bag(folder / "sqlite", storage="sqlite3")]
    if importlib.util.find_spec("egowm_sim") is not None:
        from egowm_sim import record

        assert record.main([str(folder / "sim"), "--rooms", "1", "--seed", "4242", "--seconds", "12"]) == 0
        found += [path.parent for path in (folder / "sim").rglob("metadata.yaml")]
    if SHARED.is_dir():
        found += [SHARED / "gostanford_no1vc_7_1", SHARED / "gostanford_no1vc_9_1"]
    return found


@pytest.mark.timeout(1800)
def test_damaged_bags_end_in_one_line_each_and_stop_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    good = originals(tmp_path / "good")
    done = {}
    for number in range(MUTATIONS):
        source = good[number % len(good)]
        done[f"bag{number:03d}"] = mutate(source, tmp_path / "bags" / f"bag{number:03d}", rng)
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    ended = run(tmp_path / "bags", out, "--json", figures, "--workers", "2", timeout_s=1500)

    assert "Traceback" not in ended.stderr + ended.stdout, ended.stderr[-3000:]
    result = json.loads(figures.read_text())
    names = {name.split("__")[0] for name in (*result["rows"], *result["failed"])}
    assert names | lost_containers(tmp_path / "bags") == set(done)
    damaged = [row for row in result["rows"].values() if row["damage"]]
    assert ended.returncode == (1 if result["failed"] or damaged else 0)
    print(f"{len(done)} damaged bags: {len(result['failed'])} failed, {len(damaged)} in part, the rest whole")
    for row in damaged:
        assert all("is damaged" in line and "\n" not in line for line in row["damage"])
    for name, message in result["failed"].items():
        assert "\n" not in message and len(message) < 1200, (name, message)
        assert UNEXPECTED not in message, (name, done[name.split("__")[0]], message)
    if result["rows"]:
        assert_sound(out, result["totals"]["frames"])


def lost_containers(folder: Path) -> set[str]:
    """Bags that no longer look like one from outside cannot be found; none of the damages does that."""
    return {item.name for item in folder.iterdir() if item.is_dir() and not any(item.iterdir())}


def assert_sound(out: Path, frames: int) -> None:
    dataset = Dataset(out)
    dataset.check()
    assert dataset.num_frames == frames
    for episode in dataset.episodes:
        assert np.isfinite(episode.actions).all() and np.isfinite(episode.states).all()
        assert (np.diff(episode.stamps_ns) > 0).all()
    assert not list(out.rglob("*.partial")) and not (out / ".staging").exists()


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a disk with no more room: writes fail half way just so."""
    moving_bag(tmp_path / "bags" / "a")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from training.convert.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, str(tmp_path / "bags"), str(tmp_path / "out"), "--workers", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    assert "too large" in ended.stderr or "space" in ended.stderr
    assert not list((tmp_path / "out" / "data").rglob("*.parquet"))

    again = run(tmp_path / "bags", tmp_path / "out")
    assert again.returncode == 0, again.stderr
    assert len(Dataset(tmp_path / "out").episodes) == 1


def test_an_output_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    moving_bag(tmp_path / "bags" / "a")
    cases = {
        "another": ("meta/info.json", "another dataset"),
        "old": ("dataset.json", "another dataset"),
        "photos": ("holiday.jpg", "not empty"),
    }
    for name, (file, words) in cases.items():
        path = tmp_path / name / file
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        ended = run(tmp_path / "bags", tmp_path / name)
        assert ended.returncode == 2 and words in ended.stderr and "Traceback" not in ended.stderr
        assert [item for item in (tmp_path / name).rglob("*") if item.is_file()] == [path]
    (tmp_path / "file").write_text("")
    ended = run(tmp_path / "bags", tmp_path / "file")
    assert ended.returncode == 2 and "is a file" in ended.stderr
