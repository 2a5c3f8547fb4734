"""What is usual: learned robustly, written and read whole, refused when damaged or another robot's."""

import json
import math

import numpy as np
import pytest

from egowm_core.drift import BASELINE_FILE, BaselineLearner, DriftBaseline, load_baseline
from egowm_core.drift.baseline import PLAN, Level, ScsLevel, moved_px
from egowm_core.drift.signs import SIGNS
from egowm_core.errors import ScoreError
from tests.core.drift_world import (
    EVERY,
    HORIZONS,
    LENGTH,
    SCALES,
    SCS_PER_PX,
    STILL_SCS,
    Drive,
    learned,
)


def lesson(drive: Drive) -> DriftBaseline:
    learner = BaselineLearner(SCALES)
    for evidence in drive.comparisons():
        learner.add(evidence)
    return learner.learn()


@pytest.fixture(scope="module")
def usual():
    return learned()


def test_levels_are_what_the_drive_was_made_of(usual):
    assert usual.levels.keys() == {*SIGNS, PLAN}
    assert usual.brightness == pytest.approx(120, abs=2) and usual.texture == pytest.approx(0.7, abs=0.02)
    assert usual.levels["torn"].median == pytest.approx(8 + 2 * 0.674, abs=0.4)
    assert usual.levels["surprise"].median < 0.02
    assert usual.levels["dim"].median < 0.05


def test_usual_scores_fall_with_motion_as_they_did(usual):
    assert usual.scs.keys() == set(HORIZONS)
    level = usual.latest
    assert level.still == pytest.approx(STILL_SCS, abs=4)
    assert 0.3 * SCS_PER_PX < level.per_px < 2 * SCS_PER_PX
    assert level.usual(60) < level.usual(0)
    assert usual.scs[8].spread >= 4  # never smaller, however quiet the lesson


def test_ticks_are_counted_once_though_comparisons_overlap():
    learner = BaselineLearner(SCALES)
    for number, evidence in enumerate(Drive(60).comparisons()):
        learner.add(evidence)
        assert learner.ticks == LENGTH + EVERY * number


def test_a_short_disturbance_while_learning_does_no_harm(usual):
    drive = Drive(240, seed=100)
    hit = slice(100, 106)  # 1.5 s of somebody in front of the camera
    drive.torn[hit], drive.surprise[hit], drive.drop[hit] = 90, 0.8, 60
    drive.motion[hit] += (25, -9, 6, 4)
    disturbed = lesson(drive)
    for name in SIGNS:
        floor = 2 * usual.levels[name].spread
        assert disturbed.levels[name].median == pytest.approx(usual.levels[name].median, abs=floor), name
        assert disturbed.levels[name].spread < 2 * usual.levels[name].spread + 1e-9, name
    assert disturbed.expectation.weights == pytest.approx(usual.expectation.weights, abs=0.5)
    assert disturbed.levels["torn"].z(90) > 8 and disturbed.scs[8].z(20, 20) > 3


def test_what_was_never_disturbed_has_a_floor_for_its_spread():
    drive = Drive(120)
    for name in ("surprise", "fixed", "gain", "torn"):
        getattr(drive, name)[:] = 0
    levels = lesson(drive).levels
    assert all(level.spread > 0 for level in levels.values())
    assert levels["torn"].z(1.0) < 1


def test_plans_that_were_heard_make_their_level():
    learner = BaselineLearner(SCALES)
    rng = np.random.default_rng(0)
    for evidence in Drive(200).comparisons():
        learner.add(evidence, np.abs(rng.normal(0.5, 0.4, LENGTH)))
    level = learner.learn().levels[PLAN]
    assert level.median == pytest.approx(0.5, abs=0.1) and level.spread == pytest.approx(0.4, abs=0.1)


def test_unknown_scores_are_left_out_and_hardly_any_are_refused():
    drive = Drive(120)
    drive.noise[::3] = np.nan
    assert math.isfinite(lesson(drive).latest.still)
    drive.noise[:] = np.nan
    with pytest.raises(ScoreError, match="structure"):
        lesson(drive)


def test_nothing_added_is_refused():
    with pytest.raises(ScoreError, match="no comparison"):
        BaselineLearner(SCALES).learn()


