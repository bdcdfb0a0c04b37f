"""Joint histograms of all pairs of units, counted exactly, and the mutual information that they give."""
