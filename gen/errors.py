"""The one error of files with weights."""


class CheckpointError(ValueError):
    """A file that cannot be used as a checkpoint. The message names it and what was expected."""

    exit_code = 2
