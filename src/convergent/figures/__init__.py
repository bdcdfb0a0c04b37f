"""Figures of the paper and beyond, from any method's records: one file each, a function from data to a figure."""
