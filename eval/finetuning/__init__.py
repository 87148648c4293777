"""Fine-tuning of pretrained classifiers, plain and anti-aliased: the experiment of the article."""
