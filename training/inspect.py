"""egowm-inspect: what is in this recording, dataset, episode or checkpoint. Looks only; writes nothing but ``--json``.

Reads plain files: it loads no weights, so a checkpoint can be looked at without the model code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from egowm_core.checkpoint import FILES, HASHES, recorded_hashes, sha256_of
from egowm_core.data.bag import Bag, find_recordings
from egowm_core.data.episode import Episode, list_episodes
from egowm_core.data.normalize import NormStats
from egowm_core.data.values import IMAGE_TYPES, ImageValue, Topic
from egowm_core.errors import CheckpointError, DataError, EgowmError
from egowm_core.files import write_text


def inspect_path(path: str | Path) -> dict[str, Any]:
    """What ``path`` is and holds, as plain data with a ``kind``. Raises DataError when it is unknown."""
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root} does not exist; give a recording, a dataset, an episode or a checkpoint directory")
    if (root / "episode.json").is_file():
        return inspect_episode(root)
    if (root / "dataset.json").is_file() or any(root.glob("episode_*/episode.json")):
        return inspect_dataset(root)
    if any((root / name).is_file() for name in FILES[:2]):
        return inspect_checkpoint(root)
    recordings = find_recordings(root)
    if recordings == [root]:
        return inspect_bag(root)
    return {"kind": "recordings", "path": str(root), "recordings": [_inspect_or_error(p) for p in recordings]}


def inspect_bag(path: Path) -> dict[str, Any]:
    """Topics with type, count, mean rate and, for images, size; and the duration. Raises DataError."""
    with Bag(path) as bag:
        duration_s = bag.duration_s
        topics = [
            {
                "topic": topic.name,
                "type": topic.type,
                "count": topic.count,
                "rate_hz": round((topic.count - 1) / duration_s, 3) if duration_s > 0 and topic.count > 1 else None,
                **_image_size(bag, topic),
            }
            for topic in bag.topics.values()
        ]
    return {"kind": "recording", "path": str(path), "duration_s": round(duration_s, 3), "topics": topics}


def inspect_dataset(path: Path) -> dict[str, Any]:
    """Totals, recordings and action statistics of a dataset. Raises DataError."""
    episodes = [Episode(p) for p in list_episodes(path)]
    channels = episodes[0].info.channels
    actions = np.concatenate([episode.actions for episode in episodes])
    stats = NormStats.from_actions(actions, channels)
    return {
        "kind": "dataset",
        "path": str(path),
        "embodiment": episodes[0].info.embodiment,
        "rate_hz": episodes[0].info.rate_hz,
        "episodes": len(episodes),
        "frames": sum(len(episode) for episode in episodes),
        "duration_s": round(sum(_duration_s(episode) for episode in episodes), 3),
        "frame_size": list(episodes[0].frames.shape[1:3]),
        "with_truth": sum(episode.info.has_truth for episode in episodes),
        "recordings": sorted({episode.info.recording for episode in episodes}),
        "actions": json.loads(stats.to_json())["channels"],
    }


def inspect_episode(path: Path) -> dict[str, Any]:
    """One episode's facts and action statistics. Raises DataError."""
    episode = Episode(path)
    info = episode.info
    return {
        "kind": "episode",
        "path": str(path),
        "embodiment": info.embodiment,
        "rate_hz": info.rate_hz,
        "recording": info.recording,
        "frames": len(episode),
        "duration_s": round(_duration_s(episode), 3),
        "frame_size": list(episode.frames.shape[1:3]),
        "with_truth": int(info.has_truth),
        "structures": {key: value.get("name", "") for key, value in (episode.structures or {}).items()},
        "actions": json.loads(NormStats.from_actions(episode.actions, info.channels).to_json())["channels"],
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


def _inspect_or_error(path: Path) -> dict[str, Any]:
    try:
        return inspect_bag(path)
    except DataError as error:
        return {"kind": "recording", "path": str(path), "error": str(error)}


def _image_size(bag: Bag, topic: Topic) -> dict[str, Any]:
    if topic.type not in IMAGE_TYPES or not topic.count:
        return {}
    for item in bag.read([topic.name]):
        if isinstance(item.value, ImageValue):
            message = item.value.message
            encoding = str(getattr(message, "format", "") or getattr(message, "encoding", ""))
            try:
                height, width = item.value.decode().shape[:2]
            except DataError:
                return {"encoding": encoding}
            return {"height": height, "width": width, "encoding": encoding}
    return {}


def _duration_s(episode: Episode) -> float:
    return float(episode.stamps_ns[-1] - episode.stamps_ns[0]) * 1e-9


def render(facts: dict[str, Any], *, indent: str = "") -> str:
    """The facts as text for people."""
    lines = [f"{indent}{facts['kind']} {facts['path']}"]
    pad = indent + "  "
    for key, value in facts.items():
        if key in ("kind", "path"):
            continue
        if key == "recordings" and value and isinstance(value[0], dict):
            lines += [render(item, indent=pad) for item in value]
        elif key == "topics":
            lines += [f"{pad}{_topic_line(topic)}" for topic in value]
        elif key == "actions":
            lines.append(f"{pad}actions per tick:")
            lines += [
                f"{pad}  {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in stats.items())
                for name, stats in value.items()
            ]
        elif key == "files":
            lines += [f"{pad}{name}: {file['state']} ({file.get('bytes', 0)} bytes)" for name, file in value.items()]
        elif isinstance(value, dict):
            lines.append(f"{pad}{key}:")
            lines += [f"{pad}  {name}: {item}" for name, item in value.items()]
        elif isinstance(value, list):
            lines.append(
                f"{pad}{key}: {', '.join(str(item) for item in value[:20])}{', ...' if len(value) > 20 else ''}"
            )
        else:
            lines.append(f"{pad}{key}: {value}")
    return "\n".join(lines)


def _topic_line(topic: dict[str, Any]) -> str:
    rate = "" if topic["rate_hz"] is None else f", {topic['rate_hz']:g} Hz"
    size = f", {topic['width']}x{topic['height']} {topic['encoding']}" if "width" in topic else ""
    return f"{topic['topic']}  {topic['type']}  {topic['count']} messages{rate}{size}"


def _healthy(facts: dict[str, Any]) -> bool:
    bad_files = any(file["state"] in ("missing", "ALTERED") for file in facts.get("files", {}).values())
    bad_bags = any(isinstance(item, dict) and "error" in item for item in facts.get("recordings", ()))
    return not (bad_files or bad_bags)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 when all is well, 1 when something is missing, altered or unreadable, 2 for an unknown path."""
    parser = argparse.ArgumentParser(
        prog="egowm-inspect", description="What is in this recording, dataset, episode or checkpoint."
    )
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts here, too")
    args = parser.parse_args(argv)
    try:
        facts = inspect_path(args.path)
        print(render(facts))
        if args.json is not None:
            write_text(args.json, json.dumps(facts, indent=1, default=str))
    except EgowmError as error:
        print(f"egowm-inspect: {error}", file=sys.stderr)
        return 2
    return 0 if _healthy(facts) else 1


if __name__ == "__main__":
    sys.exit(main())
