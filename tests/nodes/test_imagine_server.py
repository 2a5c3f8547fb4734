"""The action ``imagine`` over real ROS, on a small model: answers, refusals, the queue, cancelling, memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from rclpy.action import ActionServer

from egowm_core.errors import AnswerError
from egowm_core.imagination import imagine_all
from egowm_nodes.imagine import server as serving
from egowm_nodes.imagine.client import ImagineClient, Seen
from tests.nodes.imagine_host import CONTEXT, LIMIT_S, NOW_NS, Gate, ended, figures, said, served, until

TURNS = np.zeros((4, 4, 3), np.float32)
TURNS[:, :, 2] = np.linspace(-0.1, 0.1, 4)[:, None]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with served(tmp_path_factory.mktemp("tiny")) as made:
        yield made


@pytest.fixture(autouse=True)
def long_ago(graph: SimpleNamespace) -> None:
    """What the tests before asked for doesn't count."""
    graph.host.desk._server._accepted_s.clear()


@pytest.fixture
def gate(graph: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(graph.model, monkeypatch)
    yield made
    made.open()


def test_candidates_are_imagined_streamed_and_ranked_against_the_goal(graph) -> None:
    expected = imagine_all(graph.model, CONTEXT, TURNS, seed=3, batch=2)
    goal = expected[2, -1]
    seen: list[Seen] = []
    answer = graph.client.imagine(TURNS, goal_image=goal, seed=3, timeout_s=LIMIT_S, on_frame=seen.append)
    assert len(answer.rollouts) == 4 and sorted(answer.ranking) == [0, 1, 2, 3]
    for index, rollout in enumerate(answer.rollouts):
        assert np.array_equal(rollout.frames.images, expected[index])
        assert np.array_equal(rollout.actions.values, TURNS[index]) and rollout.seed == 3
        assert rollout.frames.stamps_ns.tolist() == [NOW_NS + 250_000_000 * i for i in range(1, 5)]
    assert answer.costs is not None and answer.ranking[0] == 2 and answer.costs[2] < 1e-4
    assert answer.costs[answer.ranking].tolist() == sorted(answer.costs.tolist())
    assert {(one.candidate, one.frame) for one in seen} == {(n, t) for n in range(4) for t in range(1, 5)}
    assert all(np.array_equal(one.image, expected[one.candidate, one.frame - 1]) for one in seen)
    assert [one.progress for one in seen] == sorted(one.progress for one in seen) and seen[-1].progress == 1.0
    again = graph.client.imagine(TURNS[:1], horizon=2, num_denoising_steps=1, timeout_s=LIMIT_S)
    assert len(again.rollouts[0].frames) == 2 and again.rollouts[0].num_denoising_steps == 1
    assert again.costs is None and again.ranking == []
    assert float(figures(graph)["candidates_per_s"]) > 0 and int(figures(graph)["done"]) == 2


def test_an_answer_that_overtakes_its_frames_hides_none(graph) -> None:
    seen: list[tuple[int, int]] = []
    before = int(figures(graph)["done"])

    def watch(one: Seen) -> None:
        if not seen:  # a client that is kept busy finds frames and answer in its queues, all at once
            end_s = time.monotonic() + LIMIT_S
            while int(figures(graph)["done"]) == before and time.monotonic() < end_s:
                time.sleep(0.02)
            time.sleep(0.2)  # on its way
        seen.append((one.candidate, one.frame))

    graph.client.imagine(TURNS, timeout_s=LIMIT_S, on_frame=watch)
    assert len(seen) == 16 and set(seen) == {(n, t) for n in range(4) for t in range(1, 5)}


def bent(**changes: Any) -> dict[str, Any]:
    return {"candidates": TURNS, **changes}


WILD, UNKNOWN = TURNS.copy(), TURNS.copy()
WILD[1, 2, 2], UNKNOWN[3, 0, 0] = 9.0, np.nan


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (bent(candidates=WILD), "candidate 1: channel 'dyaw' row 2: value 9 rad is outside its limits"),
        (bent(candidates=UNKNOWN), "candidate 3: channel 'dx' row 0: value nan m is not finite"),
        (bent(candidates=TURNS[:0]), "0 candidates; expected 1..64"),
        (bent(candidates=np.repeat(TURNS, 17, axis=0)), "68 candidates; expected 1..64"),
        (bent(horizon=65), "horizon of 65 frames; expected at most 64"),
        (bent(horizon=9), "4 rows; expected one for each of 9 frames"),
        (bent(num_denoising_steps=999), "num_denoising_steps 999"),
        (bent(goal_image=np.zeros((64, 64, 3), np.uint8)), "64x64 pixels; expected the camera's aspect"),
    ],
)
def test_a_goal_that_does_not_fit_is_refused_in_words(graph, goal, words) -> None:
    with pytest.raises(AnswerError, match=words.replace(".", r"\.")):
        graph.client.imagine(timeout_s=LIMIT_S, **goal)


