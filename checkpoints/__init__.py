"""Generators released with steadypix; see MODEL_CARD.md. Runs of your own land beside them."""
