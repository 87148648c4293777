"""Generators as pytorch-CycleGAN-and-pix2pix tests them: in training mode, a picture at a time.

Isola et al. (2017, section 3.4) apply dropout at test time, and batch norm by the statistics of the test
batch, which holds one picture. The published test script does so unless `--eval` is given.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from steadypix.errors import InputError
from steadypix.eval.generators.formats import FORMATS
from steadypix.eval.generators.models import FROZEN, Model


class PublishedConvention(nn.Module):
    """A network in training mode for good, on one picture at a time; nothing that it keeps changes.

    Random where it has dropout: torch's random numbers say how, so seed them.

    Args:
        network: gets into training mode, and is not to be used otherwise afterwards.

    Shape:
        as the network's.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.train()
        self.training = False
        # Norms in training mode write running statistics down, which the next picture must not see.
        self._kept = {name: buffer.clone() for name, buffer in network.named_buffers()}

    def train(self, mode: bool = True) -> PublishedConvention:
        """Leave everything as it is: `eval()` may not turn the convention off."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on every picture of `x` alone."""
        return torch.cat([self._one(picture) for picture in x.split(1)])

    @property
    def modes(self) -> dict[str, str]:
        """How norms and dropout run, in words."""
        modules = [*self.network.modules()]
        found = {}
        if any(isinstance(module, _NormBase) for module in modules):
            found["norm_mode"] = "statistics of each picture"
        drops = any(isinstance(module, _DropoutNd) and module.p for module in modules)
        return found | {"dropout_mode": "on" if drops else "there is none"}

    def _one(self, picture: Tensor) -> Tensor:
        try:
            output: Tensor = self.network(picture)
        except InputError:
            raise
        except ValueError as error:  # a batch norm that sees a single sample
            raise InputError(f"cannot be run in training mode on one picture ({error})") from None
        finally:
            with torch.no_grad():
                for name, buffer in self.network.named_buffers():
                    buffer.copy_(self._kept[name])
        return output


def by_convention(model: Model) -> Model:
    """Return a generator under the published convention.

    Raises:
        InputError: naming one whose norms and dropout cannot be reached.
    """
    if model.format in FROZEN:
        raise InputError(
            f"{model.path}: is {FORMATS[model.format]}, whose norms and dropout are settled; expected "
            "weights or a Python callable with --published-convention"
        )
    module = PublishedConvention(model.module)
    module.provenance = getattr(model.module, "provenance", {})  # type: ignore[assignment]
    for name in ("ranges", "output_key"):  # of programs
        setattr(module, name, getattr(model.module, name, None))
    return replace(model, module=module)
