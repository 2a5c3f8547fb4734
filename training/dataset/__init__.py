"""Datasets on disk: the LeRobot v3.0 layout and what egowm keeps beside it."""
