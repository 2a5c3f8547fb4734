"""The report: one HTML file with plots, tables and the strip inside and the video beside it, and ``status.json``.

Everything comes from the recorded bag and ``run.json``, so it can be made again without running. Knows files and HTML.
"""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from egowm_core.errors import DataError
from egowm_nodes.demo import figures
from egowm_nodes.demo.session import Session, read_session
from egowm_nodes.demo.strip import write_strip
from egowm_nodes.demo.video import write_video

BAG, RUN, STATUS, REPORT, VIDEO, STRIP = (
    "topics.mcap", "run.json", "status.json", "report.html", "demo.mp4", "strip.png"
)  # fmt: skip
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262c; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: 0.9rem; } td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; }
th { border-bottom: 1px solid #ccc; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
img, video, svg { max-width: 100%; height: auto; } .facts { display: flex; flex-wrap: wrap; gap: 0.6rem 2.2rem; }
.facts b { display: block; font-size: 1.5rem; } .remark { background: #fff6df; padding: 0.3rem 0.7rem; }
"""


def build(out: Path) -> dict[str, Any]:
    """Make video, strip, report and ``status.json`` in ``out`` from its bag; returns the figures.

    What cannot be made for lack of messages is named under ``remarks``. Raises DataError when there is no bag.
    """
    if not (out / BAG).exists():
        raise DataError(f"{out} has no {BAG}; run egowm-demo --out {out} first")
    facts: dict[str, Any] = {}
    if (out / RUN).is_file():
        facts = json.loads((out / RUN).read_text(encoding="utf-8"))
    session = read_session(out / BAG, image_lag_s=float(facts.get("settings", {}).get("image_lag_s", 0.0)))
    found = figures.summarize(session)
    remarks = list(facts.get("remarks", ()))
    made = []
    for name, make in ((VIDEO, write_video), (STRIP, write_strip)):
        try:
            make(session, out / name)
            made.append(name)
        except DataError as error:
            (out / name).unlink(missing_ok=True)
            remarks.append(str(error))
    found = {**found, "run": {**facts, "remarks": remarks}}
    save(out / REPORT, page(session, found, strip=out / STRIP if STRIP in made else None, video=VIDEO in made))
    save(out / STATUS, json.dumps(found, indent=1))
    return found


def save(path: Path, text: str) -> None:
    """Write a text file in one go."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def page(session: Session, found: Mapping[str, Any], *, strip: Path | None, video: bool) -> str:
    """The report's HTML."""
    run = found["run"]
    settings = run.get("settings", {})
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>egowm demo</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>egowm demo: {html.escape(str(settings.get('bag') or 'simulated robot'))}</h1>",
        _facts(found),
        *(f"<p class='remark'>{html.escape(remark)}</p>" for remark in run["remarks"]),
    ]
    if video:
        parts += [
            "<h2>Observed, predicted for that moment, overlay</h2>",
            f"<video src='{VIDEO}' controls muted loop></video><p><a href='{VIDEO}'>{VIDEO}</a>, real time. "
            "The predicted pictures were made one and two seconds before the moment that they show.</p>",
        ]
    if strip is not None:
        data = base64.b64encode(strip.read_bytes()).decode("ascii")
        parts += [
            "<h2>Predicted above observed</h2>",
            f"<img alt='predicted and observed frames' src='data:image/png;base64,{data}'>",
        ]
    parts += [
        "<h2>Structural consistency over time</h2>",
        "<p>SCS per horizon: how well tracked structures agree between predicted and observed pictures, 0 to 100. "
        "Lines: predicted from the actions that the robot then executed (hindsight: what drift is judged by). Crosses: "
        "predicted from planned or held actions. Dashed: what is usual for such motion. The colour behind is the drift "
        "monitor's state. Below: the strongest evidence of a lasting change, which makes the alarm at 1.</p>",
        figures.scs_plot(session),
        _scores(found),
        "<h2>Alarms</h2>",
        _alarms(found["alarms"]),
        "<h2>Time a rollout takes</h2>",
        figures.latency_plot(session),
        _latencies(found),
        "<h2>Drops</h2>",
        _table(("what", "count"), list(found["drops"].items()), numbers=1) if found["drops"] else "<p>none told</p>",
        "<h2>Topics</h2>",
        _table(
            ("topic", "type", "messages", "Hz"),
            [(n, t["type"], t["count"], _number(t["rate_hz"])) for n, t in found["topics"].items()],
            numbers=2,
        ),
        "<h2>Diagnostics at the end</h2>",
        _table(
            ("status", "message", "values"),
            [
                (name, message, ", ".join(f"{k} {v}" for k, v in values.items()))
                for name, (_, message, values) in sorted(session.diagnostics.items())
            ],
        ),
        "<h2>Settings</h2>",
        _table(("setting", "value"), [(key, json.dumps(value)) for key, value in settings.items()]),
        _table(("node", "exit status"), list(run.get("exit_statuses", {}).items()), numbers=1),
        "</body></html>",
    ]
    return "\n".join(parts)


def _facts(found: Mapping[str, Any]) -> str:
    scs = found["rows"]["model"]["scs"]
    latency, inference = found["camera_to_rollout_s"], found["inference_s"]
    shown = [
        ("rollouts", found["rollouts"]),
        ("rollouts a second", _number(found["rollout_rate_hz"])),
        ("camera to rollout, median", f"{latency['p50']:.2f} s" if latency else "-"),
        ("inference, median", f"{inference['p50']:.2f} s" if inference else "-"),
        *((f"mean SCS, frame {horizon}", _number(value, 1)) for horizon, value in scs.items()),
        ("recorded", f"{found['duration_s']:.0f} s"),
    ]
    return "<div class='facts'>" + "".join(f"<div><b>{value}</b>{label}</div>" for label, value in shown) + "</div>"


def _scores(found: Mapping[str, Any]) -> str:
    names = {"model": "executed", "model_planned": "planned or held"}
    lines = [
        (actions, h, _number(row["scs"][h], 1), _number(row["psnr"].get(h), 1))
        for row, actions in ((found["rows"][name], actions) for name, actions in names.items())
        for h in row["scs"]
    ]
    states = ", ".join(f"{state} {count}" for state, count in found["drift_states"].items())
    return (
        _table(("actions", "frame", "mean SCS", "mean PSNR [dB]"), lines, numbers=1)
        + f"<p>States: {states or 'none'}.</p>"
    )


def _alarms(alarms: Sequence[Mapping[str, Any]]) -> str:
    if not alarms:
        return "<p>none</p>"
    lines = [
        (
            f"{alarm['start_s']:.1f} to {alarm['end_s']:.1f}",
            alarm["state"],
            alarm["cause"],
            _number(alarm["alarm"]),
            ", ".join(alarm["channels"]) or "-",
            alarm["reason"],
        )
        for alarm in alarms
    ]
    return _table(("time [s]", "state", "cause", "strength", "evidence", "reason"), lines)


def _latencies(found: Mapping[str, Any]) -> str:
    lines = [
        (label, *(f"{found[key][p]:.3f}" for p in ("p50", "p90", "p99")), found[key]["count"])
        for label, key in (("camera message to published rollout", "camera_to_rollout_s"), ("inference", "inference_s"))
        if found[key]
    ]
    return _table(("[s]", "median", "p90", "p99", "count"), lines, numbers=1)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: int = 99) -> str:
    """``numbers`` is the first column that is right-aligned."""

    def cells(tag: str, values: Sequence[Any]) -> str:
        return "".join(
            f"<{tag}{' class=n' if i >= numbers else ''}>{html.escape(str(value))}</{tag}>"
            for i, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', head)}</tr>{body}</table>"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
