"""Runs that need a camera at a given rate: ``overhead`` (the node's own latency) and ``flood`` (more than it can take).

Knows how to judge what was measured; the nodes are real processes with the embedded model.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

from egowm_nodes.launching import node_table
from egowm_nodes.stress.feed import Feed
from egowm_nodes.stress.figures import MemoryLog, Outcome, percentiles_ms
from egowm_nodes.stress.probe import Probe
from egowm_nodes.stress.system import System, with_parameters
from egowm_nodes.stress.terminal import Progress

WARM_UP_S = 5.0
MOST_GROWTH_PERCENT = 5.0
_SAMPLE_S = 0.5
_SETTLE_S = 3.0


def overhead(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """Camera message in to rollout out, minus the model's own time, at ``--size`` and ``--rate-hz``."""
    outcome = _run(args, directory, progress, command="overhead", nodes=("world_model",), memory=False)
    row = outcome.rows["world_model"]
    outcome.check("every picture that was sent reached the node", row["images_lost"] == 0)
    outcome.check("half of the overheads are below 20 ms", row["overhead_p50_ms"] < 20.0)
    return outcome


def flood(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """Pictures faster than anybody takes them: memory stays, losses are counted, predictions go on."""
    outcome = _run(args, directory, progress, command="flood", nodes=("world_model", "drift_monitor"), memory=True)
    for name in ("world_model", "drift_monitor"):
        growth = outcome.rows[name]["memory_growth_percent"]
        outcome.check(f"memory of {name} stays within {MOST_GROWTH_PERCENT:.0f} %", growth < MOST_GROWTH_PERCENT)
    row = outcome.rows["world_model"]
    outcome.check("predictions go on", row["rollouts_hz"] > 0.5 * row["ticks_hz"])
    outcome.check("pictures sent are either taken or counted as lost", not math.isnan(row["images_lost"]))
    return outcome


def _run(
    args: argparse.Namespace, directory: Path, progress: Progress, *, command: str, nodes: tuple[str, ...], memory: bool
) -> Outcome:
    outcome = Outcome(
        command, {"size": f"{args.width}x{args.height}", "rate_hz": args.rate_hz, "seconds": args.seconds}
    )
    runs = {run.entry.name: run for run in node_table.plan(node_table.BASE, {"checkpoint": args.checkpoint})}
    if not args.hindsight:  # a prediction of the past in the way is the model's time, not the node's
        runs["world_model"] = with_parameters(runs["world_model"], hindsight_every=0)
    log = MemoryLog()
    with System(directory, domain_id=args.domain_id) as system, Probe(domain_id=args.domain_id) as probe:
        for name in nodes:
            system.start(runs[name])
        probe.wait_active(list(nodes))
        camera = Feed(
            probe.node, height=args.height, width=args.width, rate_hz=args.rate_hz, compressed=args.compressed
        )
        with camera:
            probe.until(lambda: probe.rollouts.count >= 3, "the first rollouts")
            progress.wait(WARM_UP_S, "warming up")
            heard, lost, sent = _settled(probe, camera, progress)
            camera.go_on()
            began_s = time.monotonic()
            for _ in progress.steps(max(1, round(args.seconds / _SAMPLE_S)), "streaming"):
                time.sleep(_SAMPLE_S)
                for name in nodes:
                    log.sample(name, system.processes[name].pid, time.monotonic())
            ended_s, ticks_hz = time.monotonic(), probe.figure("world_model: inputs", "ticks_hz")
            heard, lost, sent = (
                now - before for now, before in zip(_settled(probe, camera, progress), (heard, lost, sent), strict=True)
            )
        row = _latencies(probe, camera, began_s, ended_s)
    row |= {"ticks_hz": math.nan if ticks_hz is None else ticks_hz, "images_sent": sent, "images_taken": heard}
    row |= {"images_lost": sent - heard, "images_lost_as_the_node_says": lost}
    if memory:
        row |= log.row("world_model")
        outcome.rows["drift_monitor"] = log.row("drift_monitor")
    outcome.rows["world_model"] = row
    return outcome


def _latencies(probe: Probe, camera: Feed, began_s: float, ended_s: float) -> dict[str, float]:
    """Of the predictions of what is to come; ``total`` is from just before publishing to the rollout's arrival here."""
    total, own, model = [], [], []
    for at_s, stamp_ns, (executed, inference_s) in list(probe.rollouts.arrivals):
        sent_s = camera.sent_s.get(stamp_ns)
        if executed or sent_s is None or not began_s <= at_s <= ended_s:
            continue
        total.append(at_s - sent_s)
        own.append(at_s - sent_s - inference_s)
        model.append(inference_s)
    span_s = ended_s - began_s
    row: dict[str, float] = {"rollouts": len(total), "rollouts_hz": len(total) / span_s}
    return row | percentiles_ms(own, prefix="overhead") | percentiles_ms(model, prefix="model") | percentiles_ms(
        total, prefix="latency"
    )  # fmt: skip


def _settled(probe: Probe, camera: Feed, progress: Progress) -> tuple[float, float, int]:
    """Pictures that the node took, and missed by its own count, and that were sent; with nothing under way."""
    camera.pause()
    progress.wait(_SETTLE_S, "counting")  # the queues run empty, and diagnostics come once a second
    figures = (probe.figure("world_model: process", key) for key in ("images_heard", "images_lost"))
    heard, lost = (math.nan if figure is None else figure for figure in figures)
    return heard, lost, camera.count
