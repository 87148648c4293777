"""Pictures larger than memory: whole networks run strip by strip, and norms with frozen statistics."""
