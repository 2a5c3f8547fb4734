"""Policies judged inside a world model, beside the simulator's own verdict on the very same tasks."""
