"""``python -m egowm_nodes.stress``."""

import sys

from egowm_nodes.stress.cli import main

if __name__ == "__main__":
    sys.exit(main())
