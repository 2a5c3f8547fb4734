"""`egowm-bench`: where the time of a rollout goes, how much of it is arithmetic, and what stock diffusers needs.

``cli`` is the command, ``compare`` its rows against the stock pipelines, ``stages`` and ``stock`` what is timed,
``timing`` and ``flops`` how, ``configs`` and ``build`` of what sizes, ``report`` the table and the JSON.
"""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``egowm-bench``; returns the exit status."""
    from egowm_core.bench.cli import main as run

    return run(argv)
