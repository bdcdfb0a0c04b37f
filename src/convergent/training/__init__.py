"""Training: the LightningModule, optimisers, checkpoints, run folders, requeueing."""
