"""Files with weights: our own, published ones, and what guards against hostile ones."""
