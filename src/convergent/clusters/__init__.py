"""Groups of both nets' units: spectral clustering, the quality of clusters, and whether they share subspaces."""
