"""`python -m training.convert`, as `egowm-convert`."""

import sys

from training.convert.cli import main

sys.exit(main())
