"""Function: what is left of a net's decisions where units of another net take the place of its own."""
