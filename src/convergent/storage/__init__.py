"""Files: written whole or not at all, tensors with checksums, tables."""
