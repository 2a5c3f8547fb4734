"""egowm-inspect: what is in this recording, folder of recordings, dataset or checkpoint; proposes embodiments, too.

Looks only: it writes nothing but ``--json`` and ``--propose``, and loads no weights, so a checkpoint can be looked at
without the model code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from egowm_core.checkpoint import FILES, HASHES, recorded_hashes, sha256_of
from egowm_core.data.values import IMAGE_TYPES, ImageValue, Recording, Topic
from egowm_core.errors import CheckpointError, ConfigError, DataError, EgowmError
from egowm_core.files import write_text
from training.dataset.layout import SETTINGS, truth_path
from training.dataset.reader import Dataset
from training.sources.find import Source, find_sources
from training.sources.propose import Proposal, propose_embodiment

_MAX_PICTURES = 8  # that are tried until one can be decoded
_LISTED = 20  # items of a list on the terminal; all are in the JSON
_LAG = ("seconds", "frames", "convincing", "corrected_s", "correlation_before", "correlation_after")


def inspect_path(path: str | Path) -> dict[str, Any]:
    """What ``path`` is and holds, as plain data with a ``kind``. Raises DataError when it is unknown."""
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root} does not exist; give a recording, a dataset or a checkpoint directory")
    if (root / SETTINGS).is_file() or (root / "dataset.json").is_file():
        return inspect_dataset(root)
    if any((root / name).is_file() for name in FILES[:2]):
        return inspect_checkpoint(root)
    sources = find_sources([root])
    if len(sources) == 1 and sources[0].path.resolve() == root.resolve():
        return inspect_recording(sources[0], root)
    return {"kind": "recordings", "path": str(root), "recordings": [_inspect_or_error(source) for source in sources]}


def inspect_recording(source: Source, path: Path | None = None) -> dict[str, Any]:
    """Topics with type, count, mean rate and, for images, size; duration, damage and notes. Raises DataError."""
    with source.open() as recording:
        duration_s = recording.duration_s
        topics = [_topic_facts(recording, topic, duration_s) for topic in recording.topics.values()]
        facts = {
            "kind": "recording",
            "path": str(path or source.path),
            "name": source.name,
            "duration_s": round(duration_s, 3),
            "topics": topics,
        }
        told = {"task": recording.task, "damage": list(recording.damage), "notes": list(recording.notes)}
    return {**facts, **{key: value for key, value in told.items() if value}}


def inspect_dataset(path: Path) -> dict[str, Any]:
    """Totals, recordings with their lag, and action statistics of a dataset; ``damage`` is what a check of all files
    found. Raises DataError when it cannot be opened.
    """
    dataset = Dataset(path)
    episodes, camera = dataset.episodes, dataset.embodiment.camera()
    damage: list[str] = []
    try:
        dataset.check()
        actions = {name: asdict(stats) for name, stats in dataset.norm_stats.channels.items()}
    except DataError as error:
        damage, actions = [str(error)], {}
    return {
        "kind": "dataset",
        "path": str(path),
        "embodiment": dataset.embodiment.name,
        "rate_hz": dataset.rate_hz,
        "recordings": [_entry_facts(entry) for entry in dataset.entries],
        "episodes": len(episodes),
        "frames": dataset.num_frames,
        "duration_s": round(sum(len(episode) - 1 for episode in episodes) / dataset.rate_hz, 3),
        "frame_size": [camera.height, camera.width],
        "with_truth": sum((path / truth_path(episode.index, ".npz")).is_file() for episode in episodes),
        "tasks": sorted({episode.task for episode in episodes if episode.task}),
        "actions": actions,
        **({"damage": damage} if damage else {}),
    }


def inspect_checkpoint(path: Path) -> dict[str, Any]:
    """Config keys, sizes and whether each file matches its recorded sha256. Raises CheckpointError."""
    config: Any = {}
    if (path / "config.yaml").is_file():
        try:
            config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise CheckpointError(f"cannot read {path}/config.yaml: {error}; restore the checkpoint") from error
    expected = recorded_hashes(path) if (path / HASHES).is_file() else {}
    files: dict[str, dict[str, Any]] = {}
    for name in sorted({*FILES, *expected}):
        file = path / name
        if not file.is_file():
            files[name] = {"state": "missing"}
            continue
        state = "no sum recorded"
        if name in expected:
            state = "ok" if sha256_of(file) == expected[name] else "ALTERED"
        files[name] = {"state": state, "bytes": file.stat().st_size}
    return {"kind": "checkpoint", "path": str(path), "config": config, "files": files}


def is_healthy(facts: Mapping[str, Any]) -> bool:
    """Whether nothing in the facts of ``inspect_path`` is missing, altered or unreadable."""
    if facts.get("damage") or facts.get("error"):
        return False
    if any(file["state"] in ("missing", "ALTERED") for file in facts.get("files", {}).values()):
        return False
    return all(is_healthy(item) for item in facts.get("recordings", ()))


def propose(path: str | Path, *, name: str | None = None) -> Proposal:
    """An embodiment for the recording at ``path``, or for the longest one in a folder. Raises DataError."""
    root = Path(path)
    if (root / SETTINGS).is_file():
        raise DataError(f"{root} is a converted dataset: it has its embodiment.yaml; propose one from a recording")
    durations: dict[Source, float] = {}
    errors: list[str] = []
    for source in find_sources([root]):
        try:
            with source.open() as recording:
                durations[source] = recording.duration_s
        except DataError as error:
            errors.append(str(error))
    if not durations:
        raise DataError(errors[0])
    with max(durations, key=lambda source: durations[source]).open() as recording:
        return propose_embodiment(recording, name=name)


# ---- facts ----------------------------------------------------------------------------------------------------------


def _inspect_or_error(source: Source) -> dict[str, Any]:
    try:
        return inspect_recording(source)
    except DataError as error:
        return {"kind": "recording", "path": str(source.path), "name": source.name, "error": str(error)}


def _topic_facts(recording: Recording, topic: Topic, duration_s: float) -> dict[str, Any]:
    rate = round((topic.count - 1) / duration_s, 3) if duration_s > 0 and topic.count > 1 else None
    facts: dict[str, Any] = {"topic": topic.name, "type": topic.type, "count": topic.count, "rate_hz": rate}
    if topic.custom:
        facts["custom"] = topic.custom
    return {**facts, **_picture_facts(recording, topic)}


def _picture_facts(recording: Recording, topic: Topic) -> dict[str, Any]:
    """Size and encoding of the first picture that can be decoded, ``undecodable`` where none of the first ones can."""
    if topic.type not in IMAGE_TYPES or not topic.count:
        return {}
    found: dict[str, Any] = {}
    try:
        for number, item in enumerate(recording.read([topic.name])):
            if number >= _MAX_PICTURES:
                break
            if not isinstance(item.value, ImageValue):
                continue
            message = item.value.message
            found["encoding"] = str(getattr(message, "format", "") or getattr(message, "encoding", ""))
            try:
                height, width = item.value.decode().shape[:2]
            except DataError as error:
                found["undecodable"] = str(error)
                continue
            return {"height": height, "width": width, "encoding": found["encoding"]}
    except DataError as error:
        found["undecodable"] = str(error)
    return found


def _entry_facts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset keeps of a recording, the most telling of it."""
    facts: dict[str, Any] = {"kind": "recording", "path": entry["recording"], "episodes": entry["episodes"]}
    for key in ("kept", "task", "image_topic", "motion_topic", "warnings"):
        if entry.get(key):
            facts[key] = entry[key]
    lag = entry.get("lag")
    if isinstance(lag, Mapping):
        facts["lag"] = {key: lag[key] for key in _LAG if key in lag}
    return facts


