"""Charts and pictures, drawn from results and pixels alone."""
