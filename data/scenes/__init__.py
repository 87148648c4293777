"""Procedural facades and maps: data sets that need no download."""
