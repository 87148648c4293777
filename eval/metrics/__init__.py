"""What can be measured of a generator, as functions of tensors and as measures of an evaluation."""
