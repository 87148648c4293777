"""Networks of others made anti-aliased, circular or dense."""
