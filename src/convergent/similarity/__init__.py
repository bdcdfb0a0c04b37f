"""Measures of similarity of two nets' units that are a number and no map: one file each, any function of a `Pair`."""
