"""Draws what an operator sees from the topics of a running suite, laid out as the RViz configuration has it.

    egowm-dashboard --image & python docs/operators/draw_panels.py OUT.png [--wait S] [--title TEXT]

Hears the topics that ``base.rviz`` shows until all of them spoke within ``--fresh`` seconds (and the state is the one
asked for), and the path's frame as the odometry has it. It draws with matplotlib what came, and says so in the picture:
this is no window of RViz.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import rclpy
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from visualization_msgs.msg import Marker, MarkerArray

from egowm_core.data.images import decode_image
from egowm_core.data.messages import odometry_pose
from egowm_core.geometry import se2_compose

PICTURES = {  # panel: topic, row, columns
    "Camera": ("image/compressed", 0, slice(3, 5)),
    "Predicted now": ("world_model/predicted/now/image_raw", 0, slice(5, 7)),
    "Predicted +1 s": ("world_model/predicted/plus_1s/image_raw", 1, slice(3, 5)),
    "Predicted +2 s": ("world_model/predicted/plus_2s/image_raw", 1, slice(5, 7)),
    "Drift overlay": ("drift_monitor/overlay", 2, slice(3, 5)),
    "Drift history": ("drift_monitor/history", 2, slice(5, 7)),
    "Dashboard": ("dashboard/image", 2, slice(0, 3)),
    "Predicted strip": ("world_model/predicted/strip", 3, slice(0, 7)),
}
PAPER, INK = "#2b2b2e", "#e8e8e8"
AROUND_M = 0.9


class Ears(Node):
    """Keeps the newest message of every panel, and where the robot was."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("draws_panels", context=context)
        self.newest: dict[str, Any] = {}
        self.heard_s: dict[str, float] = {}
        self.markers: dict[str, Marker] = {}
        self.poses: dict[int, Any] = {}  # stamp: x, y, yaw
        for panel, (topic, _, _) in PICTURES.items():
            kind = CompressedImage if topic.endswith("compressed") else Image
            self.create_subscription(kind, topic, partial(self._keep, panel), qos_profile_sensor_data)
        self.create_subscription(MarkerArray, "drift_monitor/markers", self._on_markers, 10)
        self.create_subscription(Odometry, "odom", self._on_odometry, qos_profile_sensor_data)

    def late(self, state: str, fresh_s: float) -> list[str]:
        """What keeps the picture from being drawn: panels that did not speak of late, or another state."""
        limit_s = time.monotonic() - fresh_s
        found = [name for name in (*PICTURES, "path", "state", "odom") if self.heard_s.get(name, 0.0) < limit_s]
        if not found and not self.markers["state"].text.startswith(state):
            found.append(f"state {state}")
        return found

    def _keep(self, name: str, message: Any) -> None:
        self.newest[name] = message
        self.heard_s[name] = time.monotonic()

    def _on_markers(self, message: MarkerArray) -> None:
        self.heard_s |= {marker.ns: time.monotonic() for marker in message.markers}
        self.markers |= {marker.ns: marker for marker in message.markers}

    def _on_odometry(self, message: Odometry) -> None:
        self.heard_s["odom"] = time.monotonic()
        self.poses[stamp_ns(message)] = odometry_pose(message)
        if len(self.poses) > 2000:
            del self.poses[next(iter(self.poses))]


def stamp_ns(message: Any) -> int:
    """The header's stamp."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def draw_path(axes: Axes, ears: Ears) -> None:
    """The odometry's trail and the path of the markers from above, in the odometry's frame: x up, y left."""
    trail = np.array(list(ears.poses.values()))
    line, text = ears.markers["path"], ears.markers["state"]
    origin = np.asarray(ears.poses[min(ears.poses, key=lambda at: abs(at - stamp_ns(line)))])
    local = np.array([[point.x, point.y, 0.0] for point in line.points])
    path = se2_compose(np.broadcast_to(origin, local.shape), local)
    axes.plot(-trail[:, 1], trail[:, 0], color="#8888a0", linewidth=1, label="odom")
    corners = np.column_stack([-path[:, 1], path[:, 0]])
    colors = [(c.r, c.g, c.b) for c in line.colors]
    axes.add_collection(LineCollection(np.stack([corners[:-1], corners[1:]], axis=1), colors=colors[1:], linewidths=4))
    axes.scatter(corners[1:, 0], corners[1:, 1], c=colors[1:], s=36, zorder=3)
    axes.scatter(*corners[0], marker="s", color=INK, s=60, zorder=4)
    shade = (text.color.r, text.color.g, text.color.b)
    said = "\n".join(fill(line, 44) for line in text.text.splitlines())
    axes.text(0.5, 0.97, said, color=shade, transform=axes.transAxes, va="top", ha="center", wrap=True, fontsize=11)
    axes.set(xlim=corners[0, 0] + np.array([-AROUND_M, AROUND_M]), ylim=corners[0, 1] + np.array([-AROUND_M, AROUND_M]))
    axes.set_aspect("equal")
    axes.grid(color="#50505a", linewidth=0.5)
    axes.tick_params(colors=INK, labelsize=7)


def draw(ears: Ears, title: str) -> Any:
    """The whole figure."""
    figure = plt.figure(figsize=(15, 11.5), facecolor=PAPER)
    grid = figure.add_gridspec(4, 7, height_ratios=(1, 1, 1, 0.75), hspace=0.22, wspace=0.08)
    for panel, (_, row, columns) in PICTURES.items():
        axes = figure.add_subplot(grid[row, columns])
        axes.imshow(decode_image(ears.newest[panel]))
        axes.set_title(panel, color=INK, fontsize=11)
        axes.set_axis_off()
    axes = figure.add_subplot(grid[0:2, 0:3], facecolor="#303030")
    draw_path(axes, ears)
    axes.set_title("Path and drift, from above, in odom [m]", color=INK, fontsize=11)
    figure.suptitle(title, color=INK, fontsize=14, y=0.935)
    figure.text(0.5, 0.075, "Composed from the recorded topics; not a screenshot of RViz", color="#a0a0a8", ha="center")
    return figure


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--wait", type=float, default=30.0, metavar="S", help="for every topic (default: %(default)g s)"
    )
    parser.add_argument("--listen", type=float, default=8.0, metavar="S", help="at least (default: %(default)g s)")
    parser.add_argument("--fresh", type=float, default=1.5, metavar="S", help="how old a panel may be")
    parser.add_argument("--state", default="", help="draw when the drift monitor says so, e.g. OK or ERROR")
    parser.add_argument("--title", default="egowm")
    args = parser.parse_args()
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    ears, executor = Ears(context), SingleThreadedExecutor(context=context)
    executor.add_node(ears)
    began_s = time.monotonic()
    while (spent_s := time.monotonic() - began_s) < args.listen or (
        ears.late(args.state, args.fresh) and spent_s < args.wait
    ):
        executor.spin_once(timeout_sec=0.2)
    if late := ears.late(args.state, args.fresh):
        sys.stderr.write(f"not heard within {args.wait:g} s: {', '.join(late)}; is all running?\n")
        return 1
    draw(ears, args.title).savefig(args.out, dpi=70, bbox_inches="tight", facecolor=PAPER)
    context.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
