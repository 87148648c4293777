"""Networks whose stability is known."""

from __future__ import annotations

from torch import Tensor, nn


class AddPattern(nn.Module):
    """Adds a pattern that is fixed to the frame, so the output does not move with the input."""

    def __init__(self, pattern: Tensor) -> None:
        super().__init__()
        self.register_buffer("pattern", pattern)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pattern
