"""The errors that users can fix, and how any error is said in one line."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input or usage. The message is one line that names the culprit and what was expected."""

    exit_code = 2


class CheckpointError(InputError):
    """A file that cannot be used as weights. The message names it and what was expected."""


# Of names that files hold as text: those of folders may be any bytes.
NO_TEXT = "is no text that could be read back; expected a name in UTF-8, and a locale for it (LC_ALL=C.UTF-8)"
NOT_KEPT = "is not read as it was written; expected a disk that keeps files"
LONGEST_MESSAGE = 2000  # characters; of longer ones (a path may have 4096) both ends are shown


def one_line(error: BaseException) -> str:
    """Return an error's message as a single line that is fit for a terminal; an OSError names its file first.

    Messages quote what files hold, so they may hold anything: control characters are written out, and what
    is too long to be read loses its middle.
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return printable(f"{where}{error.strerror}")
    text = str(error)
    if text.startswith("Caught ") and "DataLoader worker" in text:
        # torch hands on a worker's error with its traceback as the message; the last line is ours.
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return printable(" ".join(text.split()))


def require_text(name: object, option: str) -> None:
    """Check that the name of a file or folder can be read back by all that reads it, as by safetensors.

    Raises:
        InputError: naming the option and the name.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise InputError(f"{option} {name}: {NO_TEXT}") from None


def printable(text: str) -> str:
    """Return a text without characters that a terminal would act on, or that cannot be encoded."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST_MESSAGE // 2
    return shown if len(shown) <= LONGEST_MESSAGE else f"{shown[:half]} ... {shown[-half:]}"
