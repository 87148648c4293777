"""The one error of the data package: something the user gave cannot be used."""


class InputError(ValueError):
    """Bad input or usage. The message is one line that names the culprit and what was expected."""

    exit_code = 2
