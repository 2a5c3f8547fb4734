"""Killed at any moment and run again, in one process, several or on Ray: the dataset is the same to the byte.

``EGOWM_KILLS`` (default 4) is how often a conversion is killed: 20 take some minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training.bag_fixtures import moving_bag
from tests.training.trees import tree
from training.dataset.reader import Dataset

KILLS = int(os.environ.get("EGOWM_KILLS", "4"))


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "bags"
    for number in range(6):
        moving_bag(folder / f"bag{number}", length=80 + 10 * number, seed=number)
    (folder / "broken.mcap").write_bytes(b"not a bag at all")
    return folder


def command(bags: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "training.convert", str(bags), str(out), *options]


@pytest.fixture(scope="module")
def uninterrupted(bags: Path) -> tuple[dict[str, str], float]:
    out = bags.parent / "uninterrupted"
    started = time.monotonic()
    ended = subprocess.run(command(bags, out, "--workers", "2"), capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "broken" in ended.stderr + ended.stdout
    assert len(Dataset(out).entries) == 6
    return tree(out), time.monotonic() - started


@pytest.mark.timeout(1800)
def test_killed_at_random_moments_and_run_again_nothing_differs(
    bags: Path, uninterrupted: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    expected, duration_s = uninterrupted
    rng = np.random.default_rng(0)
    out, kills, attempts = tmp_path / "out", 0, 0
    while kills < KILLS:
        process = subprocess.Popen(
            command(bags, out, "--workers", "2"),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            process.communicate(timeout=float(rng.uniform(0.3, 1.0)) * duration_s)
            attempts += 1
            assert attempts < 5 * KILLS
            # finished before its kill: what is there must be right; start over for the remaining kills
            assert tree(out) == expected
            out = tmp_path / f"out{attempts}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    ended = subprocess.run(command(bags, out, "--workers", "2"), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert tree(out) == expected


def test_one_worker_and_sigterm_give_the_same(
    bags: Path, uninterrupted: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    expected, duration_s = uninterrupted
    process = subprocess.Popen(command(bags, tmp_path / "out", "--workers", "1"), stderr=subprocess.PIPE, text=True)
    time.sleep(0.6 * duration_s)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    # 1: done before; the signals: it came while modules were still being imported, where Python itself ends that way
    assert process.returncode in (1, 130, -signal.SIGINT, -signal.SIGTERM)
    assert "Traceback" not in errors
    ended = subprocess.run(
        command(bags, tmp_path / "out", "--workers", "1"), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert tree(tmp_path / "out") == expected


@pytest.mark.timeout(300)
def test_ray_gives_the_same(bags: Path, uninterrupted: tuple[dict[str, str], float], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    ended = subprocess.run(
        command(bags, tmp_path / "out", "--engine", "ray", "--workers", "2"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert tree(tmp_path / "out") == uninterrupted[0]


def test_recordings_added_later_come_after_those_inside(bags: Path, tmp_path: Path) -> None:
    for part in ("bag0", "bag1"):
        assert subprocess.run(command(bags / part, tmp_path / "out"), capture_output=True, check=False).returncode == 0
    dataset = Dataset(tmp_path / "out")
    dataset.check()
    assert [entry["recording"] for entry in dataset.entries] == ["bag0", "bag1"]
    assert [episode.index for episode in dataset.episodes] == list(range(len(dataset.episodes)))
