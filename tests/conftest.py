"""Every test runs with the Fast DDS profile that the launch files set, if there is room for it.

With the middleware's own lease of 20 s, a machine that stands still for longer (swapping, suspended) would cut some
topics of a graph for ever.
"""

from __future__ import annotations

import os

try:
    from egowm_nodes.launching import fastdds
except ImportError:  # the core's tests run without ROS
    pass
else:
    os.environ.update(fastdds.profile(os.environ)[0])
