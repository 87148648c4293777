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
            `shift`.
        margin_px: left out by that loss on each side.
        precision: `bf16` runs both networks under autocast; their outputs and all losses stay in the
            precision of the targets. Anything else computes in the precision of the weights.
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
        margin_px: int = 0,
        precision: str = "fp32",
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
        self.margin_px = margin_px
        self.precision = precision
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
                of B pairs (dx, dy) in px.
            seeds: one for each batch, of its dropout; the same seed gives the same step.

        Returns:
            Means over the batches, detached: `loss_d`, `loss_gan`, `loss_l1`, and `loss_equivariance` if
            it has a weight.

        Raises:
            NonFiniteLossError: before the update that would write NaN into the weights.
        """
        share = 1 / len(batches)
        last = len(batches) - 1
        sums: dict[str, Tensor] = {}

        def add(name: str, loss: Tensor) -> None:
            sums[name] = sums.get(name, 0) + share * loss.detach()

        # Discriminator: tell (x, y) from (x, G(x)); no gradient into the generator. A single batch keeps
        # the graph of G(x) for the generator's half; of several, each graph would have to be held until
        # the discriminator is updated, so there G(x) is computed again, with the same dropout.
        self.adam_d.zero_grad()
        for place, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
            self.reseed(seed)
            with nullcontext() if last == 0 else torch.no_grad():
                generator = self.generator if last == 0 else self._bare_generator
                fake = self._run(generator, batch["input"])
            with self._reduced(self.discriminator, place == last):
                real_logits, fake_logits = self._judge(batch, fake.detach())
                loss_d = discriminator_loss(real_logits, fake_logits, mode=self.gan)
                self.accelerator.backward(share * loss_d)
            add("loss_d", loss_d)
        self.require_finite("discriminator", sums["loss_d"])
        self.adam_d.step()

        # Generator: fool the updated discriminator, stay near the target. The bare discriminator, because
        # a wrapped one would wait for a reduction of gradients that are switched off here.
        self._bare_discriminator.requires_grad_(False)
        self.adam_g.zero_grad()
        total = torch.zeros_like(sums["loss_d"])
        for place, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
            x, y = batch["input"], batch["target"]
            with self._reduced(self.generator, place == last):
                if last > 0:
                    self.reseed(seed)
                    fake = self._run(self.generator, x)
                logits = self._run(self._bare_discriminator, torch.cat([x, fake], dim=1))
                loss_gan = generator_loss(logits, mode=self.gan)
                loss_l1 = F.l1_loss(fake, y)
                loss_g = loss_gan + self.lambda_l1 * loss_l1
                if self.equivariance:
                    self.reseed(seed)  # the same dropout, or its noise would be all that is seen
                    moved = self._run(self.generator, batch["moved"])
                    distance = equivariance_loss(fake, moved, batch["shift"], margin_px=self.margin_px)
                    loss_g = loss_g + self.equivariance * distance
                    add("loss_equivariance", distance)
                self.accelerator.backward(share * loss_g)
            total += loss_g.detach()
            add("loss_gan", loss_gan)
            add("loss_l1", loss_l1)
        self.require_finite("generator", total)
        self.adam_g.step()
        self._bare_discriminator.requires_grad_(True)
        return sums

    def settle(self) -> None:
        """Raise what a step has still to raise: nothing, every loss was looked at. See `CapturedStep`."""

    def _run(self, network: nn.Module, x: Tensor) -> Tensor:
        """Apply a network, in bfloat16 if asked; what comes out is as precise as `x`."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return network(x).to(x.dtype)

    def _judge(self, batch: Mapping[str, Any], fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits for the real and the fake pairs."""
        pairs = [torch.cat([batch["input"], picture], dim=1) for picture in (batch["target"], fake)]
        if not self.together:
            real_logits, fake_logits = (self._run(self.discriminator, pair) for pair in pairs)
            return real_logits, fake_logits
        real_logits, fake_logits = self._run(self.discriminator, torch.cat(pairs)).chunk(2)
        return real_logits, fake_logits

    def _reduced(self, network: nn.Module, now: bool) -> AbstractContextManager[object]:
        """Processes exchange gradients in the last backward pass of a step alone."""
        return nullcontext() if now else self.accelerator.no_sync(network)


def _require_finite(which: str, loss: Tensor) -> None:
    # On a GPU this waits for the loss.
    if not loss.isfinite():
        raise NonFiniteLossError(f"the {which}'s loss is {loss.item()}")
