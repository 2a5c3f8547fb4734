"""How much a conversion costs over the work that cannot be avoided: `python -m training.convert.bench BAG...`.

The bare loop reads the same bags by rosbags, decodes and scales the pictures that became frames, and encodes them with
the same codec into one file a bag: no synchronising, no curation, no report, nothing kept safe. Both in one run, each
in processes of their own, so that times compare and peaks of memory are theirs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from egowm_core.data.preprocess import Preprocess
from egowm_core.data.values import ImageValue
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import EgowmError
from egowm_core.files import write_text
from training.convert.options import ConvertOptions
from training.convert.run import convert
from training.dataset.video import VideoWriter
from training.sources.find import find_sources


def bare(inputs: Sequence[Path], out: Path, options: ConvertOptions, every: int) -> int:
    """Read, decode every ``every``-th picture, scale, encode; returns the number of frames written."""
    camera, frames = options.embodiment.camera(), 0
    preprocess = Preprocess.for_camera(camera)
    for source in find_sources(inputs):
        with source.open() as recording:
            topics = [name for name, topic in recording.topics.items() if "image" in name and topic.count]
            path = out / f"{source.name}.mp4"
            video = VideoWriter(
                path,
                rate_hz=options.embodiment.rate_hz,
                height=camera.height,
                width=camera.width,
                codec=options.codec,
            )
            for number, item in enumerate(recording.read(topics[:1])):
                if isinstance(item.value, ImageValue) and number % every == 0:
                    video.add(preprocess(item.value.decode()))
                    frames += 1
            video.close()
    return frames


def _whole(inputs: Sequence[Path], out: Path, options: ConvertOptions, workers: int) -> int:
    result = convert(inputs, out / "dataset", options, workers=workers)
    return int(result["totals"]["frames"])


def measure(work: Callable[[Path], int]) -> dict[str, float]:
    """Seconds, frames a second and peak memory of ``work`` in a process of its own (and its children)."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, work).result()


def _measured(work: Callable[[Path], int]) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="egowm-bench-"))
    try:
        started = time.perf_counter()
        frames = work(folder)
        seconds = time.perf_counter() - started
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    own, children = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "seconds": round(seconds, 3),
        "frames": frames,
        "frames_per_s": round(frames / seconds, 1),
        "peak_mib": round(own, 1),
        "peak_mib_of_largest_child": round(children, 1),
    }


def bench(inputs: Sequence[Path], options: ConvertOptions, every: int, workers: Sequence[int]) -> dict[str, Any]:
    """The rows of the table: bare, and the conversion by numbers of workers; ratios are of frames a second."""
    rows = {"bare": measure(partial(_bare_job, inputs, options, every))}
    for count in workers:
        row = measure(partial(_whole_job, inputs, options, count))
        rows[f"convert, workers {count}"] = {
            **row,
            "times_bare": round(row["frames_per_s"] / rows["bare"]["frames_per_s"], 3),
        }
    return rows


def _bare_job(inputs: Sequence[Path], options: ConvertOptions, every: int, out: Path) -> int:
    return bare(inputs, out, options, every)


def _whole_job(inputs: Sequence[Path], options: ConvertOptions, workers: int, out: Path) -> int:
    return _whole(inputs, out, options, workers)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="training.convert.bench", description="Conversion against bare reading and encoding."
    )
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG")
    parser.add_argument("--embodiment", default="base_3dof")
    parser.add_argument("--every", type=int, default=1, help="the bare loop takes every n-th picture (default 1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    args = parser.parse_args(argv)
    try:
        rows = bench(args.bags, ConvertOptions(embodiment=load_embodiment(args.embodiment)), args.every, args.workers)
    except EgowmError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    for name, row in rows.items():
        print(f"{name:22}" + "  ".join(f"{key} {value:g}" for key, value in row.items()))
    if args.json:
        write_text(args.json, json.dumps({"rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
