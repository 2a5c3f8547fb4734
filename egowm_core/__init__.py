"""egowm: action-conditioned video world models for robots.

The public API, loaded on first use so that importing a small part stays light:
``load_world_model``, ``adapt_backbone``, ``WorldModel``, ``load_embodiment``, ``Embodiment``, ``score`` and the value
types.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "load_world_model": "egowm_core.loading",
    "adapt_backbone": "egowm_core.adapt",
    "WorldModel": "egowm_core.world_model",
    "load_embodiment": "egowm_core.embodiment",
    "Embodiment": "egowm_core.embodiment",
    "score": "egowm_core.scs",
    "Frames": "egowm_core.types",
    "ActionSequence": "egowm_core.types",
    "ActionSource": "egowm_core.types",
    "Rollout": "egowm_core.types",
    "Scores": "egowm_core.types",
    "EgowmError": "egowm_core.errors",
}

__all__ = [
    "ActionSequence",
    "ActionSource",
    "EgowmError",
    "Embodiment",
    "Frames",
    "Rollout",
    "Scores",
    "WorldModel",
    "adapt_backbone",
    "load_embodiment",
    "load_world_model",
    "score",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'egowm_core' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
