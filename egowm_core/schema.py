"""Mappings read from YAML or JSON into frozen dataclasses, refusing what the dataclass does not know.

Checks keys (a typo gets the nearest name) and simple types by the annotations; values are the dataclass's own business.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from egowm_core.errors import ConfigError

_EXPECTED = {"float": "a number", "int": "a whole number", "str": "text", "bool": "true or false"}
_PAIR = "tuple[float, float]"


def nearest(name: str, names: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest of ``names``, or an empty string."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def read_fields(cls: type[Any], data: Any, where: str) -> dict[str, Any]:
    """Keyword arguments for the dataclass ``cls`` out of a mapping; ``where`` names it in errors.

    Numbers become float or int, pairs become tuples; nested mappings and lists are passed on as they are. The
    dataclass's module must use ``from __future__ import annotations``. Raises ConfigError on unknown, missing or
    ill-typed keys.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a mapping of keys to values, got {type(data).__name__}")
    known = {item.name: item for item in fields(cls)}
    for key in data:
        if key not in known:
            hint = nearest(str(key), known)
            raise ConfigError(f"{where} has an unknown key {key!r}{hint}; known: {', '.join(known)}")
    if missing := [name for name, item in known.items() if name not in data and _is_required(item)]:
        raise ConfigError(f"{where} lacks the key {missing[0]!r}; add it")
    return {
        name: _convert(data[name], str(item.type), f"{where}.{name}") for name, item in known.items() if name in data
    }


def plain_fields(item: Any) -> dict[str, Any]:
    """The fields of a flat dataclass for YAML or JSON: tuples as lists, unset (None) ones left out."""
    values = {f.name: getattr(item, f.name) for f in fields(item)}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items() if v is not None}


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _convert(value: Any, annotation: str, where: str) -> Any:
    kind = annotation.removesuffix(" | None")
    if value is None and kind != annotation:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        "float": number,
        "int": number and isinstance(value, int),
        "str": isinstance(value, str) and bool(value),
        "bool": isinstance(value, bool),
        _PAIR: isinstance(value, (list, tuple)) and len(value) == 2,
    }.get(kind, isinstance(value, (list, tuple)) if kind.startswith(("tuple", "list")) else True)
    if not fits:
        expected = "two numbers" if kind == _PAIR else _EXPECTED.get(kind, "a list")
        raise ConfigError(f"{where} is {value!r}; expected {expected}")
    if kind == "float":
        return float(value)
    return tuple(_convert(item, "float", where) for item in value) if kind == _PAIR else value
