"""A network of any make behind one face: pictures in [-1, 1] in, one picture in [-1, 1] out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.generators.ranges import Output, Ranges, pick_output, read_range


class Adapted(nn.Module):
    """A network or a plain function, its ranges and which of its outputs counts.

    Args:
        network: maps (B, C, H, W) to an output, or to a dict, tuple or list with one inside.
        data_range: `(low, high)` of what it takes and gives, or two of these; None: [-1, 1], and `remark`
            warns where that is evidently wrong.
        output: key or place of the picture among its outputs, or what is called with them; None where there
            is only one.

    Raises:
        InputError: if the range is none, and, on use, if outputs leave it, or it is not known which counts.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[Tensor], Any],
        *,
        data_range: Any = None,
        output: Output | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.training = network.training if isinstance(network, nn.Module) else False
        self.output = output
        self.ranges = Ranges() if data_range is None else Ranges(*read_range(data_range), stated=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (B, C', H', W') in [-1, 1] for pictures (B, C, H, W) in [-1, 1]."""
        y = pick_output(self.network(self.ranges.to_generator(x)), self.output, "output={}")
        if not isinstance(y, Tensor) or y.ndim != 4 or len(y) != len(x):
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise InputError(f"the network gives {got} for {tuple(x.shape)}; expected (B, C, H, W)")
        return self.ranges.from_generator(y)

    def remark(self) -> None:
        """Warn where outputs evidently have another range than was taken."""
        words = self.ranges.remark("data_range=({})")
        if words:
            warnings.warn(words, stacklevel=4)
