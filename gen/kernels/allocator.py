"""How the C library gives memory out while a network works on the CPU."""

from __future__ import annotations

import ctypes
import sys

# malloc.h of the GNU C library
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_STEP_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let freed memory stay with the process, for the next step to use.

    A network asks for the same maps and gradients over and over. By default the GNU C library returns blocks
    of many megabytes to the system at once, which then clears each page of the next one: a seventh of a
    training step, a quarter of a forward pass at batch 8. The process stays as large as it once was, so this
    is for commands, and changes nothing for who imports a network.

    Returns:
        Whether the C library took it; any other than the GNU one is left as it is.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _STEP_BYTES}
    taken = [mallopt(option, value) == 1 for option, value in options.items()]
    return all(taken)
