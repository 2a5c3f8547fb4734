"""``python -m training.watch`` is ``egowm-watch``."""

import sys

from training.watch.cli import main

if __name__ == "__main__":
    sys.exit(main())
