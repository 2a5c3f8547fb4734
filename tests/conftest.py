"""What every test runs with.

One thread for each of several workers: OpenMP's threads wait for each other by spinning, and where cores are shared
tests take four times as long. And the Fast DDS profile that the launch files set, if there is room for it: with the
middleware's own lease of 20 s, a machine that stands still for longer (swapping, suspended) would cut some topics of a
graph for ever.
"""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before PyTorch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    from egowm_nodes.launching import fastdds
except ImportError:  # the core's tests run without ROS
    pass
else:
    os.environ.update(fastdds.profile(os.environ)[0])
