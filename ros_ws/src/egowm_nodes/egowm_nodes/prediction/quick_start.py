"""A quicker start of a node that only predicts: what training alone needs is not imported along with diffusers.

diffusers imports peft and transformers wherever they are installed, a second and a half of a restart, though prediction
uses neither. Robots usually have neither; where a machine trains, too, they are hidden while diffusers is imported, and
can be imported as ever afterwards. Knows no model.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FOR_TRAINING = ("peft", "transformers")


@contextmanager
def lean_imports(names: tuple[str, ...] = FOR_TRAINING) -> Iterator[None]:
    """Within it, packages that are not imported yet seem not to be installed, and no garbage is collected."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's own sign for "not there"
    collecting = gc.isenabled()
    gc.disable()  # imports make objects that stay: looking for garbage among them is a tenth of the time
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
        if collecting:
            gc.enable()
