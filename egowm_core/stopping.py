"""How a prediction in progress is told to give up. Knows nothing of what is being predicted."""

from __future__ import annotations

from collections.abc import Callable

from egowm_core.errors import Stopped

Stop = Callable[[], bool]
"""Asked before every denoising step: whether to give up. Cheap, and callable from the thread that predicts."""


def never() -> bool:
    """The ``Stop`` of what always goes on to its end."""
    return False


def refuse_stopped(stop: Stop) -> None:
    """Raises Stopped where ``stop()`` is true."""
    if stop():
        raise Stopped("the prediction was stopped before its end, as asked; ask anew for the rest of it")
