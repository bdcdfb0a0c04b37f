"""What methods solve: the lasso, best subsets, systems on supports, spectral clustering."""
