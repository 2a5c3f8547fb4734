"""Which actions a prediction is given: plans by stamp, extension, what is held, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.geometry import se2_integrate
from egowm_core.types import ActionSource
from egowm_nodes.plans.chooser import ActionChooser, Plan, delta_of_velocity

ROBOT = load_embodiment("base_3dof")
START = 1_700_000_000_000_000_000
TICK = 250_000_000


def plan(rows: int = 8, **changes) -> Plan:
    values = np.zeros((rows, 3), np.float32)
    values[:, 0] = np.arange(rows) / 100
    whole = Plan(embodiment="base_3dof", channels=("dx", "dy", "dyaw"), rate_hz=4.0, start_ns=START, values=values)
    return dataclasses.replace(whole, **changes)


def chooser(**changes) -> ActionChooser:
    options = {"horizon": 8, "plan_timeout_s": 1.0, "hold_last_command": True, "command_timeout_s": 1.0}
    return ActionChooser(ROBOT, **(options | changes))


def test_a_fresh_plan_is_used_from_the_context_frame_on():
    chosen = chooser()
    chosen.offer_plan(plan(10), newest_frame_ns=None)
    choice = chosen.choose(START + 2 * TICK, None, now_s=0.0)
    assert choice.actions.source is ActionSource.PLANNED and choice.extended == 0
    np.testing.assert_allclose(choice.actions.values[:, 0], np.arange(2, 10) / 100)


def test_a_short_plan_is_extended_by_its_last_action_and_says_so():
    chosen = chooser()
    chosen.offer_plan(plan(3), newest_frame_ns=None)
    choice = chosen.choose(START + TICK, None, now_s=0.0)
    np.testing.assert_allclose(choice.actions.values[:, 0], [0.01, *[0.02] * 7])
    assert choice.extended == 6 and "held for 6 of 8" in choice.origin


def test_a_stale_plan_gives_way_to_what_is_held():
    chosen = chooser()
    chosen.offer_plan(plan(), newest_frame_ns=None)
    executed = np.array([0.05, 0, 0.1], np.float32)
    choice = chosen.choose(START + 5 * TICK, executed, now_s=0.0)
    assert choice.actions.source is ActionSource.HELD and "executed" in choice.origin
    np.testing.assert_allclose(choice.actions.values, np.tile(executed, (8, 1)))


def test_before_a_plan_starts_the_held_action_leads_in():
    chosen = chooser()
    chosen.offer_plan(plan(), newest_frame_ns=None)
    held = np.array([0.05, 0, 0], np.float32)
    choice = chosen.choose(START - 2 * TICK, held, now_s=0.0)
    np.testing.assert_allclose(choice.actions.values[:, 0], [0.05, 0.05, 0, 0.01, 0.02, 0.03, 0.04, 0.05], atol=1e-7)
    assert choice.led_in == 2 and choice.actions.source is ActionSource.PLANNED
    assert chosen.choose(START - 20 * TICK, held, now_s=0.0).actions.source is ActionSource.HELD


def test_an_unstamped_plan_starts_at_the_newest_frame():
    chosen = chooser()
    with pytest.raises(EmbodimentError, match="no stamp"):
        chosen.offer_plan(plan(start_ns=0), newest_frame_ns=None)
    chosen.offer_plan(plan(start_ns=0), newest_frame_ns=START + TICK)
    choice = chosen.choose(START + 2 * TICK, None, now_s=0.0)
    assert choice.actions.values[0, 0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embodiment": "humanoid_25dof"}, "humanoid_25dof.*base_3dof"),
        ({"channels": ("dy", "dx", "dyaw")}, r"\['dy', 'dx', 'dyaw'\], expected \['dx', 'dy', 'dyaw'\]"),
        ({"rate_hz": 0.0}, "0 rows a second.*fill in rate_hz"),
        ({"rate_hz": float("nan")}, "nan rows a second"),
        ({"rate_hz": 0.001}, r"8000 s, 32000 ticks.*at most 4096"),
        ({"rate_hz": 2.0, "values": np.array([[0.5, 0.0, 0.0]], np.float32)}, "dx.*outside its limits"),
        ({"values": np.full((2, 3), 0.6, np.float32)}, "dx.*0.6.*-0.2..0.2.*divide by 4"),
        ({"values": np.full((2, 3), np.nan, np.float32)}, "dx.*not finite"),
        ({"values": np.full((2, 3), 1e30, np.float32)}, "dx.*outside its limits"),
        ({"values": np.zeros((0, 3), np.float32)}, "0 rows"),
        ({"values": np.zeros((5000, 3), np.float32)}, "5000 rows; expected 1..4096"),
        ({"source": ActionSource.EXECUTED}, "executed"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_and_the_former_one_stays(changes, message):
    chosen = chooser()
    chosen.offer_plan(plan(), newest_frame_ns=None)
    with pytest.raises(EmbodimentError, match=message):
        chosen.offer_plan(plan(**changes), newest_frame_ns=None)
    assert chosen.choose(START, None, now_s=0.0).actions.source is ActionSource.PLANNED
    assert chosen.plans_taken == 1


def test_a_command_is_held_as_motion_per_tick_until_it_is_old():
    chosen = chooser()
    executed = np.array([0.01, 0, 0], np.float32)
    chosen.offer_command(np.array([0.4, 0.0, 0.4]), now_s=10.0)
    held = chosen.choose(START, executed, now_s=10.5)
    assert "cmd_vel" in held.origin and held.actions.source is ActionSource.HELD
    np.testing.assert_allclose(held.actions.values[0, 2], 0.1, rtol=1e-6)
    assert "executed" in chosen.choose(START, executed, now_s=11.5).origin


def test_a_bad_command_is_refused_and_forgets_the_former():
    chosen = chooser()
    chosen.offer_command(np.array([0.4, 0.0, 0.0]), now_s=0.0)
    for bad in ([np.nan, 0, 0], [0, 0, np.inf], [4.0, 0, 0]):
        with pytest.raises(EmbodimentError, match="dx"):
            chosen.offer_command(np.array(bad), now_s=0.0)
        assert chosen.choose(START, None, now_s=0.0) is None


def test_a_stamped_command_is_as_old_as_its_stamp_says():
    chosen = chooser()
    chosen.offer_command(np.array([0.4, 0.0, 0.0]), now_s=0.0, stamp_ns=START)
    assert chosen.choose(START + 4 * TICK, None, now_s=99.0).kind == "cmd_vel"
    assert chosen.choose(START + 5 * TICK, None, now_s=0.0) is None


@pytest.mark.parametrize(
    ("extension", "rows", "words"),
    [
        ("auto", [0.02] * 7, "its last action held for 6 of 8"),
        ("hold_last", [0.02] * 7, "its last action held for 6 of 8"),
        ("stop", [0.02, *[0.0] * 6], "at rest for 6 of 8"),
    ],
)
def test_a_short_plan_is_extended_by_policy(extension, rows, words):
    chosen = chooser(extension=extension)
    chosen.offer_plan(plan(3), newest_frame_ns=None)
    choice = chosen.choose(START + TICK, None, now_s=0.0)
    np.testing.assert_allclose(choice.actions.values[1:, 0], rows)
    assert words in choice.origin and (choice.kind, choice.age_s) == ("actions", 0.25)


def test_where_extension_is_refused_nothing_stands_in_for_a_plan_but_a_command():
    chosen = chooser(extension="refuse")
    executed = np.array([0.05, 0, 0], np.float32)
    assert chosen.choose(START, executed, now_s=0.0).kind == "executed"  # nobody ever planned
    chosen.offer_plan(plan(8), newest_frame_ns=None)
    assert chosen.choose(START, executed, now_s=0.0).kind == "actions"
    assert chosen.choose(START + TICK, executed, now_s=0.0) is None
    assert chosen.unused["actions"] == "plan too short by 1 of 8 rows"
    assert chosen.choose(START + 9 * TICK, executed, now_s=0.0) is None
    assert "began 2.25 s ago" in chosen.stale["actions"] and not chosen.unused
    chosen.offer_command(np.array([0.4, 0.0, 0.0]), now_s=0.0)
    assert chosen.choose(START + TICK, executed, now_s=0.0).kind == "cmd_vel"


def test_the_source_that_is_asked_for_alone_is_used():
    executed = np.array([0.05, 0, 0], np.float32)
    for source, kinds in {"cmd_vel": ("cmd_vel", "executed"), "actions": ("actions", "executed")}.items():
        chosen = chooser(source=source)
        chosen.offer_command(np.array([0.4, 0.0, 0.0]), now_s=0.0)
        chosen.offer_plan(plan(), newest_frame_ns=None)
        assert chosen.choose(START, executed, now_s=0.0).kind == kinds[0]
        assert chosen.choose(START + 9 * TICK, executed, now_s=9.0).kind == kinds[1]


def test_a_plan_at_another_rate_is_put_on_the_models_ticks():
    chosen = chooser()
    values = np.tile(np.array([0.04, 0.0, 0.02], np.float32), (20, 1))  # 10 Hz
    chosen.offer_plan(plan(values=values, rate_hz=10.0), newest_frame_ns=None)
    choice = chosen.choose(START + TICK // 3, None, now_s=0.0)
    np.testing.assert_allclose(choice.actions.values[:, 2], 0.05, rtol=1e-5)
    np.testing.assert_allclose(choice.actions.values, np.tile(choice.actions.values[0], (8, 1)), atol=1e-6)
    assert choice.extended == 0 and choice.kind == "actions"
    assert chosen.choose(START + TICK, None, now_s=0.0).extended == 1


def test_a_picture_that_lags_takes_the_plan_up_earlier():
    chosen = chooser(image_lag_s=0.25)
    chosen.offer_plan(plan(12), newest_frame_ns=None)
    choice = chosen.choose(START + 2 * TICK, None, now_s=0.0)
    np.testing.assert_allclose(choice.actions.values[:, 0], np.arange(1, 9) / 100)
    chosen.offer_plan(plan(12, start_ns=0), newest_frame_ns=START)
    np.testing.assert_allclose(chosen.choose(START, None, now_s=0.0).actions.values[0, 0], 0.0)


def test_nothing_to_hold_is_no_choice():
    assert chooser().choose(START, None, now_s=0.0) is None
    assert chooser(hold_last_command=False).choose(START, np.zeros(3, np.float32), now_s=0.0) is None


def test_a_held_velocity_composes_into_an_arc():
    step = delta_of_velocity(np.array([0.5, 0.1, 0.6]), 0.25)
    fine = delta_of_velocity(np.array([0.5, 0.1, 0.6]), 0.0025)
    np.testing.assert_allclose(se2_integrate(np.tile(fine, (100, 1)))[-1], step, atol=1e-5)
    np.testing.assert_allclose(delta_of_velocity(np.array([0.4, 0.0, 0.0]), 0.25), [0.1, 0, 0])
