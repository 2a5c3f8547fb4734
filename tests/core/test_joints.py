"""Joint states by name: reordered, in parts, late, broken, renamed."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from egowm_core.data.joints import JointAssembler
from egowm_core.data.messages import joints_value
from egowm_core.data.sync import Drop
from egowm_core.data.values import JointsValue

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
NAMES = ("shoulder", "elbow", "wheel", "grip")


def at(seconds: float) -> int:
    return BASE + round(seconds * SECOND)


def truth(seconds: float) -> dict[str, float]:
    """Linear in time, so that linear interpolation is exact."""
    return {"shoulder": seconds, "elbow": -2 * seconds, "wheel": 1 + 3 * seconds, "grip": 0.5}


def assembler(**options) -> JointAssembler:
    return JointAssembler(NAMES, **{"max_age_s": 0.4, **options})


def feed(joints: JointAssembler, messages: list[tuple[float, dict[str, float]]], topic: str = "/joint_states"):
    found = []
    for seconds, positions in messages:
        found += joints.add_message(at(seconds), JointsValue(positions), topic=topic)
    return found


def check(found) -> None:
    for stamp, vector in found:
        expected = truth((stamp - BASE) / SECOND)
        np.testing.assert_allclose(vector, [expected[name] for name in NAMES], atol=1e-6)


def part(seconds: float, *names: str) -> tuple[float, dict[str, float]]:
    return seconds, {name: truth(seconds)[name] for name in names}


def test_one_publisher_gets_its_own_vectors_back_at_once_in_any_order_with_any_extras():
    joints, rng = assembler(), random.Random(0)
    for i in range(50):
        names = [*NAMES, "head", "tail"]
        rng.shuffle(names)
        positions = {name: truth(i / 50).get(name, float("nan")) for name in names}
        ((stamp, vector),) = joints.add_message(at(i / 50), JointsValue(positions))
        assert stamp == at(i / 50)
        assert vector.tolist() == [positions[name] for name in NAMES]  # exactly
    joints.finish()
    assert not joints.drops
    assert joints.problems() == []


def two_publishers(seconds: float) -> list[tuple[float, dict[str, float]]]:
    arm = [part(i / 100, "shoulder", "elbow", "grip") for i in range(round(seconds * 100))]
    base = [part(i / 20 + 0.003, "wheel") for i in range(round(seconds * 20))]
    return sorted(arm + base, key=lambda message: message[0])


def test_publishers_of_parts_at_differing_rates_are_interpolated_onto_each_other():
    joints = assembler()
    found = feed(joints, two_publishers(3.0))
    check(found)
    stamps = [stamp for stamp, _ in found]
    assert stamps == sorted(set(stamps))
    assert stamps[0] == at(0.003)
    assert stamps[-1] == at(2.953)  # the slow publisher's last
    assert len(stamps) == 295 + 60  # every stamp of either in between
    joints.finish()
    assert joints.drops == {Drop.JOINTS_INCOMPLETE: 1}  # the arm at 0.0, before the wheel was known
    assert joints.problems() == []


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_arrival_does_not_matter(seed):
    rng = random.Random(seed)
    messages = two_publishers(2.0)
    queues = [[m for m in messages if ("wheel" in m[1]) is wheel] for wheel in (True, False)]
    mixed = []
    while any(queues):
        queue = rng.choice([q for q in queues if q])
        other = queues[0] if queue is queues[1] else queues[1]
        if other and queue[0][0] - other[0][0] > 1.0:
            continue
        mixed.append(queue.pop(0))
    assert mixed != messages
    expected, got = feed(assembler(), messages), feed(assembler(), mixed)
    assert [stamp for stamp, _ in got] == [stamp for stamp, _ in expected]
    np.testing.assert_array_equal([v for _, v in got], [v for _, v in expected])


def test_a_joint_that_pauses_leaves_a_gap_and_is_named():
    joints = assembler()
    messages = [part(i / 20, *(NAMES if not 20 < i < 40 else NAMES[:3])) for i in range(80)]
    found = feed(joints, messages)
    check(found)
    stamps = [round((stamp - BASE) / SECOND * 20) for stamp, _ in found]
    assert stamps == [*range(21), *range(40, 80)]
    assert joints.drops == {Drop.JOINTS_INCOMPLETE: 19}
    (line,) = joints.problems()
    assert "'grip'" in line
    assert "/joint_states" in line
    assert "1 times" in line
    assert "up to 1 s" in line


def test_a_short_pause_is_interpolated():
    joints = assembler()
    found = feed(joints, [part(i / 20, *(NAMES if i % 4 == 0 else NAMES[:3])) for i in range(41)])
    check(found)
    assert len(found) == 41
    assert not joints.drops


def test_positions_that_are_not_finite_cost_that_joint_alone():
    joints = assembler()
    messages = [part(i / 20, *NAMES) for i in range(41)]
    messages[10][1]["elbow"] = float("nan")
    messages[11][1]["elbow"] = float("inf")
    found = feed(joints, messages)
    check(found)  # the two are interpolated from their neighbours
    assert len(found) == 41
    assert joints.drops == {Drop.JOINT_NOT_FINITE: 2}
    (line,) = joints.problems()
    assert "joint 'elbow' on /joint_states" in line
    assert "2 times" in line
    assert "stamp 1700000000.500000000 (0.500 s in)" in line


def test_a_joint_that_is_never_finite_or_never_comes_is_named_with_the_nearest_name():
    joints = assembler()
    assert feed(joints, [(i / 20, {"shoulder": 0.0, "elbo": 1.0, "wheel": 2.0, "grip": 3.0}) for i in range(9)]) == []
    (line,) = joints.problems()
    assert line.startswith("joint 'elbow' on /joint_states never came (9 messages)")
    assert "did you mean 'elbo'" in line
    assert "source" in line


def test_a_joint_renamed_half_way_ends_the_vectors_and_both_names_are_told():
    joints = assembler()
    messages = [part(i / 20, *NAMES) for i in range(40)]
    messages += [(s, {("elbow_joint" if k == "elbow" else k): v for k, v in p.items()}) for s, p in
                 [part(i / 20, *NAMES) for i in range(40, 100)]]  # fmt: skip
    found = feed(joints, messages)
    assert found[-1][0] == at(39 / 20)
    joints.finish()
    assert joints.drops[Drop.JOINTS_INCOMPLETE] > 40
    (line,) = joints.problems()
    assert "joint 'elbow' on /joint_states was last seen at stamp 1700000001.950000000 (1.950 s in)" in line
    assert "'elbow_joint'" in line
    assert "renamed" in line


def test_names_that_were_there_all_along_are_not_blamed_for_a_vanished_joint():
    joints = assembler()
    feed(joints, [(s, {**p, "head": 0.0}) for s, p in [part(i / 20, *NAMES) for i in range(40)]])
    feed(joints, [(s, {**p, "head": 0.0}) for s, p in [part(2 + i / 20, *NAMES[:3]) for i in range(40)]])
    (line,) = joints.problems()
    assert "'grip'" in line
    assert "no new name" in line


def test_repeated_names_are_left_out_where_they_disagree():
    agree = joints_value(SimpleNamespace(name=["a", "b", "a"], position=[1, 2, 1]))
    assert agree == JointsValue({"a": 1.0, "b": 2.0})
    differ = joints_value(SimpleNamespace(name=["elbow", "b", "elbow"], position=[1, 2, 3]))
    assert differ == JointsValue({"b": 2.0}, repeated=("elbow",))
    joints = assembler()
    for i in range(3):
        joints.add_message(at(i), differ, topic="/js")
    assert joints.drops[Drop.JOINT_REPEATED] == 3
    assert any("joint 'elbow' on /js was given several positions" in line for line in joints.problems())


def test_unequal_lengths_and_empty_messages_are_dropped_and_counted():
    broken = joints_value(SimpleNamespace(name=["a", "b"], position=[1.0]))
    assert broken.fault == "2 names but 1 positions"
    joints = assembler()
    messages = [part(i / 20, *NAMES) for i in range(41)]
    found = feed(joints, messages[:20])
    assert joints.add_message(at(0.96), broken, topic="/js") == []
    assert joints.add_message(at(0.97), joints_value(SimpleNamespace(name=[], position=[])), topic="/js") == []
    found += feed(joints, messages[20:])
    check(found)
    assert len(found) == 41
    assert joints.drops == {Drop.JOINTS_MALFORMED: 1, Drop.JOINTS_EMPTY: 1}
    (line,) = joints.problems()
    assert "/js: 1 messages were dropped" in line
    assert "2 names but 1 positions" in line


def test_stamps_that_repeat_or_step_back_are_counted():
    joints = assembler()
    feed(joints, [part(1.0, *NAMES), part(1.0, *NAMES), part(0.9, *NAMES), (-BASE / SECOND, dict.fromkeys(NAMES, 0.0))])
    assert joints.drops == {Drop.POSE_DUPLICATE: 1, Drop.POSE_BACKWARDS: 2}  # the last one is unstamped


def test_a_clock_reset_forgets_and_goes_on():
    joints = assembler()
    found = feed(joints, two_publishers(2.0))
    again = feed(joints, two_publishers(2.0))
    assert len(again) >= len(found) - 10  # both publishers have to jump
    check(again)
    assert joints.problems() == []


def test_a_joint_lost_with_a_clock_reset_is_still_named():
    joints = assembler()
    feed(joints, [part(10 + i / 20, *NAMES) for i in range(40)])
    feed(joints, [part(i / 20, *NAMES[:3]) for i in range(40)])
    (line,) = joints.problems()
    assert "'grip'" in line
    assert "clock reset" in line


def test_memory_is_bounded_while_a_joint_is_away():
    joints = assembler(max_pending=64)
    feed(joints, [part(0.0, *NAMES)])
    feed(joints, [(i / 100, {"shoulder": 0.0, "elbow": 0.0, "wheel": 0.0, f"extra{i}": 1.0}) for i in range(1, 3000)])
    assert len(joints._due) <= 64
    assert max(len(stamps) for stamps in joints._stamps) <= 66
    assert len(joints._others) <= 256
    assert joints.drops[Drop.JOINTS_INCOMPLETE] > 2900
    found = feed(joints, [part(30 + i / 100, *NAMES) for i in range(10)])
    check(found)
    assert [stamp for stamp, _ in found] == [at(30 + i / 100) for i in range(10)]


def test_held_values_step_and_angles_take_the_short_way():
    joints = JointAssembler(("command", "heading", "pace"), max_age_s=1.0, held=("command",), angles=("heading",))
    joints.add(at(0), {"command": 1.0, "heading": 3.1, "pace": 0.0})
    joints.add(at(0.1), {"pace": 1.0})
    found = joints.add(at(0.2), {"command": 2.0, "heading": -3.1, "pace": 2.0})
    (_, middle), (_, last) = found
    assert middle[0] == 1.0
    assert middle[1] == pytest.approx(np.pi)
    assert last.tolist() == [2.0, -3.1, 2.0]


def test_drops_are_counted_where_the_caller_says():
    drops: Counter[Drop] = Counter()
    feed(assembler(drops=drops), [(0.0, {})])
    assert drops == {Drop.JOINTS_EMPTY: 1}
