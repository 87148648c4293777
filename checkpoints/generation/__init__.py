"""What the command `generate` is made of: pictures of any size, sequences, films, frozen statistics."""
