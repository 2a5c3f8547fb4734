"""``egowm-dashboard``: what the nodes say of themselves, on a terminal, as JSON, or as a picture for RViz."""