def test_messages_that_lie_about_themselves_are_refused_and_the_next_goal_is_served(graph, monkeypatch) -> None:
    client = graph.client
    stock, words = client._client.send_goal_async, []

    def lying(change: Callable[[Any], None]) -> Callable[..., Any]:
        def send(goal: Any, **options: Any) -> Any:
            change(goal)
            return stock(goal, **options)

        return send

    def rename(goal: Any) -> None:
        goal.candidates[0].channels = ["dx", "dyaw", "dy"]

    def shorten(goal: Any) -> None:
        goal.candidates[1].data = goal.candidates[1].data[:-1]

    def hurry(goal: Any) -> None:
        goal.candidates[2].rate_hz = 8.0

    def corrupt(goal: Any) -> None:
        goal.goal_image.data = goal.goal_image.data[:-5]

    for change in (rename, shorten, hurry, corrupt):
        with monkeypatch.context() as patch:
            patch.setattr(client._client, "send_goal_async", lying(change))
            pending = client.start(TURNS, goal_image=CONTEXT.images[0])
        words += ended(client, pending)
    assert "['dx', 'dyaw', 'dy']; expected ['dx', 'dy', 'dyaw'] in this order" in words[0]
    assert "candidate 1: actions have 11 values for 3 channels" in words[1]
    assert "candidate 2 has 8 rows a second; expected the model's 4" in words[2]
    assert "goal image: image data has" in words[3]
    assert client.imagine(TURNS[:1], timeout_s=LIMIT_S).rollouts


def test_one_is_worked_on_two_wait_in_turn_and_more_are_rejected(graph, gate) -> None:
    client, order = graph.client, []
    gate.close()
    goals = [client.start(TURNS[:1], seed=n, on_done=lambda _, n=n: order.append(n)) for n in range(3)]
    until(client, lambda: figures(graph)["waiting"] == "2")
    late = client.start(TURNS[:1])
    assert "rejected" in ended(client, late)[0] and int(figures(graph)["rejected"]) == 1
    until(client, lambda: goals[1]._handle is not None)
    goals[1].cancel()
    assert "cancelled" in ended(client, goals[1])[0]  # while the first one is still worked on
    assert not goals[0].done and figures(graph)["waiting"] == "1"
    gate.open()
    assert ended(client, *goals)[::2] == ["", ""] and order == [1, 0, 2]


def test_cancelling_takes_effect_before_the_next_denoising_step(graph, gate) -> None:
    client, before = graph.client, int(figures(graph)["cancelled"])
    gate.close()
    pending = client.start(TURNS, num_denoising_steps=5)
    until(client, gate.reached.is_set)
    assert gate.count == 1
    pending.cancel()
    ticket = graph.host.desk._server._running
    until(client, lambda: ticket.stopped)
    gate.open()
    assert "cancelled by the client" in ended(client, pending)[0]
    assert gate.count == 1 and int(figures(graph)["cancelled"]) == before + 1
    assert client.imagine(TURNS[:1], timeout_s=LIMIT_S).rollouts


def test_deactivating_ends_what_runs_and_what_waits_with_a_reason(graph, gate) -> None:
    client, host = graph.client, graph.host
    gate.close()
    pending = [client.start(TURNS, num_denoising_steps=5) for _ in range(2)]
    until(client, lambda: gate.reached.is_set() and figures(graph)["waiting"] == "1")
    host.desk.stop()
    gate.open()
    host.shut()
    assert all("was deactivated" in text for text in ended(client, *pending)) and gate.count == 1
    assert "was deactivated" in ended(client, client.start(TURNS))[0]
    host.open()
    host.situation, kept = None, host.situation
    assert "no live context yet" in ended(client, client.start(TURNS))[0]
    host.situation = kept
    assert client.imagine(TURNS[:1], timeout_s=LIMIT_S).rollouts


def test_live_predictions_go_on_in_between(graph, gate, monkeypatch) -> None:
    done: list[str] = []
    stock = graph.model.predict_chunks

    def predicting(*args: Any, **options: Any) -> Any:
        done.append("imagine")
        graph.host.worker.offer("live", lambda: done.append("live"))
        return stock(*args, **options)

    monkeypatch.setattr(graph.model, "predict_chunks", predicting)
    assert len(graph.client.imagine(TURNS, timeout_s=LIMIT_S).rollouts) == 4
    assert done == ["imagine", "live"] * 2  # two candidates at once


