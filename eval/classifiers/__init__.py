"""The classifier half of the paper: consistency, features, corruptions, a study of it all."""
