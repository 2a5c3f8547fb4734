"""What is measured of clips, how rows are summarised, and the report that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.files import without_nan
from egowm_core.metrics import FeatureSums, frechet_distance, physics_iq, psnr
from egowm_core.scs import score
from tests.training.report_fixtures import Page
from tests.training.score_fixtures import pan
from training.score import measure as measure_module
from training.score.clip import Clip
from training.score.measure import ClipScore, Measured, Measures, measure
from training.score.report import Report, cases, write_report
from training.score.summary import curves, differences, summarise, value_at
from training.score.videos import read_video

HORIZONS = (2, 4)


def clips(count: int = 3, length: int = 5) -> list[Clip]:
    """Rows "right" (what was observed) and "wrong" (another speed) of ``count`` clips."""
    found = []
    for i in range(count):
        seen = pan(length, start=10 + 25 * i)
        wrong = pan(length, start=10 + 25 * i, speed=2.0 + 1.5 * (i + 1))
        found.append(Clip(f"clip {i}", seen[0], seen[1:], {"right": seen[1:], "wrong": wrong[1:]}, rate_hz=4.0))
    return found


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(clips(), Measures(HORIZONS, ("physics_iq",)))


def test_a_clip_is_scored_as_the_core_scores_it(measured: Measured):
    clip, found = clips()[1], measured.of("wrong")[1]
    expected = score(clip.predicted["wrong"], clip.observed, context=clip.context, horizons=HORIZONS)
    np.testing.assert_array_equal(found.iou["scs"], expected.iou)
    assert found.scs["scs"] == expected.scs
    np.testing.assert_array_equal(found.series["psnr"], psnr(clip.predicted["wrong"], clip.observed))
    four = physics_iq(clip.predicted["wrong"], clip.observed, context=clip.context, horizons=HORIZONS)
    assert found.means["mse"] == four.mse


def test_rows_are_means_over_clips_within_their_intervals(measured: Measured):
    table, intervals = summarise(measured, HORIZONS)
    assert list(table) == ["right", "wrong"]
    assert table["right"]["scs"] == {"2": 100.0, "4": 100.0} and table["right"]["psnr"]["4"] == 60.0
    pooled = np.concatenate([s.iou["scs"].ravel() for s in measured.of("wrong")])
    assert table["wrong"]["scs"]["4"] == pytest.approx(100 * np.nanmean(pooled), abs=1e-2)
    last = [float(s.series["psnr"][3]) for s in measured.of("wrong")]
    assert table["wrong"]["psnr"]["4"] == pytest.approx(np.mean(last), abs=1e-3)
    for metric, by_horizon in intervals["wrong"].items():
        for horizon, around in by_horizon.items():
            assert around["low"] - 1e-3 <= table["wrong"][metric][horizon] <= around["high"] + 1e-3
            assert around["clips"] == 3
    gained = differences(measured, HORIZONS)["wrong"]["scs"]["4"]
    assert gained["low"] > 0 and gained["mean"] == pytest.approx(100 - table["wrong"]["scs"]["4"], abs=1e-2)


def test_what_cannot_be_judged_is_nan_and_never_zero():
    blank = np.full((5, 48, 64, 3), 90, np.uint8)
    found = measure([Clip("blank", blank[0], blank[1:], {"row": blank[1:]})], Measures((2, 9)))
    table, intervals = summarise(found, (2, 9))
    assert np.isnan(table["row"]["scs"]["2"]) and np.isnan(table["row"]["psnr"]["9"])
    assert intervals["row"]["scs"]["2"]["clips"] == 0
    assert table["row"]["ssim"]["2"] == 1.0
    text = json.dumps(without_nan(table), allow_nan=False)
    assert json.loads(text)["row"]["scs"]["2"] is None


def test_true_masks_are_a_row_of_their_own():
    clip = clips(1)[0]
    truth = np.zeros((1, 96, 128), np.bool_)
    truth[:, 30:60, 40:80] = True
    observed = np.stack([np.roll(truth, -2 * (t + 1), axis=2) for t in range(4)], axis=1)
    known = Clip("known", clip.context, clip.observed, clip.predicted, true_structures=truth, observed_masks=observed)
    found = measure([known], Measures(HORIZONS, tracked=False))
    assert "scs" not in found.of("right")[0].scs
    assert found.of("right")[0].scs["scs_true"][4] > 90 > found.of("wrong")[0].scs["scs_true"][4]


def test_given_structures_are_judged_as_given_and_proposed_ones_selected(monkeypatch: pytest.MonkeyPatch):
    clip = clips(1)[0]
    mask = np.zeros((1, 96, 128), np.bool_)
    mask[:, 20:50, 30:70] = True
    given = Clip("given", clip.context, clip.observed, clip.predicted, structures=mask)
    assert measure([given], Measures(HORIZONS, passive=True)).of("right")[0].num_structures == 1
    body = np.ones((96, 128), np.bool_)
    proposed = Clip("own", clip.context, clip.observed, clip.predicted, own_body=body)
    found = measure([proposed], Measures(HORIZONS, passive=True)).of("right")[0]
    assert found.num_structures == 0 and {e.reason.value for e in found.excluded} >= {"the robot's own body"}
    assert measure([proposed], Measures(HORIZONS)).of("right")[0].num_structures > 0


class Means:
    """A set metric of the real kind, whose features are mean colours."""

    least_frames = 3

    def features(self, video: np.ndarray) -> np.ndarray:
        return video.mean(axis=(0, 1, 2), dtype=np.float64)[None]


def test_sets_are_compared_row_by_row(monkeypatch: pytest.MonkeyPatch):
    load = measure_module.load_metric
    monkeypatch.setattr(
        measure_module, "load_metric", lambda name, **rest: Means() if name == "fvd" else load(name, **rest)
    )
    given = clips(4)
    found = measure(given, Measures((1, 4), ("fvd",), tracked=False))
    assert np.isnan(found.sets["right"]["fvd"][1])  # two frames with the context are too few
    assert found.sets["right"]["fvd"][4] == pytest.approx(0, abs=1e-6)

    def sums(row):
        videos = [np.concatenate([c.context[None], c.predicted[row]]) for c in given]
        return FeatureSums.of(np.concatenate([Means().features(video) for video in videos]))

    assert found.sets["wrong"]["fvd"][4] == pytest.approx(frechet_distance(sums("wrong"), sums("right")))
    assert summarise(found, (1, 4))[0]["wrong"]["fvd"]["4"] > 0
    few = measure(given[:1], Measures((4,), ("fvd",), tracked=False))
    assert "at least two clips" in few.unavailable["fvd"]


def test_metrics_that_are_not_there_are_told(tmp_path: Path):
    found = measure(clips(1), Measures(HORIZONS, ("lpips", "fid"), tracked=False, weights_dir=tmp_path))
    assert set(found.unavailable) == {"lpips", "fid"}
    assert all("install" in why or "download" in why for why in found.unavailable.values())
    tiny = np.zeros((3, 6, 6, 3), np.uint8)
    small = measure([Clip("tiny", tiny[0], tiny[1:], {"row": tiny[1:]})], Measures((2,), tracked=False))
    assert "7x7" in small.unavailable["ssim"] and "psnr" in small.scores[0].series
    with pytest.raises(ScoreError, match="did you mean 'lpips'"):
        Measures((2,), ("lpisp",))


def test_curves_have_a_value_a_frame(measured: Measured):
    found = curves(measured)
    assert found["psnr"]["wrong"].shape == (4, 3)
    np.testing.assert_allclose(
        found["scs_at"]["wrong"][:, 0],
        np.mean([s.series["scs_at"] for s in measured.of("wrong")], axis=0),
        rtol=1e-5,
    )


def test_clips_that_do_not_fit_are_refused():
    frames = pan(4)
    with pytest.raises(ScoreError, match="do not fit"):
        Clip("a", frames[0], frames[1:], {"row": frames[2:]})
    with pytest.raises(ScoreError, match="masks of structures"):
        Clip("a", frames[0], frames[1:], {}, structures=np.zeros((1, 5, 5), np.bool_))


@pytest.fixture(scope="module")
def report(measured: Measured) -> Report:
    table, intervals = summarise(measured, HORIZONS)
    measured.unavailable["lpips"] = "no <weights> & no package"
    settings = {"clips": 3, "passive_only": True, "horizons": [2, 4]}
    return Report('<b>"a" & b</b>', settings, clips(), measured, Measures(HORIZONS), table, intervals, ("look <here>",))


def test_worst_median_and_best_are_by_the_longest_horizon(report: Report):
    found = cases(report, "wrong")
    values = [value_at(s, "scs", 4) for s in report.measured.of("wrong")]
    assert [value_at(found[word], "scs", 4) for word in ("worst", "median", "best")] == sorted(values)


def test_the_report_stands_on_its_own(report: Report, tmp_path: Path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "0099_observed.mp4").write_bytes(b"of an older report")
    index = write_report(tmp_path, report)
    page = Page(index.read_text())
    assert '<b>"a" & b</b>' in page.text and "no <weights> & no package" in page.text and "look <here>" in page.text
    linked = [a["href"] for a in page.find("a")] + [i["src"] for i in page.find("img")]
    assert len(linked) >= 12 + 4
    for name in linked:
        assert name is not None and (tmp_path / name).is_file(), name
    assert not page.find("link") and len(page.find("script")) == 1
    assert {path.name for path in (tmp_path / "clips").iterdir()} == {
        f"{i:04d}_{what}.mp4" for i in (1, 2, 3) for what in ("observed", "predicted_right", "predicted_wrong")
    }
    figures = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert figures["rows"] == report.table
    assert figures["clips"][0]["files"]["wrong"] == "clips/0001_predicted_wrong.mp4"
    assert figures["clips"][2]["scores"]["right"]["scs"]["scs"] == {"2": 100.0, "4": 100.0}


def test_saved_clips_are_aligned_pairs_that_score_the_same(report: Report, tmp_path: Path):
    write_report(tmp_path, report)
    clip = report.clips[1]
    pair = [read_video(tmp_path / "clips" / f"0002_{what}.mp4") for what in ("observed", "predicted_wrong")]
    assert all(video.images.shape == (5, 96, 128, 3) and video.rate_hz == 4.0 for video in pair)
    for video, frames in zip(pair, (clip.observed, clip.predicted["wrong"]), strict=True):
        np.testing.assert_array_equal(video.images[0], clip.context)
        np.testing.assert_array_equal(video.images[1:], frames)
    again = score(pair[1].images[1:], pair[0].images[1:], context=pair[0].images[0], horizons=HORIZONS)
    assert again.scs == report.measured.of("wrong")[1].scs["scs"]


def test_a_report_of_nothing_that_can_be_judged(tmp_path: Path):
    blank = np.full((3, 48, 64, 3), 90, np.uint8)
    given = [Clip("blank", blank[0], blank[1:], {"row": blank[1:]})]
    measures = Measures((2,))
    found = measure(given, measures)
    index = write_report(tmp_path, Report("t", {}, given, found, measures, *summarise(found, (2,))))
    assert "not judged" in Page(index.read_text()).text


def test_no_scores_are_no_rows():
    assert summarise(Measured(), (2,)) == ({}, {}) and differences(Measured(), (2,)) == {}
    assert ClipScore(0, "a").num_structures == 0
