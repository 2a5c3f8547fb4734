"""A node that serves ``imagine`` in this process: a small model, a context that stands still, a gate in the model."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.signals import SignalHandlerOptions

from egowm_core import Frames
from egowm_nodes.imagine.client import ImagineClient, Pending
from egowm_nodes.imagine.desk import ImagineDesk
from egowm_nodes.imagine.work import Situation
from egowm_nodes.prediction.params import WorldModelParams
from egowm_nodes.runtime.managed_node import ManagedNode
from egowm_nodes.runtime.steady_executor import SteadyExecutor
from egowm_nodes.runtime.worker import LatestWorker
from tests.fixtures.awake_model import awake_model
from tests.fixtures.tiny_checkpoint import made_up_picture

LIMIT_S = 60.0
DOMAIN = 101 + os.getpid() % 100
NOW_NS = 10**18
CONTEXT = Frames(made_up_picture(96, 128, seed=9)[None], np.array([NOW_NS], np.int64))


class Host(ManagedNode[WorldModelParams]):
    """What the desk needs of the world model's node, with a context that stands still and a worker of its own."""

    def __init__(self, model: Any) -> None:
        super().__init__("world_model", WorldModelParams)
        self.model = model
        self.situation: Situation | None = Situation(CONTEXT, None, "optical")
        self.desk = ImagineDesk(self, model, horizon=model.horizon, offer=self._offer)
        self.open()

    def open(self) -> None:
        self.errors: list[Exception] = []
        self.worker = LatestWorker(
            lambda turn: turn(), slots=("live", "imagine"), on_error=self.errors.append, name="test"
        )
        self.desk.open(lambda: self.situation, lambda: (480, 640))

    def shut(self) -> None:
        self.desk.stop()
        assert self.worker.close(timeout_s=LIMIT_S)
        self.desk.abandon()

    def _offer(self, turn: Callable[[], None]) -> None:
        self.worker.offer("imagine", turn)


class Gate:
    """Counts the model's evaluations and, while closed, holds them."""

    def __init__(self, model: Any, patch: pytest.MonkeyPatch) -> None:
        stock, self.count = model.denoiser.denoise, 0
        self.reached, self._open = threading.Event(), threading.Event()
        self._open.set()

        def denoise(*args: Any, **options: Any) -> Any:
            self.count += 1
            self.reached.set()
            assert self._open.wait(LIMIT_S)
            return stock(*args, **options)

        patch.setattr(model.denoiser, "denoise", denoise)

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@contextmanager
def served(directory: Path) -> Iterator[SimpleNamespace]:
    """Host, client and model, in a domain of their own; at the end, nothing may have gone wrong unseen."""
    model = awake_model(directory / "tiny")
    stop = threading.Event()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.setenv("ROS_DOMAIN_ID", str(DOMAIN))
        rclpy.init(domain_id=DOMAIN, signal_handler_options=SignalHandlerOptions.NO)
        host, troubles = Host(model), []
        executor = SteadyExecutor(on_error=lambda name, error: troubles.append((name, error)))
        executor.add_node(host)

        def spin() -> None:
            while not stop.is_set():
                try:
                    executor.spin_once(timeout_sec=0.1)
                except Exception as error:  # as the main loop does
                    troubles.append(("callback", error))

        spinner = threading.Thread(target=spin, daemon=True)
        spinner.start()
        with ImagineClient("base_3dof") as client:
            assert client._client.wait_for_server(timeout_sec=LIMIT_S)
            yield SimpleNamespace(host=host, client=client, model=model, troubles=troubles)
        host.shut()
        stop.set()
        spinner.join()
        host.desk.close()
        executor.shutdown()
        host.destroy_node()
        rclpy.shutdown()
    assert not troubles, troubles


def until(client: ImagineClient, condition: Callable[[], Any]) -> None:
    """Spin the client's node until then."""
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s
        client._spin(0.02)


def ended(client: ImagineClient, *pending: Pending) -> list[str]:
    """How they ended: empty for an answer, or why there is none."""
    until(client, lambda: all(one.done for one in pending))
    return ["" if one._error is None else str(one._error) for one in pending]


def figures(graph: SimpleNamespace) -> dict[str, str]:
    return dict(graph.host.desk.status().values)


def said(graph: SimpleNamespace, key: str) -> str:
    """The newest report of a kind, however long ago."""
    return str(graph.host.notices._newest[key].text)