def test_where_memory_runs_out_fewer_candidates_are_imagined_at_once(graph, monkeypatch) -> None:
    stock, sizes = graph.model.predict_chunks, []
    expected = imagine_all(graph.model, CONTEXT, TURNS, batch=1)

    def short(context: Any, actions: Any, **options: Any) -> Any:
        sizes.append(len(actions))
        if len(actions) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return stock(context, actions, **options)

    monkeypatch.setattr(graph.model, "predict_chunks", short)
    answer = graph.client.imagine(TURNS, timeout_s=LIMIT_S)
    assert sizes == [2, 1, 1, 1, 1]
    assert all(np.array_equal(one.frames.images, images) for one, images in zip(answer.rollouts, expected, strict=True))
    assert "did not suffice for 2 candidates at once, going on with 1" in said(graph, "imagine: memory")
    graph.host.desk.open(lambda: graph.host.situation, lambda: (480, 640))  # forgets what it learned


def test_a_failing_model_fails_its_goal_alone(graph, monkeypatch) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("a kernel is missing")

    with monkeypatch.context() as patch:
        patch.setattr(graph.model.denoiser, "denoise", broken)
        with pytest.raises(AnswerError, match="imagining failed: RuntimeError: a kernel is missing"):
            graph.client.imagine(TURNS, timeout_s=LIMIT_S)
    assert graph.client.imagine(TURNS[:1], timeout_s=LIMIT_S).rollouts and not graph.host.errors


def test_a_hundred_hostile_goals_at_once_are_turned_away_politely(graph, gate, monkeypatch) -> None:
    monkeypatch.setattr(serving, "MOST_GOALS", 10**6)  # of the queue alone, here
    client, gate_open = graph.client, gate.open
    gate.close()
    wild = [client.start(WILD if n % 2 else TURNS[:1]) for n in range(100)]
    until(client, lambda: sum(one.done for one in wild) >= 97)
    gate_open()
    words = ended(client, *wild)
    good = sum(not text for text in words)
    assert good == 3 and all("rejected" in text or "dyaw" in text for text in words if text)
    assert client.imagine(TURNS[:1], timeout_s=LIMIT_S).rollouts
    server = graph.host.desk._server
    assert not server._tickets and len(server._kept) <= serving.KEPT_RESULTS


def test_a_client_without_a_server_says_so(graph) -> None:
    with (
        ImagineClient("base_3dof", server="elsewhere") as client,
        pytest.raises(AnswerError, match="nobody serves elsewhere/imagine"),
    ):
        client.imagine(TURNS, timeout_s=0.1)


def test_too_many_goals_in_a_short_time_are_rejected_even_one_by_one(graph, monkeypatch) -> None:
    server = graph.host.desk._server
    monkeypatch.setattr(
        server, "_accepted_s", deque([time.monotonic() + 3600.0] * serving.MOST_GOALS, maxlen=serving.MOST_GOALS)
    )
    assert "rejected" in ended(graph.client, graph.client.start(TURNS[:1]))[0]
    assert "64 came within 10 s" in said(graph, "imagine: rejected")
    server._accepted_s[0] = 0.0
    assert ended(graph.client, graph.client.start(TURNS[:1])) == [""]


def test_old_results_lose_their_frames(graph) -> None:
    kept = graph.host.desk._server._kept
    for _ in range(serving.KEPT_RESULTS):
        graph.client.imagine(TURNS[:1], horizon=1, timeout_s=LIMIT_S)
    oldest = kept[0]
    assert len(oldest.rollouts) == 1 and oldest.success
    graph.client.imagine(TURNS[:1], horizon=1, timeout_s=LIMIT_S)
    assert len(kept) == serving.KEPT_RESULTS
    assert not oldest.rollouts and not oldest.success and "was forgotten" in oldest.message


def test_a_request_that_cannot_be_taken_does_not_silence_the_others(graph, monkeypatch) -> None:
    """rclpy alone would leave the callback group as executing for ever: no goal, cancel or result after it."""
    stock, failed = ActionServer.take_data, []

    def taking(server: Any) -> Any:
        if server._is_goal_request_ready:
            failed.append(1)
            raise UnicodeDecodeError("utf-8", b"x", 0, 1, "made up")
        return stock(server)

    with monkeypatch.context() as patch:
        patch.setattr(ActionServer, "take_data", taking)
        pending = graph.client.start(TURNS[:1])
        until(graph.client, lambda: len(failed) > 1)
        assert graph.host.notices.counts()["imagine: not taken"] >= 1 and not pending.done
    assert ended(graph.client, pending) == [""]
