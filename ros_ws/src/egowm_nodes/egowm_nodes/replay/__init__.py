"""The parts of the replay node: what is in a recording, and its messages."""
