"""Pictures with class labels, for the classifiers of the paper."""
