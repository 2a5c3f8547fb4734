"""The templates of this package with the style of the conversion report; pages run no script but the one that sorts."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from training.report import words


def environment() -> Environment:
    """Templates, filters and the globals that ``base.html.j2`` of the conversion report expects."""
    loader = ChoiceLoader([PackageLoader("training.score"), PackageLoader("training.report")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("figure", "percent", "counted"):
        found.filters[name] = getattr(words, name)
    style, script = (Markup(loader.get_source(found, name)[0].strip()) for name in ("style.css.j2", "sort.js.j2"))
    policy = (
        "default-src 'none'; img-src 'self' file: data:; media-src 'self' file:; style-src 'unsafe-inline';"
        f" script-src '{script_hash(script)}'"
    )
    found.globals.update(style=style, script=script, policy=policy, DASH=words.DASH)
    return found


def script_hash(script: str) -> str:
    """The source that a content security policy names to allow just this inline script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
