"""``python -m training.score`` is ``egowm-score``."""

import sys

from training.score.cli import main

if __name__ == "__main__":
    sys.exit(main())
