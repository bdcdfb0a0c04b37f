"""What chance gives, how sure a figure is, and what more than two nets have in common."""
