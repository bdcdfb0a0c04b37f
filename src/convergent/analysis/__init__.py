"""What is said of alignments: nulls, intervals, codes, trees, clusters, and what many nets have in common."""
