"""What of a recording is worth training on, and why the rest is not."""
