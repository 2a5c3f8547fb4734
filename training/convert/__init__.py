"""Recordings into datasets."""
