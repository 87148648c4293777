"""Measurements that belong in no test: ratios, taken in turn, beside the floor of the machine."""
