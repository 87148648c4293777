"""Picture files: found, read, written, turned into tensors."""
