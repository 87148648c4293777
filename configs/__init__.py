"""Typed configuration: the schema, its packaged recipes, and how a command line becomes one."""
