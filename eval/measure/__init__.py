"""One evaluation: what is asked for, the pictures on their way, every measure on every model."""
