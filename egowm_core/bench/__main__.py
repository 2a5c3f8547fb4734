"""`python -m egowm_core.bench`."""

import sys

from egowm_core.bench import main

sys.exit(main())
