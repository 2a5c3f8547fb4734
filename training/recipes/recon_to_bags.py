"""RECON's HDF5 files into bags: ``python -m training.recipes.recon_to_bags recon_release bags/recon``.

Untried on the data itself: the fields are those that the ViNT code reads (``jackal/position``, ``jackal/yaw``,
``images/rgb_left``). The files are not known to hold stamps, so frames get nominal ones. Needs h5py (pip install h5py).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egowm_core.errors import ConfigError, DataError, EgowmError
from training.recipes.bags import START_NS, new_bag

IMAGE, ODOM = "/image/compressed", "/odom"


def write_trajectory(trajectory: Any, path: Path, *, rate_hz: float) -> int:
    """One trajectory (an open HDF5 file, or mappings of arrays in its likeness) into a bag; returns the frames written.

    Raises DataError where fields are missing, of unlike length or not finite.
    """
    try:
        position = np.asarray(trajectory["jackal"]["position"], np.float64)
        yaw = np.asarray(trajectory["jackal"]["yaw"], np.float64).reshape(-1)
        images = trajectory["images"]["rgb_left"]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path.name}: {error}; expected jackal/position, jackal/yaw and images/rgb_left as in RECON's release"
        ) from error
    count = len(images)
    if position.ndim != 2 or position.shape[1] < 2 or not count == len(position) == len(yaw):
        raise DataError(
            f"{path.name}: {count} images, positions of shape {position.shape} and {len(yaw)} headings;"
            f" expected as many of each"
        )
    if not (np.isfinite(position[:, :2]).all() and np.isfinite(yaw).all()):
        raise DataError(f"{path.name}: a position or heading is not finite; leave this file out")
    with new_bag(path) as bag:
        for i in range(count):
            stamp_ns = START_NS + round(i * 1e9 / rate_hz)
            bag.odometry(ODOM, stamp_ns, position[i, 0], position[i, 1], yaw[i])
            bag.jpeg(IMAGE, stamp_ns, np.asarray(images[i]).tobytes())
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 when all went well, 1 when a file failed, 2 when the command makes no sense."""
    parser = argparse.ArgumentParser(prog="recon_to_bags", description="RECON's HDF5 files into bags. Untried.")
    parser.add_argument("release", type=Path, help="folder of .hdf5 files")
    parser.add_argument("out", type=Path, help="folder for the bags; those that are there are skipped")
    parser.add_argument("--rate-hz", type=float, default=4.0, help="nominal rate of the frames (default 4)")
    args = parser.parse_args(argv)
    failed = 0
    try:
        if not args.rate_hz > 0:
            raise ConfigError(f"--rate-hz {args.rate_hz} must be a positive number")
        sources = sorted(args.release.glob("*.hdf5"))
        if not sources:
            raise ConfigError(f"{args.release} holds no .hdf5 files; give the unpacked recon_release folder")
        h5py = _h5py()
        for source in sources:
            if (args.out / source.stem).exists():
                continue
            try:
                with h5py.File(source, "r") as trajectory:
                    count = write_trajectory(trajectory, args.out / source.stem, rate_hz=args.rate_hz)
                print(f"{source.stem}: {count} frames")
            except (DataError, OSError) as error:
                failed += 1
                print(f"FAILED {source.name}: {error}", file=sys.stderr)
    except EgowmError as error:
        print(f"recon_to_bags: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise ConfigError("h5py reads RECON's files and is not installed; pip install h5py") from error


if __name__ == "__main__":
    sys.exit(main())
