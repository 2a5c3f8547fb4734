"""What a planner asks of a world model: costs, or why there are none; nobody is waited for who will not answer."""

from __future__ import annotations

import math
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_core.errors import AnswerError, Stopped
from egowm_nodes.planning import asking
from egowm_nodes.planning.asking import AskedCost
from tests.fixtures.tiny_checkpoint import made_up_picture


class Answers:
    """A client that answers at once, refuses, or never does; ``there`` says whether anybody serves it."""

    name = "world_model/imagine"

    def __init__(
        self, costs: Any = None, error: Exception | None = None, *, silent: bool = False, there: bool = True
    ) -> None:
        self.costs, self.error, self.silent, self.there, self.cancelled = costs, error, silent, there, False
        self.accepted = True
        self.heard_s: float | None = None

    def ready(self) -> bool:
        return self.there

    def start(self, candidates: Any, **options: Any) -> Any:
        self.asked = options
        if not self.silent:
            options["on_done"](None)
        return self

    def cancel(self) -> None:
        self.cancelled = True

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return SimpleNamespace(costs=self.costs)


def test_asking_gives_costs_or_says_why_not() -> None:
    candidates, picture = np.zeros((2, 4, 3), np.float32), made_up_picture(96, 128, seed=0)

    def ask(client: Answers, *, halt: bool = False) -> Any:
        event = threading.Event()
        if halt:
            event.set()
        return AskedCost(client, picture, 0.2, 7, event)(candidates)  # type: ignore[arg-type]

    client = Answers(np.array([1.0, 2.0]))
    assert ask(client).tolist() == [1, 2]
    assert client.asked["horizon"] == 4 and client.asked["seed"] == 7 and client.asked["goal_image"] is picture
    for costs in (None, np.zeros(3)):
        with pytest.raises(AnswerError, match="rank"):
            ask(Answers(costs))
    with pytest.raises(AnswerError, match="no reason"):
        ask(Answers(error=AnswerError("no reason")))
    for silent, halt, error in ((True, True, Stopped), (True, False, AnswerError)):
        client = Answers(silent=silent)
        with pytest.raises(error):
            ask(client, halt=halt)
        assert client.cancelled


def test_nobody_is_asked_who_is_not_there_and_a_lost_question_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in ("_ABSENT_S", "_TAKEN_S"):
        monkeypatch.setattr(asking, limit, 0.1)
    cost = partial(AskedCost, picture=made_up_picture(96, 128, seed=0), timeout_s=60.0, seed=7, halt=threading.Event())
    candidates, client = np.zeros((2, 4, 3), np.float32), Answers(there=False)
    with pytest.raises(AnswerError, match="nobody serves world_model/imagine: start"):
        cost(client)(candidates)  # type: ignore[call-arg, arg-type]
    assert not hasattr(client, "asked")
    client = Answers(silent=True)
    client.accepted = False
    with pytest.raises(AnswerError, match="did not take"):
        cost(client)(candidates)  # type: ignore[call-arg, arg-type]
    assert client.cancelled
    client = Answers(silent=True)
    monkeypatch.setattr(Answers, "ready", lambda self: not hasattr(self, "asked"))  # dies of the question
    with pytest.raises(AnswerError, match="nobody serves"):
        cost(client)(candidates)  # type: ignore[call-arg, arg-type]


def test_an_answer_that_stops_coming_is_not_waited_for() -> None:
    ask = partial(AskedCost, picture=made_up_picture(96, 128, seed=0), timeout_s=60.0, seed=7, halt=threading.Event())
    candidates, client = np.zeros((2, 4, 3), np.float32), Answers(silent=True)
    with pytest.raises(AnswerError, match=r"silent for 0\.1 s; .* raise imagine_silence_s"):
        ask(client, silence_s=0.1)(candidates)  # type: ignore[arg-type]
    assert client.cancelled
    client = Answers(silent=True)
    client.heard_s = math.inf  # frames keep coming
    with pytest.raises(AnswerError, match=r"did not answer in 0\.3 s"):
        ask(client, timeout_s=0.3, silence_s=0.1)(candidates)  # type: ignore[arg-type]
