"""Calls the compiled blur, `gen/kernels/blur_kernel.c`, where there is one.

The installation compiles it if it can. Without a C compiler, or with `STEADYPIX_NATIVE=0` in the environment,
`library` is None and the layers compute what their `reference` does.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadypix.gen.kernels.axis_map import AxisMap

MOST = 16  # inputs of an output that the kernel takes in the interior of a map


class _Axis(ctypes.Structure):
    """`struct axis` of the kernel."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_in", "n_out", "first", "repeats", "period", "step")),
        *((name, ctypes.c_void_p) for name in ("starts", "index", "weights")),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """Open the kernel; None where it was not compiled, does not load, or is switched off."""
    if os.environ.get("STEADYPIX_NATIVE") == "0":
        return None
    found = importlib.util.find_spec("steadypix.gen.kernels._blur_kernel")
    if found is None or found.origin is None:
        return None
    try:
        kernel = ctypes.CDLL(found.origin)
        functions = [kernel.steadypix_blur_float, kernel.steadypix_blur_double]
    except (OSError, AttributeError):  # of another machine, or of another version
        return None
    for function in functions:
        function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    return kernel


@functools.cache
def parallel() -> int | None:
    """Find what hands work to the threads of torch; None where there is no such thing, and one thread works.

    `GOMP_parallel` is what GCC makes of `#pragma omp parallel`, so it stays. torch loads its OpenMP library
    for the whole process to see.
    """
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError, TypeError):  # TypeError: Windows
        return None


def blur(x: Tensor, vertical: AxisMap, horizontal: AxisMap) -> Tensor:
    """Apply one map along each axis.

    Args:
        x: (B, C, H, W), float32 or float64, on the CPU.
        vertical: H -> H'.
        horizontal: W -> W'.

    Returns:
        (B, C, H', W') in the memory format of `x`, without a gradient.

    Raises:
        MemoryError: where not even the buffers of a few rows can be had.
    """
    kernel = library()
    assert kernel is not None
    x = x.resolve_neg()  # a view that only says it is negated
    batch, channels = x.shape[:2]
    shape = (batch, channels, vertical.n_out, horizontal.n_out)
    if x.is_contiguous():
        planes, vector, memory = batch * channels, 0, torch.contiguous_format
    elif x.is_contiguous(memory_format=torch.channels_last):
        planes, vector, memory = batch, channels, torch.channels_last
    else:
        x = x.contiguous()
        planes, vector, memory = batch * channels, 0, torch.contiguous_format
    y = torch.empty(shape, dtype=x.dtype, memory_format=memory, device="cpu")
    function = kernel.steadypix_blur_float if x.dtype == torch.float32 else kernel.steadypix_blur_double
    # Held until the call is over: another thread may push them out of the cache meanwhile.
    axes = [_axis(axis_map, x.dtype) for axis_map in (vertical, horizontal)]
    places = (x.data_ptr(), y.data_ptr(), *(address for address, *_ in axes))
    if function(*places, planes, vector, torch.get_num_threads(), parallel()):
        raise MemoryError("no memory for the buffers of a blur")
    return y


@functools.lru_cache(maxsize=512)
def _axis(axis_map: AxisMap, dtype: torch.dtype) -> tuple[Any, ...]:
    """The address of a map as the kernel reads it, and what must live as long."""
    starts, index = (values.astype(np.int64) for values in (axis_map.starts, axis_map.index))
    weights = axis_map.weights.astype(np.float32 if dtype == torch.float32 else np.float64)
    first, repeats = axis_map.interior if np.diff(starts).max() <= MOST else (0, 0)
    axis = _Axis(
        axis_map.n_in,
        axis_map.n_out,
        first,
        repeats,
        axis_map.period,
        axis_map.step,
        starts.ctypes.data,
        index.ctypes.data,
        weights.ctypes.data,
    )
    return ctypes.addressof(axis), axis, starts, index, weights
