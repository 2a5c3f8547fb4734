"""Where recordings come from: bags, and other datasets read as if they were recordings."""
