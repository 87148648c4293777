"""Who else looks at a computation: compilers, exporters, function transforms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils import _python_dispatch

# Private to torch; without it nobody could tell, and the references serve all.
_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_dispatch_mode = getattr(_python_dispatch, "_get_current_dispatch_mode", lambda: None)  # make_fx and others


def untraced(x: Tensor) -> bool:
    """Whether `x` is a plain tensor in memory and all that counts is what is computed from it.

    Compilers and exporters get the layers' references, which they fuse and know how to write down.
    """
    if torch.compiler.is_compiling():  # first, for a compiler reads no further
        return False
    plain = type(x) is Tensor and not torch.jit.is_tracing()
    return plain and not _transforms_active() and _dispatch_mode() is None and _addressable(x)


def _addressable(x: Tensor) -> bool:
    """Whether `x` has memory of its own; a batch of gradients for a Jacobian has not."""
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return True
