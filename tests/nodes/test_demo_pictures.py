"""What the demo draws, from sessions made up here: which prediction is shown when, which contexts make the strip."""

from __future__ import annotations

import io
import math
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("matplotlib")

from egowm_core.errors import DataError
from egowm_nodes.demo import figures, report, strip, video
from egowm_nodes.demo import session as session_module
from egowm_nodes.demo.session import Judgement, Picture, Prediction, Session
from egowm_nodes.launching import node_table, processes

TICK_NS = 250_000_000


def _image(value: int) -> np.ndarray:
    return np.full((24, 32, 3), value, np.uint8)


def _prediction(context_tick: int, *, source: str = "held", horizon: int = 8) -> Prediction:
    """Frame h of the prediction from tick c is uniformly 10 c + h."""
    ticks = np.arange(1, horizon + 1)
    return Prediction(
        context_ns=context_tick * TICK_NS,
        stamps_ns=(context_tick + ticks) * TICK_NS,
        frames=np.stack([_image(10 * context_tick + h) for h in ticks]),
        actions=np.zeros((horizon, 3), np.float32),
        source=source,
        inference_s=0.1,
        received_ns=context_tick * TICK_NS + 100_000_000,
        model="made up",
        num_denoising_steps=1,
    )


def _session(*predictions: Prediction, turn_from: int = 1000, ticks: int = 40) -> Session:
    """Driving at 0.4 m/s, turning left with 0.4 rad/s from a tick on."""
    stamps = np.arange(ticks) * TICK_NS
    turning = np.maximum(0.0, (np.arange(ticks) - turn_from) * 0.1)
    odometry = np.zeros((ticks, 6))
    odometry[:, 0], odometry[:, 2], odometry[:, 3] = 0.1 * np.arange(ticks), turning, 0.4
    observed = [Picture(int(at), _image(200)) for at in stamps]
    return Session(
        observed=observed, predictions=list(predictions), odometry_ns=stamps, odometry=odometry,
        arrivals_ns={int(at): int(at) + 10_000_000 for at in stamps},
    )  # fmt: skip


