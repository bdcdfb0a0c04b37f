"""Merging nets: which orders of its units leave a net what it is, which of them aligns two nets, what lies between."""
