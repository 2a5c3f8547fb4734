"""Datasets on disk: LeRobot v3.0 (parquet, mp4, JSON), with what egowm adds beside it."""
