"""Data sets and the order in which images are read."""
