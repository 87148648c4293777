"""Does a generator answer equal inputs equally, and what of a score is its own noise?"""
