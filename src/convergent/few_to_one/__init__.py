"""The lasso, solved exactly and certified, and what it says: how few units account for one, and which belong together."""
