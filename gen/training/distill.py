"""Fine-tuning a rewritten network without targets: its teacher is the network it was, averaged over shifts.

What a network paints differently at every shift of its input averages out, and what it paints at the same
place stays. So the average is the most that a network without a grid can agree on, and it is softer than any
single output. The student therefore matches two things: the average itself, and how much the single outputs
vary from pixel to pixel, so that it does not win by softness. A perceptual distance, where there is one, is
to a single output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.training.losses import equivariance_loss
from steadypix.gen.training.step import NonFiniteLossError

LAGS_PX = (1, 2, 4)  # neighbours whose differences count as detail
POOL_PX = 16  # detail is compared in means over windows of so many px: as much of it, not the same


class DistillStep:
    """One update of a rewritten network towards the one it was; called like `Pix2PixStep`.

    Both networks stay in the mode they come in. Evaluation mode is what is meant: no dropout, running
    statistics as they are.

    Args:
        student: the rewritten network, on the device of the batches.
        teacher: the network as it was; gets no gradients.
        adam: of the student's parameters.
        reach_px: the teacher looks from places up to so far away, each way along both axes.
        views: places a step.
        detail: weight of the distance between how much student and teacher vary, see `detail_loss`.
        aim: detail that is asked for, over the teacher's. The other distances are to what is softer than a
            single output, and pull below what is asked for by about as much.
        equivariance: weight of |S(shift(x)) - shift(S(x))|, a second pass of the student.
        perceptual: maps two pictures (B, C, H, W) to a distance (LPIPS), here to the teacher's output for the
            student's own window; None leaves it out.
        perceptual_weight: of that.

    Raises:
        ValueError: for a reach or a number of views below 1.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        adam: torch.optim.Optimizer,
        *,
        reach_px: int = 7,
        views: int = 4,
        detail: float = 6.0,
        aim: float = 1.1,
        equivariance: float = 1.0,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        perceptual_weight: float = 1.0,
    ) -> None:
        if reach_px < 1 or views < 1:
            raise ValueError(f"reach_px {reach_px} and views {views} must be at least 1")
        self.student = student
        self.teacher = teacher
        self.adam = adam
        self.reach_px = reach_px
        self.views = views
        self.detail = detail
        self.aim = aim
        self.equivariance = equivariance
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight

    def __call__(self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Make one update.

        Args:
            batches: each with `input` (B, C, H, W), larger than the networks' window by `reach_px` on each
                side.
            seeds: one for each batch, of the places that are looked from.

        Returns:
            Means over the batches, detached: `loss_l1` to the average, `loss_detail`, and
            `loss_equivariance` and `loss_lpips` where they have a weight.

        Raises:
            NonFiniteLossError: before the update that would write NaN into the weights.
        """
        sums: dict[str, Tensor] = {}
        self.adam.zero_grad()
        total = torch.zeros(())
        for batch, seed in zip(batches, seeds, strict=True):
            losses = self._losses(batch["input"], seed)
            weights = {"loss_detail": self.detail, "loss_equivariance": self.equivariance}
            weights["loss_lpips"] = self.perceptual_weight
            loss = torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum()
            (loss / len(batches)).backward()
            total = total + loss.detach().cpu()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(batches)
        if not total.isfinite():
            raise NonFiniteLossError(f"the network's loss is {total.item()}")
        self.adam.step()
        return sums

    def _losses(self, canvas: Tensor, seed: int) -> dict[str, Tensor]:
        reach = self.reach_px
        random = torch.Generator().manual_seed(seed)
        places = torch.randint(0, 2 * reach + 1, (self.views + 1, 2), generator=random).tolist()
        places[0] = [reach, reach]
        mean, variation, single = shift_average(self.teacher, canvas, places[:-1], reach_px=reach)
        output = self.student(_window(canvas, reach, reach, reach))
        losses = {
            "loss_l1": F.l1_loss(output, mean),
            "loss_detail": detail_loss(output, [self.aim * v for v in variation]),
        }
        if self.perceptual is not None:
            losses["loss_lpips"] = self.perceptual(output, single).mean()
        if self.equivariance:
            top, left = places[-1]
            moved = self.student(_window(canvas, reach, top, left))
            shifts = [(reach - left, reach - top)] * len(canvas)
            margin = output.shape[-1] // 16
            losses["loss_equivariance"] = equivariance_loss(output, moved, shifts, margin_px=margin)
        return losses


@torch.no_grad()
def shift_average(
    network: nn.Module, canvas: Tensor, places: Sequence[Sequence[int]], *, reach_px: int
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return what a network paints on the middle of a canvas, averaged over shifts of its window.

    Args:
        network: maps (B, C, H, W) to (B, C', H, W).
        canvas: (B, C, H + 2 reach_px, W + 2 reach_px).
        places: (top, left) of each window on the canvas, each in 0..2 reach_px.
        reach_px: of the middle window from each border.

    Returns:
        The mean (B, C', H, W), each pixel over the windows that show it, or 0 where none does; for each of
        `LAGS_PX` the mean variation of single outputs as `variations` has it, averaged alike; and the output
        for the first window.
    """
    height, width = (size - 2 * reach_px for size in canvas.shape[-2:])
    outputs = network(torch.cat([_window(canvas, reach_px, *place) for place in places]))
    maps = torch.cat([outputs, *variations(outputs), torch.ones_like(outputs[:, :1])], dim=1)
    total = maps.new_zeros(len(canvas), maps.shape[1], *canvas.shape[-2:])
    for (top, left), one in zip(places, maps.chunk(len(places)), strict=True):
        total[..., top : top + height, left : left + width] += one
    total = _window(total, reach_px, reach_px, reach_px)
    mean, *varied = (total[:, :-1] / total[:, -1:].clamp(min=1)).chunk(1 + len(LAGS_PX), dim=1)
    return mean, varied, outputs[: len(canvas)]


def variations(picture: Tensor) -> list[Tensor]:
    """Return |d/dx| + |d/dy| of a picture (B, C, H, W) over each of `LAGS_PX`, 0 at the far borders."""
    found = []
    for lag in LAGS_PX:
        across = (picture[..., :, lag:] - picture[..., :, :-lag]).abs()
        down = (picture[..., lag:, :] - picture[..., :-lag, :]).abs()
        found.append(F.pad(across, (0, lag)) + F.pad(down, (0, 0, 0, lag)))
    return found


def detail_loss(output: Tensor, wanted: Sequence[Tensor]) -> Tensor:
    """Return how far a picture's local total variation is from what is wanted.

    Args:
        output: (B, C, H, W).
        wanted: for each of `LAGS_PX` a map of variation as of `variations`, (B, C, H, W).

    Returns:
        A scalar: the mean L1 distance of means over windows of `POOL_PX` px, which overlap by half. It
        compares how much detail is where, and leaves open which.
    """
    size = min(POOL_PX, *output.shape[-2:])
    stride = max(size // 2, 1)
    distances = [
        F.l1_loss(F.avg_pool2d(ours, size, stride), F.avg_pool2d(theirs, size, stride))
        for ours, theirs in zip(variations(output), wanted, strict=True)
    ]
    return torch.stack(distances).mean()


def _window(canvas: Tensor, reach_px: int, top: int, left: int) -> Tensor:
    height, width = (size - 2 * reach_px for size in canvas.shape[-2:])
    return canvas[..., top : top + height, left : left + width]
