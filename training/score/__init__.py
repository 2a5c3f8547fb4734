"""Scoring videos: read them, pair them, measure them, and show what came out. Knows no model and no training."""
