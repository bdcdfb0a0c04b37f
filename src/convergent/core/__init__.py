"""What is true of second moments and joint histograms: moments, pairs of nets, alignments, regressions, scores."""
