"""Recordings into datasets, datasets into checkpoints, checkpoints into figures. A leaf: nobody imports it."""
