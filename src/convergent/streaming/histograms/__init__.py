"""Joint histograms of all pairs of units, counted exactly while nets read the images."""
