"""What the commands do: jobs, folders, processes, the terminal, Weights & Biases."""
