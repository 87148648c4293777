"""The command `steadypix retrofit`: a trained generator made anti-aliased, and fine-tuned."""
