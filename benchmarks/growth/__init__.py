"""How the cost of training and of evaluation grows."""
