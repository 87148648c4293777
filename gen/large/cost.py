"""What a run in strips will cost, said before it is begun, and the strips that memory has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from steadypix.gen.large.strips import Strips
from steadypix.gen.large.workspace import Tally, Workspace

# Measured on U-Nets and ResNets of ngf 32, 1024 x 1024 px, `--tile 128` to 512: about so many strips are held
# at the same time, with the copies that layers make of them, and libraries take so much for themselves.
STRIPS_AT_ONCE = 24
LIBRARIES_BYTES = 64 << 20


def count(
    apply: Callable[[Strips], Strips],
    shape: Sequence[int],
    like: Tensor,
    *,
    strip_samples: int,
    keep_samples: int,
    journaled: bool,
) -> Tally:
    """Return what a picture would cost, without computing or reading anything of it.

    Args:
        apply: makes the output (1, C', H', W') of a network from a picture, as `output_map` does.
        shape: of the picture, (1, C, H, W).
        like: a tensor of its dtype and device.
        strip_samples: see `Workspace`.
        keep_samples: see `Workspace`.
        journaled: whether the run can go on after it was killed.

    Raises:
        NotInStrips: if the network does what strips cannot.
    """
    tally = Tally(journaled=journaled)
    workspace = Workspace(strip_samples=strip_samples, keep_samples=keep_samples, tally=tally)

    def read(top: int, bottom: int) -> Tensor:
        return like.new_zeros(1, shape[1], bottom - top, shape[3])

    y = apply(Strips(read, shape, like, workspace, stored=True))
    tally.count(y)
    tally.output_samples = y.shape.numel()
    return tally


def memory_bytes(tally: Tally, like: Tensor) -> int:
    """Return about how much memory a run takes at most, beyond the program, the weights and the picture."""
    strips = STRIPS_AT_ONCE * tally.strip_samples * like.element_size()
    return LIBRARIES_BYTES + tally.memory_bytes + strips


def largest_that_fits(
    sizes: Sequence[int], memory: Callable[[int], int], budget_bytes: float
) -> tuple[int, int]:
    """Return the largest of the sizes whose memory is within a budget, and its memory.

    Args:
        sizes: in ascending order; if even the first does not fit, it is returned.
        memory: returns the bytes that a size takes.
        budget_bytes: what may be taken.
    """
    found = sizes[0], memory(sizes[0])
    for size in sizes[1:]:
        if (needed := memory(size)) > budget_bytes:
            break
        found = size, needed
    return found
