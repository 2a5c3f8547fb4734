"""``python -m egowm_sim.policy_eval``."""

import sys

from egowm_sim.policy_eval.cli import main

if __name__ == "__main__":
    sys.exit(main())
