"""Stability of pairs of outputs that somebody else made, batch by batch: no generator is run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import IDENTICAL_DB, PEAK
from steadypix.eval.shifts.protocols import inner

if TYPE_CHECKING:
    from torch import Tensor


def pair_db(
    moved_output: Tensor, shifted_output: Tensor, *, data_range: float = PEAK, margin_px: int = 0
) -> Tensor:
    """Return PSNR( G(shift(x)), shift(G(x)) ) of every pair (Zhang 2019, section 4.3), in dB.

    Args:
        moved_output: what the generator gives for the shifted input, (B, C, H, W).
        shifted_output: its output for the input, shifted as the input was; the same size. Where content
            enters at the border, give both without what only one of them shows.
        data_range: width of the range that outputs lie in, 2 for [-1, 1].
        margin_px: border left out on each side.

    Returns:
        (B,) in doubles, on the CPU where the outputs are on MPS, which has none. Equal outputs count as
        150 dB.

    Raises:
        InputError: if the sizes differ, the margin leaves nothing, or an output is not finite.
    """
    import torch

    check_options(data_range=data_range, margin_px=margin_px)
    if moved_output.shape != shifted_output.shape or moved_output.ndim != 4:
        sizes = f"{tuple(moved_output.shape)} and {tuple(shifted_output.shape)}"
        raise InputError(f"outputs are {sizes}; expected two of one size (B, C, H, W)")
    first, second = (
        # Whole numbers of 8 bits have no difference below 0.
        output if output.is_floating_point() else output.float()
        for output in (inner(moved_output, margin_px), inner(shifted_output, margin_px))
    )
    if len(first) and not first.numel():
        raise InputError(
            f"margin {margin_px} px: nothing is left of outputs of {tuple(moved_output.shape[-2:])} px"
        )
    difference = first - second
    difference = difference.cpu() if difference.device.type == "mps" else difference
    errors = difference.double().square().mean((1, 2, 3))
    if not torch.isfinite(errors).all():
        raise InputError("an output is not finite (NaN or infinity)")
    floor = data_range**2 * 10 ** (-IDENTICAL_DB / 10)
    return 10 * torch.log10(data_range**2 / errors.clamp(min=floor))


def check_options(*, data_range: float, margin_px: int) -> None:
    """Raise InputError for a range that is none, or a margin below 0."""
    if not 0 < data_range < float("inf"):
        raise InputError(f"data_range {data_range}: expected the width of the outputs' range, 2 for [-1, 1]")
    if type(margin_px) is not int or margin_px < 0:
        raise InputError(f"margin_px {margin_px}: expected whole px of 0 and more")


class PairStability:
    """Mean stability in dB over pairs of outputs, for a loop of one's own; see `pair_db`.

    `steadypix.ShiftStability` is the same for users of torchmetrics.

    Args:
        data_range: width of the range that outputs lie in, 2 for [-1, 1].
        margin_px: border left out on each side.

    Raises:
        InputError: for a range that is none, or a margin below 0.

    >>> import torch
    >>> stability = PairStability()
    >>> stability.update(torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.2))
    >>> round(stability.compute(), 6)
    20.0
    """

    def __init__(self, *, data_range: float = PEAK, margin_px: int = 0) -> None:
        check_options(data_range=data_range, margin_px=margin_px)
        self.data_range = data_range
        self.margin_px = margin_px
        self.reset()

    def update(self, moved_output: Tensor, shifted_output: Tensor) -> None:
        """Add pairs, (B, C, H, W) each: G(shift(x)) and shift(G(x)).

        Raises:
            InputError: as `pair_db` raises it; nothing is added then.
        """
        outputs = moved_output.detach(), shifted_output.detach()
        db = pair_db(*outputs, data_range=self.data_range, margin_px=self.margin_px)
        self._sum_db += float(db.sum())
        self._count += len(db)

    def compute(self) -> float:
        """Return the mean over all pairs in dB, of all processes where torch.distributed is running.

        Raises:
            InputError: if there are no pairs.
        """
        import torch.distributed as dist

        sums = [(self._sum_db, self._count)]
        if dist.is_available() and dist.is_initialized():
            sums *= dist.get_world_size()
            dist.all_gather_object(sums, (self._sum_db, self._count))
        total, count = (sum(part) for part in zip(*sums, strict=True))
        if not count:
            raise InputError("there are no pairs of outputs to measure; call update first")
        return total / count

    def reset(self) -> None:
        """Forget all pairs."""
        self._sum_db = 0.0
        self._count = 0
