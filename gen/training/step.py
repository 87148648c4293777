"""One update of both networks of pix2pix (Isola et al. 2017, section 3.3), on one process or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadypix.gen.training.losses import discriminator_loss, equivariance_loss, generator_loss

if TYPE_CHECKING:
    from accelerate import Accelerator


R1_NOISE = 0.01  # standard deviation, of pictures in [-1, 1]


class NonFiniteLossError(RuntimeError):
    """A loss that is NaN or infinite. The weights are still those from before the update."""

    exit_code = 1


class Pix2PixStep:
    """Updates the discriminator, then the generator against the updated discriminator.

    A step may take several batches in turn and sum their gradients (gradient accumulation), which needs the
    memory of one of them. With norms that look at one sample at a time and without dropout that equals a
    step on all of them at once.

    Args:
        accelerator: knows the other processes.
        generator: as `accelerator.prepare` returned it.
        discriminator: the same; it judges input and picture, joined along channels.
        adam_g: the generator's optimiser.
        adam_d: the discriminator's optimiser.
        gan: adversarial loss, see `steadypix.gen.training.losses`.
        lambda_l1: weight of the L1 distance to the target (Isola et al. 2017, eq. 4).
        equivariance: weight of `gen.training.losses.equivariance_loss`; over 0, batches hold `moved` and
            `shift`. It pulls G(shift(x)) alone, and counts up to the border.
        context_px: px that inputs have at the left and top beyond their target's window. What a generator
            makes of them is cut off, and the discriminator does not see them.
        precision: `bf16` runs both networks under autocast; their outputs and all losses stay in the
            precision of the targets. Anything else computes in the precision of the weights.
        jitter_px: cut what the discriminator sees by 0 to so many px at the top and left, at random in each
            step, and by the rest at the bottom and right: its strides begin nowhere in particular then.
        r1: weight of the mean of (D(z) - D(z + 0.01 n))^2 over real and fake pairs z with normal noise n, an
            approximation of R1's gradient penalty without a second derivative (arXiv 2501.08316, eq. 4).
        together: let the discriminator judge real and fake in one pass. The same for every norm that looks
            at one sample at a time, and cheaper; batch norm's statistics would mix the two.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        generator: nn.Module,
        discriminator: nn.Module,
        adam_g: torch.optim.Optimizer,
        adam_d: torch.optim.Optimizer,
        *,
        gan: str = "vanilla",
        lambda_l1: float = 100.0,
        equivariance: float = 0.0,
        context_px: int = 0,
        precision: str = "fp32",
        jitter_px: int = 0,
        r1: float = 0.0,
        together: bool = True,
    ) -> None:
        self.accelerator = accelerator
        self.generator = generator
        self.discriminator = discriminator
        self.adam_g = adam_g
        self.adam_d = adam_d
        self.gan = gan
        self.lambda_l1 = lambda_l1
        self.equivariance = equivariance
        self.context_px = context_px
        self.precision = precision
        self.jitter_px = jitter_px
        self.r1 = r1
        self.together = together
        # What a captured step does another way.
        self.require_finite: Callable[[str, Tensor], None] = _require_finite
        self.reseed: Callable[[int], object] = torch.manual_seed
        self._bare_generator = accelerator.unwrap_model(generator)
        self._bare_discriminator = accelerator.unwrap_model(discriminator)

    def __call__(self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Make one update.

        Args:
            batches: each with `input` (B, C, H, W) and `target` (B, C', H, W) in [-1, 1] on the device;
                with an equivariance loss also `moved` (B, C, H, W), the input shifted, and `shift`, a list
                of B pairs (dx, dy) in px. With context inputs are larger than their targets.
            seeds: one for each batch, of its dropout; the same seed gives the same step.

        Returns:
            Means over the batches, detached: `loss_d`, `loss_gan`, `loss_l1`, and `loss_equivariance` if
            it has a weight.

        Raises:
            NonFiniteLossError: before the update that would write NaN into the weights.
        """
        sums: dict[str, Tensor] = {}
        fake = self._update_discriminator(batches, seeds, sums)
        # No gradients for the discriminator, and the bare one: a wrapped one would wait for their reduction.
        self._bare_discriminator.requires_grad_(False)
        self._update_generator(batches, seeds, fake, sums)
        self._bare_discriminator.requires_grad_(True)
        return sums

    def _update_discriminator(
        self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int], sums: dict[str, Tensor]
    ) -> Tensor | None:
        """Tell (x, y) from (x, G(x)), with no gradient into the generator.

        Returns:
            G(x) of a single batch with its graph, for the generator's half. Of several, each graph would
            have to be held until the discriminator is updated: None, and G(x) is computed again, with the
            same dropout.
        """
        share, last = 1 / len(batches), len(batches) - 1
        self.adam_d.zero_grad()
        for place, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
            self.reseed(seed)
            with nullcontext() if last == 0 else torch.no_grad():
                generator = self.generator if last == 0 else self._bare_generator
                fake = self._kept(self._run(generator, batch["input"]), batch)
            with self._reduced(self.discriminator, place == last):
                x = self._kept(batch["input"], batch)
                pairs = [self._seen(x, y, seed) for y in (batch["target"], fake.detach())]
                logits = self._judge(pairs)
                loss_d = discriminator_loss(*logits, mode=self.gan)
                if self.r1:
                    noisy = self._judge([pair + R1_NOISE * torch.randn_like(pair) for pair in pairs])
                    loss_d = loss_d + self.r1 * F.mse_loss(torch.cat(noisy), torch.cat(logits))
                self.accelerator.backward(share * loss_d)
            _add(sums, share, loss_d=loss_d)
        self.require_finite("discriminator", sums["loss_d"])
        self.adam_d.step()
        return fake if last == 0 else None

    def _update_generator(
        self,
        batches: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        ready: Tensor | None,
        sums: dict[str, Tensor],
    ) -> None:
        """Fool the updated discriminator, stay near the target. `ready`: G(x) of a single batch."""
        share, last = 1 / len(batches), len(batches) - 1
        self.adam_g.zero_grad()
        total = torch.zeros_like(sums["loss_d"])
        for place, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
            x, y = self._kept(batch["input"], batch), batch["target"]
            with self._reduced(self.generator, place == last):
                if ready is None:
                    self.reseed(seed)
                    fake = self._kept(self._run(self.generator, batch["input"]), batch)
                else:
                    fake = ready
                logits = self._run(self._bare_discriminator, self._seen(x, fake, seed))
                loss_gan = generator_loss(logits, self._real_logits(x, y, seed), mode=self.gan)
                loss_l1 = F.l1_loss(fake, y)
                loss_g = loss_gan + self.lambda_l1 * loss_l1
                if self.equivariance:
                    self.reseed(seed)  # the same dropout, or its noise would be all that is seen
                    moved = self._kept(self._run(self.generator, batch["moved"]), batch)
                    # The reference is held still: a way to bring both together is to blur both.
                    distance = equivariance_loss(fake.detach(), moved, batch["shift"], margin_px=0)
                    loss_g = loss_g + self.equivariance * distance
                    _add(sums, share, loss_equivariance=distance)
                self.accelerator.backward(share * loss_g)
            total += loss_g.detach()
            _add(sums, share, loss_gan=loss_gan, loss_l1=loss_l1)
        self.require_finite("generator", total)
        self.adam_g.step()

    def settle(self) -> None:
        """Raise what a step has still to raise: nothing, every loss was looked at. See `CapturedStep`."""

    def _run(self, network: nn.Module, x: Tensor) -> Tensor:
        """Apply a network, in bfloat16 if asked; what comes out is as precise as `x`."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return network(x).to(x.dtype)

    def _kept(self, x: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Return what is left of an input or output without its context."""
        height, width = batch["target"].shape[-2:]
        before = self.context_px
        return x[..., before : before + height, before : before + width] if before else x

    def _seen(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        """Return what the discriminator sees of an input and a picture, joined along channels."""
        pair = torch.cat([x, y], dim=1)
        if not self.jitter_px:
            return pair
        top, left = divmod(seed % (self.jitter_px + 1) ** 2, self.jitter_px + 1)
        height, width = (size - self.jitter_px for size in pair.shape[-2:])
        return pair[..., top : top + height, left : left + width]

    def _real_logits(self, x: Tensor, y: Tensor, seed: int) -> Tensor | None:
        """Return logits of real pairs, where the generator's loss compares with them."""
        if self.gan != "relativistic":
            return None
        with torch.no_grad():
            return self._run(self._bare_discriminator, self._seen(x, y, seed))

    def _judge(self, pairs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return logits for the real and the fake pairs."""
        if not self.together:
            return tuple(self._run(self.discriminator, pair) for pair in pairs)
        return self._run(self.discriminator, torch.cat(list(pairs))).chunk(2)

    def _reduced(self, network: nn.Module, now: bool) -> AbstractContextManager[object]:
        """Processes exchange gradients in the last backward pass of a step alone."""
        return nullcontext() if now else self.accelerator.no_sync(network)


def _add(sums: dict[str, Tensor], share: float, **losses: Tensor) -> None:
    for name, loss in losses.items():
        sums[name] = sums.get(name, 0) + share * loss.detach()


def _require_finite(which: str, loss: Tensor) -> None:
    # On a GPU this waits for the loss.
    if not loss.isfinite():
        raise NonFiniteLossError(f"the {which}'s loss is {loss.item()}")
