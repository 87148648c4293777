"""Anti-aliased layers and their neighbours."""
