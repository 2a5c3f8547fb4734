"""`egowm-bench`: where the time of a rollout goes, how much of it is arithmetic, and what stock diffusers needs.

``cli`` is the command, ``compare`` its rows against the stock pipelines, ``stages`` and ``stock`` what is timed,
``timing`` and ``flops`` how, ``configs`` and ``build`` of what sizes, ``report`` the table and the JSON. ``deadline``
(`egowm-bench deadline`) is another question: are budgets kept under the competition of ``load``? ``gpu`` (`egowm-bench
gpu`) asks all that is asked of a GPU, ``long_runs`` included, and ``gpu_page`` writes it down.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``egowm-bench``; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["deadline"]:
        from egowm_core.bench.deadline import main as run_deadline

        return run_deadline(arguments[1:])
    if arguments[:1] == ["gpu"]:
        from egowm_core.bench.gpu import main as run_gpu

        return run_gpu(arguments[1:])
    from egowm_core.bench.cli import main as run

    return run(arguments)
