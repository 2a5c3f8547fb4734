"""``python -m egowm_nodes.demo``."""

import sys

from egowm_nodes.demo.cli import main

sys.exit(main())
