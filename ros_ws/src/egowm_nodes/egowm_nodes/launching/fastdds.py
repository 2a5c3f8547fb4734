"""Which Fast DDS profile the nodes get: with shared memory enough for camera pictures, where there is room for it.

Knows the environment and /dev/shm; knows no node, no launch and no rclpy. Sets nothing itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from egowm_nodes.launching.node_table import FASTDDS_PROFILE, FASTDDS_SMALL_PROFILE

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
QUEUES_VARIABLE = "RMW_FASTRTPS_USE_QOS_FROM_XML"  # without it rmw_fastrtps overrules how queues keep their memory
SHARED_MEMORY = Path("/dev/shm")
NEEDED = 256 << 20  # bytes: a 20 MB segment for each of a handful of participants, with room


def profile(environment: Mapping[str, str], *, shared_memory: Path = SHARED_MEMORY) -> tuple[dict[str, str], str]:
    """The variables to set for the nodes, and a remark where something is to be said ("" else).

    A profile that ``environment`` names already stays. Too little shared memory (containers often have 64 MB) would
    make every participant fail to start its transport, so the segments keep their usual size there.
    """
    if environment.get(PROFILE_VARIABLE):
        return {}, f"{PROFILE_VARIABLE} is set: {environment[PROFILE_VARIABLE]} is used"
    free = shutil.disk_usage(shared_memory).free if shared_memory.is_dir() else 0
    if free < NEEDED:
        return {PROFILE_VARIABLE: str(FASTDDS_SMALL_PROFILE), QUEUES_VARIABLE: "1"}, (
            f"{shared_memory} has {free >> 20} MB free, Fast DDS wants {NEEDED >> 20} for large pictures: some may get "
            "lost; in a container give --shm-size=512m"
        )
    return {PROFILE_VARIABLE: str(FASTDDS_PROFILE), QUEUES_VARIABLE: "1"}, ""
