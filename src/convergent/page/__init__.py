"""The report page: one HTML file in which everything of an experiment can be looked at."""
