"""`egowm-watch`: the drift monitor over recordings, offline, and baselines learned from them."""
