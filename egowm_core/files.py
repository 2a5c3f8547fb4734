"""Small files, read with care and written whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import IO, Any

from egowm_core.errors import DataError


def read_json(path: Path, *, max_bytes: int = 64 << 20) -> Any:
    """A JSON file. Raises DataError when it is absent, too large or broken."""
    try:
        if path.stat().st_size > max_bytes:
            raise DataError(f"{path} is over {max_bytes} bytes; it is not what it claims to be")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; make it anew") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            fsync(file)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def without_nan(value: Any) -> Any:
    """``value`` for JSON, which knows neither NaN nor infinity: null in their place; keys as text, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fsync(file: IO[Any]) -> None:
    """Flush a file to the disk."""
    file.flush()
    os.fsync(file.fileno())
