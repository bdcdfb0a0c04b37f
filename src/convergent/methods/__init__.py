"""Alignment methods: one file each, a frozen dataclass of hyper-parameters that maps a `Pair` to an `Alignment`."""