def test_levels_count_spreads():
    assert Level(2.0, 0.5).z(3.0) == 2
    level = ScsLevel(90, 0.5, 4)
    assert level.usual(20) == 80 and level.z(72, 20) == 2 and level.z(90, 20) < 0
    assert math.isnan(level.z(math.nan, 20))
    assert level.usual(1e6) == 0 and ScsLevel(120, 0, 4).usual(0) == 100


def test_moved_px_adds_up_the_expected_motion(usual):
    evidence = Drive(20).evidence(20)
    parts = [moved_px(usual.expectation, evidence, h) for h in (1, 2, 8, 99)]
    assert 0 < parts[0] < parts[1] < parts[2] == parts[3]


# Files


def test_through_a_file_and_back(usual, tmp_path):
    path = tmp_path / BASELINE_FILE
    usual.save(path)
    again = load_baseline(path, channels=2)
    written, read = usual.to_json(), again.to_json()
    assert {**written, "levels": 0} == {**read, "levels": 0}
    assert all(read["levels"][name] == written["levels"][name] for name in SIGNS)
    assert again.scs.keys() == usual.scs.keys() and again.ticks == usual.ticks
    assert again.levels["torn"].z(40) == pytest.approx(usual.levels["torn"].z(40), rel=1e-3)
    assert [entry.name for entry in tmp_path.iterdir()] == [BASELINE_FILE]  # nothing half-written beside it


def test_every_level_comes_back(usual):
    assert DriftBaseline.from_json(usual.to_json()).levels.keys() == usual.levels.keys()


def test_another_robots_is_refused(usual, tmp_path):
    usual.save(tmp_path / "b.json")
    with pytest.raises(ScoreError, match=r"b\.json.*2 action channels.*has 25"):
        load_baseline(tmp_path / "b.json", channels=25)


def test_an_absent_file_and_no_text_are_refused(tmp_path):
    with pytest.raises(ScoreError, match="nowhere"):
        load_baseline(tmp_path / "nowhere.json", channels=2)
    for content in (b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b"null", b'{"format": "other"}'):
        (tmp_path / "b.json").write_bytes(content)
        with pytest.raises(ScoreError):
            load_baseline(tmp_path / "b.json", channels=2)


def damage(data, *path_and_value):
    *path, last, value = path_and_value
    inner = data
    for key in path:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return data


DAMAGES = [
    ("version", 2),
    ("expectation", None),
    ("expectation", "sigma0", [0, 0, 0, 0]),
    ("levels", "torn", None),
    ("levels", "torn", "spread", 0),
    ("levels", "torn", "spread", -1.0),
    ("levels", "torn", "median", math.nan),
    ("levels", []),
    ("scs", {"eight": {"still": 90, "per_px": 0, "spread": 4}}),
    ("scs", "8", "spread", 0),
    ("scs", "8", "still", "high"),
    ("scs", "8", None),
    ("latest", None),
    ("latest", "per_px", math.inf),
    ("brightness", math.nan),
    ("texture", None),
    ("ticks", "many"),
]


@pytest.mark.parametrize("what", DAMAGES, ids=lambda what: "-".join(map(str, what)))
def test_damaged_ones_are_refused(usual, what):
    data = damage(json.loads(json.dumps(usual.to_json())), *what)
    if what == ("scs", "8", None):
        assert DriftBaseline.from_json(data).scs.keys() == {2, 4}  # fewer horizons are no damage
        return
    with pytest.raises(ScoreError, match="anew"):
        DriftBaseline.from_json(data)


@pytest.mark.parametrize("what", [("ticks", math.inf), ("expectation", "scales", 0.5)], ids=["ticks", "scales"])
def test_damage_that_escapes(usual, what, tmp_path):
    data = damage(json.loads(json.dumps(usual.to_json())), *what)
    if what[0] == "expectation":
        data["expectation"]["weights"] = [[1.0, 2.0]] * 4  # fits one channel by its size
    (tmp_path / "b.json").write_text(json.dumps(data))
    with pytest.raises(ScoreError):
        load_baseline(tmp_path / "b.json", channels=2)
