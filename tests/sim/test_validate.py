"""Validation of the SCS: futures follow their actions, truth is true, figures say what they mean, runs resume."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.metrics import psnr
from egowm_core.scs import choose_ids, masks_iou, masks_of, score
from egowm_sim.agreement import KnownTracks, RoomSettings, judge_room
from egowm_sim.agreement_figures import Judged, agreement, of_group, order, separation, table
from egowm_sim.backend import SimulationError
from egowm_sim.degradations import DEGRADATION_LEVELS, Degradation, degrade
from egowm_sim.futures import ACTION_LEVELS, ActionError, Future, Stage, carry, deltas_of, path, perturb
from egowm_sim.validate import main

SEED = 40_001
HISTORY = np.array([[0.01 * t, 0.001, 0.02 * t] for t in range(16)])


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage(seed=SEED, height=96, width=128) as made:
        yield made


@pytest.fixture(scope="module")
def driven(stage: Stage) -> np.ndarray:
    return stage.drive(30.0, rate_hz=4.0)


@pytest.fixture(scope="module")
def start(stage: Stage, driven: np.ndarray) -> int:
    """A tick at which the simulator sees several structures and moves on for a while."""
    for tick in range(8, len(driven) - 8, 4):
        seen = stage.render(driven[tick : tick + 1])
        moved = np.abs(deltas_of(driven[tick : tick + 9])).sum(axis=0)
        if len(choose_ids(seen.segmentation[0])) >= 2 and moved[0] > 0.3:
            return tick
    raise AssertionError("no such tick in this room")


@pytest.mark.parametrize("error", list(ActionError))
def test_no_error_is_the_true_actions_and_levels_grow(error: ActionError) -> None:
    assert np.array_equal(perturb(HISTORY, error, 0, horizon=8), HISTORY[8:])
    true = path(np.zeros(3), HISTORY[8:])
    off = [
        np.abs(path(np.zeros(3), perturb(HISTORY, error, amount, horizon=8)) - true).sum()
        for amount in ACTION_LEVELS[error]
    ]
    assert off[0] > 0 and off == sorted(off)


def test_errors_do_what_they_say() -> None:
    still = perturb(HISTORY, ActionError.TRANSLATION_SCALE, 1.0, horizon=8)
    assert not still[:, :2].any() and np.array_equal(still[:, 2], HISTORY[8:, 2])
    straight = perturb(HISTORY, ActionError.ROTATION_SCALE, 1.0, horizon=8)
    assert not straight[:, 2].any() and np.array_equal(straight[:, :2], HISTORY[8:, :2])
    ahead = perturb(HISTORY, ActionError.FORWARD_BIAS, 0.02, horizon=8, sign=-1)
    assert (ahead - HISTORY[8:])[:, 0] == pytest.approx(-0.02)
    left = perturb(HISTORY, ActionError.YAW_BIAS, 2.0, horizon=8)
    assert np.degrees(left - HISTORY[8:])[:, 2] == pytest.approx(2.0)
    assert np.array_equal(perturb(HISTORY, ActionError.LAG, 3, horizon=8), HISTORY[5:13])


def test_a_lag_beyond_the_history_is_refused() -> None:
    with pytest.raises(SimulationError, match="needs 17 actions, got 16"):
        perturb(HISTORY, ActionError.LAG, 9, horizon=8)
    with pytest.raises(SimulationError, match="horizon of 17"):
        perturb(HISTORY, ActionError.YAW_BIAS, 1.0, horizon=17)


def test_a_path_is_rebuilt_from_its_actions(driven: np.ndarray) -> None:
    rebuilt = path(driven[5], deltas_of(driven[5:20]))
    assert rebuilt == pytest.approx(driven[5:20], abs=1e-9)


def test_a_view_depends_on_the_pose_alone(stage: Stage, driven: np.ndarray, start: int) -> None:
    poses = driven[start : start + 4]
    once, backwards = stage.render(poses), stage.render(poses[::-1])
    assert np.array_equal(once.images, backwards.images[::-1])
    assert np.array_equal(once.segmentation, backwards.segmentation[::-1])
    assert np.array_equal(once.depth_m, backwards.depth_m[::-1])
    assert not np.array_equal(once.images[0], once.images[3])


def test_turning_left_moves_the_picture_right(stage: Stage, driven: np.ndarray, start: int) -> None:
    turned = driven[start] + np.array([[0, 0, 0], [0, 0, math.radians(8)]])
    seen = stage.render(turned)
    shift = round(64 * math.tan(math.radians(8)))  # focal length 64 px; in the middle of the picture
    row = slice(30, 50)
    before, after = seen.images[0][row, 50:70].astype(int), seen.images[1][row].astype(int)
    error = {way * shift: np.abs(after[:, 50 + way * shift : 70 + way * shift] - before).mean() for way in (-1, 0, 1)}
    assert min(error, key=error.__getitem__) == shift


def test_a_rate_that_the_driver_cannot_keep_is_refused(stage: Stage) -> None:
    with pytest.raises(SimulationError, match="rate_hz is 3"):
        stage.drive(1.0, rate_hz=3.0)


def test_carried_masks_are_the_true_ones_less_what_is_revealed(stage: Stage, driven: np.ndarray, start: int) -> None:
    seen = stage.render(driven[start : start + 9])
    ids = choose_ids(seen.segmentation[0], allowed=stage.static)
    true = masks_of(seen.segmentation, ids)
    carried = carry(true[:, 0], seen, seen)
    assert carried.shape == true[:, 1:].shape and carried.any()
    inside = np.count_nonzero(carried & true[:, 1:]) / np.count_nonzero(carried)
    assert inside > 0.93  # silhouettes are a pixel wide
    assert np.nanmean(masks_iou(carried, true[:, 1:])) > 0.7
    again = Future(
        *(np.repeat(part[:1], 2, axis=0) for part in (seen.images, seen.segmentation, seen.depth_m, seen.poses))
    )
    assert np.array_equal(carry(true[:, 0], seen, again)[:, 0], true[:, 0])


@pytest.mark.parametrize("kind", list(Degradation))
def test_pictures_get_worse_level_by_level(kind: Degradation, stage: Stage, driven: np.ndarray, start: int) -> None:
    video = stage.render(driven[start : start + 2]).images
    assert np.array_equal(degrade(video, kind, 0, rng=np.random.default_rng(0)), video)
    quality = []
    for amount in DEGRADATION_LEVELS[kind]:
        worse = degrade(video, kind, amount, rng=np.random.default_rng(0))
        assert worse.shape == video.shape and worse.dtype == np.uint8
        assert np.array_equal(worse, degrade(video, kind, amount, rng=np.random.default_rng(0)))
        quality.append(float(psnr(worse, video).mean()))
    assert quality == sorted(quality, reverse=True) and quality[-1] < 26


def test_known_tracks_give_back_what_was_put_in_and_refuse_the_rest() -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (3, 20, 20, 3), np.uint8)
    masks = np.zeros((1, 2, 20, 20), bool)
    masks[0, :, 5:12, 5:12] = True
    known = KnownTracks()
    known.put(video, masks)
    result = score(video[1:], video[1:], context=video[0], structures=masks[:, 0], tracker=known, horizons=(2,))
    assert result.scs == {2: 100.0}
    with pytest.raises(ScoreError, match="no 1 masks are known"):
        known.track(masks[:, 0], video[::-1])


def test_agreement_measures_bias_spread_and_order() -> None:
    truth = np.array([10.0, 40.0, 60.0, 90.0, math.nan])
    clips = np.array([0, 0, 1, 1, 2])
    found = agreement(truth + 2, truth, clips)
    assert found["futures"] == 4 and found["clips"] == 2
    assert found["mean_difference"] == pytest.approx(2) and found["bias"] == pytest.approx(2)
    assert found["pearson"] == pytest.approx(1) and found["within_5"] == 1
    assert found["mean_difference_interval"] == pytest.approx([2, 2])
    mixed = agreement(truth + np.array([8, -8, 8, -8, 0]), truth, clips, resamples=0)
    assert mixed["bias"] == 0 and mixed["mean_difference"] == 8 and mixed["within_5"] == 0
    assert mixed["spearman"] == 1 and mixed["pearson"] < 1
    assert math.isnan(agreement(truth, np.full(5, 100.0), clips)["pearson"])
    assert agreement(truth[:1], truth[:1], clips[:1]) == {"futures": 1, "clips": 1}


def _futures(series: dict[int, list[float]]) -> list[Judged]:
    """Clips with a yaw bias of level 1, 2, ..., whose metric takes these values; level 0 first."""
    return [
        Judged(clip, "yaw_bias" if level else None, level, None, 0, {"scs": {"8": value}})
        for clip, values in series.items()
        for level, value in enumerate(values)
    ]


def test_order_finds_what_falls_and_what_does_not() -> None:
    falls = order(_futures({0: [100, 80, 60], 1: [100, 90, 89]}), "yaw_bias", "scs", 8)
    assert falls["clips"] == 2 and falls["means"] == [100, 85, 74.5]
    assert falls["steps_in_order"] == falls["clips_in_order"] == 1
    assert falls["kendall_of_means"] == falls["kendall"] == -1 and falls["isotonic_residual"] == 0
    mixed = order(_futures({0: [100, 80, 60], 1: [100, 20, 80]}), "yaw_bias", "scs", 8)
    assert mixed["steps_in_order"] == 0.75 and mixed["clips_in_order"] == 0.5
    assert mixed["means"] == [100, 50, 70] and mixed["isotonic_residual"] == 10
    assert order(_futures({0: [100, math.nan, 60]}), "yaw_bias", "scs", 8) == {"clips": 0}


def test_separation_and_groups() -> None:
    wrong = [Judged(0, "lag", 3, None, 0, {"scs": {"8": value}, "lpips": {"8": value}}) for value in (10.0, 30.0)]
    right = [Judged(0, None, 0, "blur", 1, {"scs": {"8": value}, "lpips": {"8": value}}) for value in (20.0, 40.0)]
    barely = [Judged(0, "lag", 1, None, 0, {"scs": {"8": 99.0}, "lpips": {"8": 99.0}})]
    everything = [*wrong, *right, *barely]
    assert separation(everything, "scs", 8) == {"all": 0.75, "blur": 0.75}
    assert separation(everything, "lpips", 8) == {"all": 0.25, "blur": 0.25}
    assert math.isnan(separation(wrong, "scs", 8)["all"])
    assert of_group(everything, "action") == [*wrong, *barely] and of_group(everything, "degraded") == right
    assert len(of_group(everything, "one_a_clip")) == 1
    assert table(everything, [8])["lag:3"]["scs"]["8"] == 20.0
    with pytest.raises(ScoreError, match="no group 'both'"):
        of_group(everything, "both")


def test_a_run_gives_figures_and_plots_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "validation"
    arguments = [str(out), "--clips-per-room", "1", "--seed", str(SEED), "--tracker", "flow:ultrafast"]
    assert main([*arguments, "--clips", "1", "--json", str(tmp_path / "f.json")]) == 0
    assert "futures of 1 clips in 1 rooms" in capsys.readouterr().out
    text = (out / "validation.json").read_text()
    assert text == (tmp_path / "f.json").read_text()
    report = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    rows = report["rows"]
    same = rows["identical"]
    assert same["scs"]["8"] == same["scs_masks"]["8"] == same["scs_tracked"]["8"] == 100 and same["psnr"]["8"] == 60
    assert rows["yaw_bias:5"]["scs_masks"]["8"] < rows["yaw_bias:3"]["scs_masks"]["8"] < 99
    assert abs(rows["yaw_bias:3"]["scs"]["8"] - rows["yaw_bias:3"]["scs_carried"]["8"]) < 8
    worse = [row for row in rows if row.split(":")[0] in {kind.value for kind in Degradation}]
    assert len(worse) == 4 * 2
    assert all(rows[row]["scs_masks"]["8"] == 100 for row in worse)  # nothing in them has moved
    assert report["agreement"]["tracked"]["action"]["8"]["pearson"] > 0.9
    assert report["settings"]["tracker"] == "flow:ultrafast" and report["counts"]["clips"] == 1
    for name in ("scs_agreement.png", "scs_claim.png"):
        assert 10_000 < (out / name).stat().st_size < 500_000

    (first,) = (out / "rooms").iterdir()
    stamp, record = first.stat().st_mtime_ns, json.loads(first.read_text())
    assert main([*arguments, "--clips", "2"]) == 0
    assert "futures of 2 clips in 2 rooms" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == stamp and len(list((out / "rooms").iterdir())) == 2
    again = judge_room(SEED, RoomSettings(clips=1, tracker="flow:ultrafast"))
    assert again["clips"] == record["clips"]  # so that continuing is as good as one run

    assert main([*arguments, "--clips", "2", "--size", "48x64"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "run with other settings" in error and "another OUT" in error


def test_unknown_names_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "a"), "--clips", "1", "--metrics", "fid"]) == 1
    assert "expected some of" in capsys.readouterr().err
    assert main([str(tmp_path / "b"), "--clips", "1", "--clips-per-room", "1", "--tracker", "swift"]) == 1
    assert "unknown tracker 'swift'" in capsys.readouterr().err.strip().splitlines()[-1]
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "c"), "--clips", "0"])
    assert stopped.value.code == 2
