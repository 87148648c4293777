"""The same arithmetic in less time: compiled blurs, convolutions as products, kernels for GPUs."""
