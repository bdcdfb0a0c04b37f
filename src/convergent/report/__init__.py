"""Finished results as tables, charts, one HTML page, and the README."""
