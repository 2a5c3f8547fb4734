"""``egowm-demo``: the whole chain with one command, and what it leaves to look at."""
