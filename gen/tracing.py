"""Who else looks at a computation: compilers, exporters, function transforms."""

from __future__ import annotations

import torch
from torch import Tensor

# Private to torch; without it nobody could tell, and the references serve all.
_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def untraced(x: Tensor) -> bool:
    """Whether `x` is a plain tensor and all that counts is what is computed from it.

    Compilers and exporters get the layers' references, which they fuse and know how to write down.
    """
    if torch.compiler.is_compiling():  # first, for a compiler reads no further
        return False
    return type(x) is Tensor and not torch.jit.is_tracing() and not _transforms_active()
