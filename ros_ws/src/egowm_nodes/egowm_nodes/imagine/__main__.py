"""``python -m egowm_nodes.imagine`` is ``egowm-imagine``."""

import sys

from egowm_nodes.imagine.cli import main

sys.exit(main())
