"""A quicker start of a node that only predicts: what prediction does not need is not imported along with diffusers.

diffusers imports scipy's statistics (for schedulers that are not used here), PyTorch's compiler (to mark functions for
it), and peft, transformers and accelerate wherever they are installed: together four fifths of its own import, which
was half of a restart. They are hidden while it is imported, and can be imported as ever afterwards. What is marked for
the compiler then is not marked: compiled code may take in more of it, its results are the same. Knows no model.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

NOT_FOR_PREDICTION = ("accelerate", "peft", "scipy", "torch._dynamo", "transformers")
_IMPORTED_ANEW = ("diffusers", "egowm_core")


@contextmanager
def lean_imports(names: tuple[str, ...] = NOT_FOR_PREDICTION) -> Iterator[None]:
    """Within it, packages that are not imported yet seem not to be installed, and no garbage is collected."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's own sign for "not there"
    collecting = gc.isenabled()
    gc.disable()  # imports make objects that stay: looking for garbage among them is a tenth of the time
    marking = torch.compiler.disable
    if "torch._dynamo" in hidden:  # which it would import
        torch.compiler.disable = _unmarked
    try:
        yield
    finally:
        torch.compiler.disable = marking
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
        if collecting:
            gc.enable()


def lean_import(name: str) -> ModuleType:
    """``import_module(name)`` with :func:`lean_imports`; as ever where something in it insists on what was hidden."""
    before = set(sys.modules)
    try:
        with lean_imports():
            return import_module(name)
    except (ImportError, RuntimeError):  # diffusers raises the latter for a part that cannot be imported
        for added in set(sys.modules) - before:
            if added.partition(".")[0] in _IMPORTED_ANEW:
                del sys.modules[added]
        return import_module(name)


def _unmarked(function: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Any:
    """In place of ``torch.compiler.disable``, as a decorator with or without arguments."""
    return function if function is not None else lambda decorated: decorated
