"""A training step recorded once as a CUDA graph and replayed: no time between its hundreds of kernels.

At batch 1 a GPU is through with most of pix2pix's kernels sooner than Python can ask for the next. A replay
asks for all of them at once, so nothing in it may wait for the GPU or depend on what it found: losses are
looked at two steps later, and until then a latch on the GPU keeps the weights from before the bad update.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.gen.training.step import NonFiniteLossError, Pix2PixStep

EAGER_STEPS = 3  # before the recording: kernels are chosen and Adam's moments made in them
AHEAD = 2  # steps asked for beyond the last one known to be sound


def make_adam(
    network: nn.Module, *, learning_rate: float, betas: tuple[float, float], captured: bool
) -> torch.optim.Adam:
    """Build a fused Adam; one whose steps are `captured` has its learning rate in the GPU's memory.

    `steadypix.gen.training.schedules.set_learning_rate` changes either's.
    """
    weights = list(network.parameters())
    rate = torch.tensor(learning_rate, device=weights[0].device) if captured else learning_rate
    return torch.optim.Adam(weights, lr=rate, betas=betas, fused=True, capturable=captured)


class Latch:
    """Holds both optimisers still from the first loss on that is not finite, without anyone waiting for it.

    Args:
        step: whose checks it takes over.
        device: of the losses.

    Attributes:
        culprit: a scalar on the device, for `check`: 0, or which loss was the first that is not finite.

    Raises:
        ValueError: if an optimiser of the step is not fused; others do not look at `found_inf`.
    """

    def __init__(self, step: Pix2PixStep, device: torch.device | str) -> None:
        self._closed = torch.zeros((), device=device)
        self.culprit = torch.zeros((), device=device)
        self._names: list[str] = []
        step.require_finite = self.mark
        for optimizer in (step.adam_g, step.adam_d):
            # accelerate's wrapper would keep it to itself
            bare: Any = getattr(optimizer, "optimizer", optimizer)
            if not bare.defaults.get("fused"):
                raise ValueError(f"expected fused optimisers, see make_adam; got {type(bare).__name__}")
            bare.found_inf = self._closed

    def mark(self, which: str, loss: Tensor) -> None:
        """Close if `loss` is not finite, before the update that would use it."""
        if which not in self._names:
            self._names.append(which)
        bad = (~loss.isfinite()).to(self._closed.dtype)
        code = 1.0 + self._names.index(which)
        self.culprit.add_(bad * (1 - self._closed) * code)
        self._closed.copy_(torch.maximum(self._closed, bad))

    def check(self, culprit: float) -> None:
        """Raise NonFiniteLossError if `culprit`, a value of `self.culprit`, is one."""
        if culprit:
            raise NonFiniteLossError(f"the {self._names[int(culprit) - 1]}'s loss is not finite")


class CapturedStep:
    """`Pix2PixStep`, on one GPU and one batch at a time, from a CUDA graph after the first few calls.

    Args:
        step: built on a GPU, its networks not recomputing their maps, its optimisers from `make_adam`.

    Raises:
        ValueError: if the step has an equivariance loss or jitter, whose shifts are no tensors, or other
            optimisers.
    """

    def __init__(self, step: Pix2PixStep) -> None:
        if step.equivariance or step.jitter_px:
            raise ValueError("a step with an equivariance loss or jitter cannot be captured")
        self.step = step
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_left = EAGER_STEPS
        self._batch: dict[str, Tensor] = {}
        self._losses: dict[str, Tensor] = {}
        self._latch = Latch(step, self._stream.device)
        self._culprit = torch.zeros((), pin_memory=True)
        self._pending: deque[torch.cuda.Event] = deque()
        step.reseed = lambda seed: None  # not while recording; a replay reads what was set before it

    def __call__(self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Make one update; see `Pix2PixStep`.

        Args:
            batches: one, of the same shapes at every call.
            seeds: one.

        Returns:
            The losses, overwritten by the next call.

        Raises:
            NonFiniteLossError: up to two calls late; no weights have changed in between.
        """
        (batch,), (seed,) = batches, seeds
        self._wait_for_all_but(AHEAD - 1)
        torch.manual_seed(seed)
        if self._graph is None:
            self._prepare(batch, seed)
        if self._graph is not None:
            for key, held in self._batch.items():
                held.copy_(batch[key], non_blocking=True)
            self._graph.replay()
        self._culprit.copy_(self._latch.culprit, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending.append(event)
        return self._losses

    def settle(self) -> None:
        """Wait for the steps still under way.

        Raises:
            NonFiniteLossError: if a loss was not finite in one of them.
        """
        self._wait_for_all_but(0)

    def _wait_for_all_but(self, newest: int) -> None:
        while len(self._pending) > newest:
            self._pending.popleft().synchronize()
            self._latch.check(self._culprit.item())

    def _prepare(self, batch: Mapping[str, Any], seed: int) -> None:
        """Take an eager step, or record one once there have been enough."""
        if self._eager_left:
            self._eager_left -= 1
            # On the stream that records: autograd adds up gradients where it first met a weight.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._losses = self.step([batch], [seed])
            torch.cuda.current_stream().wait_stream(self._stream)
            return
        self._batch = {key: batch[key].clone() for key in ("input", "target")}
        # The graph has memory of its own for gradients; those of before would lie about unused.
        self.step.adam_g.zero_grad()
        self.step.adam_d.zero_grad()
        self._graph = torch.cuda.CUDAGraph()
        # Only what this thread does counts: a loader may be pinning memory in another.
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            self._losses = self.step([self._batch], [seed])