# ---- text -----------------------------------------------------------------------------------------------------------


def render(facts: Mapping[str, Any], *, indent: str = "") -> str:
    """The facts as text for people."""
    pad = indent + "  "
    lines = [f"{indent}{facts['kind']} {facts['path']}"]
    for key, value in facts.items():
        if key not in ("kind", "path"):
            lines += _render_item(key, value, pad)
    return "\n".join(lines)


def _render_item(key: str, value: Any, pad: str) -> Iterator[str]:
    if key == "recordings":
        yield from (render(item, indent=pad) for item in value)
    elif key == "topics":
        yield from (f"{pad}{_topic_line(topic)}" for topic in value)
    elif key in ("damage", "notes", "warnings"):
        yield from (f"{pad}{key.removesuffix('s')}: {line}" for line in value)
    elif key == "lag":
        yield f"{pad}lag: {_lag_line(value)}"
    elif key == "actions":
        yield f"{pad}actions per tick:"
        for name, stats in value.items():
            yield f"{pad}  {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in stats.items())
    elif key == "files":
        yield from (f"{pad}{name}: {file['state']} ({file.get('bytes', 0)} bytes)" for name, file in value.items())
    elif isinstance(value, Mapping):
        yield f"{pad}{key}:"
        yield from (f"{pad}  {name}: {item}" for name, item in value.items())
    elif isinstance(value, list):
        more = f", and {len(value) - _LISTED} more" if len(value) > _LISTED else ""
        yield f"{pad}{key}: {', '.join(str(item) for item in value[:_LISTED])}{more}"
    else:
        yield f"{pad}{key}: {value}"


