"""Data sets by name: fetched, unpacked and held against what is known of them."""