def test_the_prediction_nearest_to_the_wanted_horizon_is_shown() -> None:
    forecast = video.Forecast([_prediction(tick) for tick in range(10)])
    due = forecast.at(12 * TICK_NS, 1.0)
    assert due is not None and due.ahead_s == pytest.approx(1.0)
    assert due.image[0, 0, 0] == 10 * 8 + 4
    due = forecast.at(12 * TICK_NS, 2.0)
    assert due is not None and due.image[0, 0, 0] == 10 * 4 + 8
    between = forecast.at(12 * TICK_NS + TICK_NS // 3, 1.0)  # a picture between two ticks
    assert between is not None and between.image[0, 0, 0] == 84
    assert forecast.at(40 * TICK_NS, 1.0) is None


def test_sparse_predictions_give_the_nearest_horizon_and_say_which() -> None:
    forecast = video.Forecast([_prediction(0), _prediction(5)])
    due = forecast.at(7 * TICK_NS, 1.0)
    assert due is not None
    assert (due.ahead_s, due.image[0, 0, 0]) == (pytest.approx(0.5), 52)  # 0.5 s is nearer to 1 s than 1.75 s


def test_hindsight_is_no_forecast_where_there_are_real_ones() -> None:
    both = [_prediction(0, source="executed"), _prediction(2, source="held")]
    due = video.Forecast(both).at(5 * TICK_NS, 2.0)
    assert due is not None and due.source == "held"
    only = video.Forecast(both[:1]).at(5 * TICK_NS, 2.0)
    assert only is not None and only.source == "executed"


def test_every_picture_of_the_video_has_the_same_size(tmp_path: Path) -> None:
    session = _session(_prediction(4), _prediction(8))
    session.judgements = [Judgement(13 * TICK_NS, 0, "WARN", "why", "executed", {8: math.nan}, {8: math.nan})]
    drawn = list(video.draw(session))
    assert len({canvas.shape for _, canvas in drawn}) == 1
    assert drawn[0][0] == 4 * TICK_NS  # from the first context on
    assert video.write_video(session, tmp_path / "v.mp4") == len(drawn)
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(DataError, match="no camera picture"):
        video.write_video(Session(), tmp_path / "none.mp4")


def test_the_strip_takes_turns_and_straight_drives_and_prefers_executed_actions() -> None:
    predictions = [_prediction(tick, source="executed") for tick in range(0, 30, 2)] + [_prediction(3)]
    session = _session(*predictions, turn_from=20)
    chosen = strip.choose(strip.contexts(session))
    assert all(context.prediction.source == "executed" for context in chosen)
    turns = [context for context in chosen if context.turn_rad > strip.TURN_RAD]
    straight = [context for context in chosen if abs(context.turn_rad) < strip.STRAIGHT_RAD]
    assert len(turns) == 1 and len(straight) == 2
    assert "turns left" in strip.describe(turns[0])
    starts = [context.prediction.context_ns for context in chosen]
    assert (np.diff(starts) >= 8 * TICK_NS).all()
    assert strip.draw_strip(session).shape[0] == 3 * (strip.TITLE + 2 * (24 + strip.GAP) + 6)


def test_a_lagging_camera_moves_the_motion_along() -> None:
    session = _session(_prediction(12, source="executed"), turn_from=14)
    without = strip.contexts(session)[0].turn_rad
    session.image_lag_s = 1.0
    assert without == pytest.approx(0.6)
    assert strip.contexts(session)[0].turn_rad == pytest.approx(0.2)


def test_predictions_that_nothing_was_observed_for_make_no_strip() -> None:
    with pytest.raises(DataError, match="horizon"):
        strip.draw_strip(_session(_prediction(36), ticks=40))


def test_figures_of_a_session() -> None:
    session = _session(_prediction(4), _prediction(8, source="executed"))
    session.judgements = [
        Judgement(12 * TICK_NS, 13 * TICK_NS, "OK", "", "executed", {2: 80.0, 8: 60.0}, {2: 20.0, 8: 15.0}, {8: 70.0}),
        Judgement(
            16 * TICK_NS, 17 * TICK_NS, "OK", "", "executed", {2: 60.0, 8: math.nan}, {2: 22.0, 8: math.nan}, {8: 70.0}
        ),
        Judgement(16 * TICK_NS, 17 * TICK_NS, "OK", "", "held", {2: 10.0}, {2: 11.0}),
    ]
    session.diagnostics = {"world_model: inputs": (0, "fine", {"dropped": "3", "images_hz": "8"})}
    found = figures.summarize(session)
    assert found["rows"]["model"] == {"scs": {"2": 70.0, "8": 60.0}, "psnr": {"2": 21.0, "8": 15.0}}
    assert found["rows"]["model_planned"]["scs"] == {"2": 10.0}
    assert found["camera_to_rollout_s"]["p50"] == pytest.approx(0.09)
    assert found["drops"] == {"world_model: inputs: dropped": "3"}
    for plot in (figures.scs_plot(session), figures.latency_plot(session)):
        assert plot.startswith("<svg") and plot.rstrip().endswith("</svg>")


def _alarmed(tick: int, state: str, cause: str, alarm: float) -> Judgement:
    return Judgement(
        tick * TICK_NS, 0, state, f"why {cause}", "executed", {8: 50.0}, {8: 15.0}, {8: 70.0}, cause, alarm,
        {"motion": 0.3, "frozen": alarm},
    )  # fmt: skip


def test_alarms_are_stretches_of_one_cause_with_their_worst_moment() -> None:
    session = _session(_prediction(4))
    causes = [("OK", "none", 0.2)] * 3 + [("WARN", "frozen", 1.0), ("ERROR", "frozen", 2.0), ("ERROR", "frozen", 1.6)]
    causes += [("WARN", "lag", 1.1), ("OK", "none", 0.1), ("STALE", "none", 0.0), ("WARN", "lag", 1.3)]
    session.judgements = [_alarmed(4 * number, *cause) for number, cause in enumerate(causes)]
    session.judgements.append(Judgement(14 * TICK_NS, 0, "ERROR", "", "held", {8: 40.0}, {8: 9.0}, cause="frozen"))
    found = figures.summarize(session)["alarms"]
    assert [(a["start_s"], a["end_s"], a["state"], a["cause"]) for a in found] == [
        (3.0, 5.0, "ERROR", "frozen"), (6.0, 6.0, "WARN", "lag"), (9.0, 9.0, "WARN", "lag"),
    ]  # fmt: skip
    assert found[0]["alarm"] == 2.0 and found[0]["channels"] == ["frozen"] and found[0]["lag_s"] is None
    plot = figures.scs_plot(session)
    assert ">frozen<" in plot and plot.count(">lag<") == 2
    page = report.page(session, figures.summarize(session) | {"run": {"remarks": []}}, strip=None, video=False)
    assert "why frozen" in page and "3.0 to 5.0" in page


def test_messages_of_before_causes_were_told_are_read_too() -> None:
    at = SimpleNamespace(sec=3, nanosec=0)
    old = SimpleNamespace(
        header=SimpleNamespace(stamp=at), state=1, reason="low", source=2, horizons=[2, 8], scs=[80.0, 60.0],
        psnr=[20.0, 15.0], baseline_scs=75.0,
    )  # fmt: skip
    judgement = session_module._judgement(old, 5)
    assert (judgement.state, judgement.cause, judgement.strengths) == ("WARN", "none", {})
    assert judgement.baseline_scs == {2: 75.0, 8: 75.0} and math.isnan(judgement.alarm)
    session = _session(_prediction(4))
    session.judgements = [judgement]
    (alarm,) = figures.summarize(session)["alarms"]
    assert (alarm["state"], alarm["alarm"], alarm["reason"]) == ("WARN", None, "low")
    assert figures.scs_plot(session).startswith("<svg")
    new = SimpleNamespace(
        **(vars(old) | {"baseline_scs": np.float32([75, 55]), "cause": "lag", "alarm": 1.5, "lag_s": 0.5}),
        channels=["motion"], strengths=np.float32([1.5]),
    )  # fmt: skip
    judgement = session_module._judgement(new, 5)
    assert judgement.baseline_scs == {2: 75.0, 8: 55.0} and (judgement.cause, judgement.lag_s) == ("lag", 0.5)
    assert judgement.strengths == {"motion": 1.5} and judgement.alarm == 1.5


def test_an_empty_session_has_figures_too() -> None:
    found = figures.summarize(Session())
    assert found["rollouts"] == 0 and found["camera_to_rollout_s"] is None
    assert figures.scs_plot(Session()).startswith("<svg")


def _child(group: processes.ProcessGroup, name: str, code: str) -> processes.Child:
    log = group._logs / f"{name}.log"
    handle = log.open("wb")
    process = processes.subprocess.Popen([sys.executable, "-c", code], stdout=handle, stderr=handle)
    group.children[name] = processes.Child(name, process, log, handle)
    return group.children[name]


def test_a_dead_child_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with processes.ProcessGroup(tmp_path, {}) as group:
        _child(group, "poor", "print('last words'); raise SystemExit(3)").process.wait()
        with pytest.raises(processes.ChildError, match=r"poor ended with status 3(?s:.)*last words"):
            group.check()
        group.children.clear()
        _child(group, "done", "pass").process.wait()
        group.check(may_end=("done",))
        with pytest.raises(processes.ChildError, match="done ended with status 0"):
            group.check()


def test_children_that_ignore_sigint_are_terminated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SIGNALS", ((signal.SIGINT, 0.3), (signal.SIGTERM, 5.0)))
    code = "import signal,time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    group = processes.ProcessGroup(tmp_path, {})
    child = _child(group, "deaf", code)
    while b"up" not in child.log.read_bytes():
        assert child.process.poll() is None
    assert group.stop() == {"deaf": -signal.SIGTERM}


def test_commands_are_those_of_the_table(tmp_path: Path) -> None:
    run = next(run for run in node_table.plan("sim", {}) if run.entry.name == "drift_monitor")
    words = processes.command(run, tmp_path / "settings.yaml")
    assert words[1:4] == ["-m", "egowm_nodes.drift_monitor_node", "--ros-args"]
    assert "rollouts:=world_model/rollout" in words
    assert words[-1] == str(tmp_path / "settings.yaml")


def test_a_line_that_is_no_terminal_is_shown_now_and_then() -> None:
    pytest.importorskip("rclpy")
    from egowm_nodes.demo.status import LiveLine

    stream = io.StringIO()
    line = LiveLine(stream)
    for number in range(5):
        line.show(f"line {number}")
    line.say("done")
    assert stream.getvalue() == "line 0\ndone\n"
