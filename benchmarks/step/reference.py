"""The published pix2pix training step in plain PyTorch, as its users run it: the reference for training.

Written from the paper (Isola et al. 2017, sections 3 and 6) and the behaviour of its well-known code, with
nothing of steadypix in it: contiguous float32, batch norm by the batch's statistics, dropout 0.5,
cross-entropy on patch logits, 100 times L1, default Adam (2e-4, 0.5, 0.999). The generator runs once; the
discriminator sees the fake and the real pair apart and is updated; then, without gradients to its weights,
it judges the fake again for the generator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.published_nets import PublishedUnet

LAMBDA_L1 = 100.0
Losses = dict[str, Tensor]  # as our own step names them


class Discriminator(nn.Sequential):
    """The 70-px PatchGAN on input and picture together."""

    def __init__(self, *, ndf: int = 64, n_layers: int = 3) -> None:
        layers: list[nn.Module] = [nn.Conv2d(6, ndf, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        width = ndf
        for layer in range(1, n_layers + 1):
            before, width = width, ndf * min(2**layer, 8)
            conv = nn.Conv2d(before, width, 4, 1 if layer == n_layers else 2, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.Conv2d(width, 1, 4, 1, 1))


def draw_weights(module: nn.Module) -> None:
    """Convs N(0, 0.02), norm scales N(1, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class ReferenceStep:
    """Two networks, two optimisers, and what one batch does to them.

    Args:
        generator: maps (B, 3, H, W) to the same shape.
        discriminator: maps (B, 6, H, W) to logits.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.adam_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.adam_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.cross_entropy = nn.BCEWithLogitsLoss()

    def step(self, x: Tensor, y: Tensor) -> Losses:
        """Train on one batch.

        Args:
            x: input (B, 3, H, W) in [-1, 1].
            y: target, of the same shape and range.

        Returns:
            Detached scalars: `loss_d`, the mean of the discriminator's real and fake half; `loss_gan`, the
            generator's adversarial loss; `loss_l1`, the mean absolute difference to the target, unweighted.
        """
        fake = self.generator(x)

        self.discriminator.requires_grad_(True)
        self.adam_d.zero_grad()
        on_fake = self._judge(torch.cat([x, fake.detach()], 1), real=False)
        on_real = self._judge(torch.cat([x, y], 1), real=True)
        loss_d = 0.5 * (on_fake + on_real)
        loss_d.backward()
        self.adam_d.step()

        self.discriminator.requires_grad_(False)
        self.adam_g.zero_grad()
        gan = self._judge(torch.cat([x, fake], 1), real=True)
        l1 = F.l1_loss(fake, y)
        (gan + LAMBDA_L1 * l1).backward()
        self.adam_g.step()
        return {"loss_d": loss_d.detach(), "loss_gan": gan.detach(), "loss_l1": l1.detach()}

    def _judge(self, pair: Tensor, *, real: bool) -> Tensor:
        logits = self.discriminator(pair)
        return self.cross_entropy(logits, torch.ones_like(logits) if real else torch.zeros_like(logits))


def build(
    *, ngf: int = 64, ndf: int = 64, num_downs: int = 8, n_layers: int = 3, dropout: bool = True
) -> ReferenceStep:
    """Build networks (`num_downs` at least 5) and optimisers, weights drawn from torch's own generator."""
    generator = PublishedUnet(num_downs=num_downs, ngf=ngf)
    for module in generator.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    discriminator = Discriminator(ndf=ndf, n_layers=n_layers)
    return ReferenceStep(generator.apply(draw_weights), discriminator.apply(draw_weights))