def _topic_line(topic: Mapping[str, Any]) -> str:
    rate = "" if topic["rate_hz"] is None else f", {topic['rate_hz']:g} Hz"
    size = f", {topic['width']}x{topic['height']} {topic['encoding']}" if "width" in topic else ""
    trouble = f", NOT DECODABLE: {topic['undecodable']}" if "undecodable" in topic else ""
    kind = f"{topic['custom']} (as {topic['type']})" if "custom" in topic else topic["type"]
    return f"{topic['topic']}  {kind}  {topic['count']} messages{rate}{size}{trouble}"


def _lag_line(lag: Mapping[str, Any]) -> str:
    found = f"{lag.get('frames')} frames ({lag.get('seconds')} s), "
    found += "convincing" if lag.get("convincing") else "not convincing"
    if lag.get("corrected_s"):
        found += f", corrected by {lag['corrected_s']:g} s"
    return f"{found}; correlation {lag.get('correlation_before')} as recorded, {lag.get('correlation_after')} corrected"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 when all is well, 1 when something is missing, altered or unreadable, 2 for an unknown path."""
    parser = argparse.ArgumentParser(
        prog="egowm-inspect", description="What is in this recording, folder of recordings, dataset or checkpoint."
    )
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts here, too")
    parser.add_argument(
        "--propose", type=Path, metavar="OUT.yaml", help="write an embodiment fitted to the recording (the longest one)"
    )
    args = parser.parse_args(argv)
    try:
        facts = inspect_path(args.path)
        print(render(facts))
        if args.propose is not None:
            facts["proposed"] = _write_proposal(args.path, args.propose)
        if args.json is not None:
            write_text(args.json, json.dumps(facts, indent=1, default=str))
    except (EgowmError, OSError) as error:
        print(f"egowm-inspect: {error}", file=sys.stderr)
        return 2
    return 0 if is_healthy(facts) else 1


def _write_proposal(path: str, out: Path) -> dict[str, Any]:
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--propose {out} must end in .yaml, as embodiments do; give another name")
    if out.exists():
        raise ConfigError(f"--propose {out} exists and may have been mended by hand; give another name, or remove it")
    proposal = propose(path, name=out.stem)
    write_text(out, proposal.to_yaml())
    print("\n".join([f"proposed {out}:", *(f"  {note}" for note in proposal.notes)]))
    return {"path": str(out), "notes": list(proposal.notes), "ticks": proposal.ticks, "outside": proposal.outside}


if __name__ == "__main__":
    sys.exit(main())
