"""``python -m egowm_nodes.dashboard``."""

import sys

from egowm_nodes.dashboard.cli import main

sys.exit(main())
