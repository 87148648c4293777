"""Windows of several sizes through a network, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from steadypix.eval.metrics.forward import run_windows


class Recorder(nn.Module):
    """Remembers the shapes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return x + 1


@given(st.lists(st.integers(1, 3), max_size=20), st.integers(1, 5))
def test_every_window_gets_its_output_in_order(sides: list[int], batch_size: int) -> None:
    windows = [torch.full((1, 1, side, side), float(number)) for number, side in enumerate(sides)]
    recorder = Recorder()
    outputs = list(run_windows(recorder, iter(windows), batch_size=batch_size))
    assert len(outputs) == len(windows)
    assert all(torch.equal(output, window + 1) for output, window in zip(outputs, windows, strict=True))
    assert all(shape[0] <= batch_size for shape in recorder.shapes)
    # A batch ends where it is full or the next window has another size, and nowhere else.
    for first, second in zip(recorder.shapes, recorder.shapes[1:], strict=False):
        assert first[0] == batch_size or first[1:] != second[1:]


def test_windows_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def windows() -> Iterator[Tensor]:
        for number in range(6):
            taken.append(number)
            yield torch.zeros(1, 1, 2, 2)

    outputs = run_windows(Recorder(), windows(), batch_size=2)
    assert taken == []
    next(outputs)
    assert taken == [0, 1]
