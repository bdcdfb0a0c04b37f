"""What the commands do: jobs, their folders, nets and images by configuration, logging, tables."""
