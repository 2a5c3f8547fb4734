"""Recipes for public data sets: documents, embodiments, and scripts that turn other formats into bags."""
