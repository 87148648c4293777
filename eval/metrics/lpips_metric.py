"""LPIPS, the learned perceptual distance (Zhang et al. 2018), never from a random backbone.

The lpips package brings the calibrated last layers; the backbone's ImageNet weights come from torchvision's
server or, for machines without network, from a local torchvision state dict.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from steadypix.errors import InputError
from steadypix.eval.metrics.measure import Conditions
from steadypix.eval.metrics.quality import Figures

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.command import Parser

# The smallest picture of which every layer of the backbone leaves something.
SMALLEST_PX = {"alex": 31, "vgg": 16, "squeeze": 17}
TORCHVISION_NAMES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
NETS = tuple(SMALLEST_PX)
CHANNELS = 3


class Lpips:
    """The distance between an output and its target, as a quality measure.

    Args:
        net: `alex` (what papers report), `vgg` or `squeeze`.
        weights: a torchvision state dict of that backbone; None takes torchvision's own, from its cache or
            its server.
        device: where it runs.

    Raises:
        InputError: if the weights cannot be had, or are not those of `net`.
    """

    def __init__(self, net: str = "alex", *, weights: Path | None = None, device: str = "cpu") -> None:
        if net not in NETS:
            raise InputError(f"--lpips-net {net}: is unknown; expected one of {', '.join(NETS)}")
        self.net = net
        self.weights = weights
        network = _network_of_file(net, weights) if weights else _network_of_torchvision(net)
        self.network = network.to(device).eval()

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Return `{"lpips": distance}` of pictures (1, C, H, W) in [-1, 1]; 0 for equal ones.

        Raises:
            InputError: for other than 1 or 3 channels, or pictures too small for the backbone.
        """
        import torch

        with torch.inference_mode():
            return {"lpips": self.distance(output, target).item()}

    def distance(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the distance of each of B pictures (B, C, H, W) in [-1, 1]; gradients reach both."""
        distance: Tensor = self.network(self._rgb(output), self._rgb(target))
        return distance

    def describe(self) -> dict[str, str]:
        """Return what a result records: the backbone and the origin of its weights."""
        if self.weights is None:
            return {"net": self.net, "weights": "torchvision"}
        digest = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        return {"net": self.net, "weights": self.weights.name, "sha256": digest}

    def _rgb(self, picture: Tensor) -> Tensor:
        channels, height, width = picture.shape[1:]
        if channels not in (1, CHANNELS):
            raise InputError(f"LPIPS needs grayscale or RGB pictures; got {channels} channels")
        if min(height, width) < SMALLEST_PX[self.net]:
            raise InputError(
                f"LPIPS with {self.net} needs pictures of at least {SMALLEST_PX[self.net]} px; "
                f"got {height} x {width} px"
            )
        return picture.float().expand(-1, CHANNELS, -1, -1)


class LpipsScores(Figures):
    """LPIPS of every output to its target; its settings are the network, an `Lpips`, once prepared."""

    name = "lpips"
    shown: ClassVar = {"lpips": ("LPIPS", "", 3, "low")}

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add `--lpips-net` and `--lpips-weights`."""
        about = "backbone (default: %(default)s)"
        parser.add_argument("--lpips-net", choices=NETS, default="alex", help=about)
        about = "torchvision state dict of that backbone, for machines without network"
        parser.add_argument("--lpips-weights", type=Path, metavar="FILE", help=about)

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return backbone and weights."""
        if not named and args.lpips_weights:
            raise InputError("--lpips-weights: LPIPS is not measured; expected --quality lpips with it")
        return {"net": args.lpips_net, "weights": args.lpips_weights} if named else None

    @classmethod
    def fit(cls, settings: Any, *, inputs: int, outputs: int) -> tuple[Any, str]:
        """Leave it out for what is neither grayscale nor RGB."""
        if outputs in (1, CHANNELS):
            return settings, ""
        return None, f"lpips: needs grayscale or RGB outputs, not {outputs} channels"

    @classmethod
    def prepare(cls, settings: Any, device: str) -> Any:
        """Load the network."""
        return Lpips(settings["net"], weights=settings["weights"], device=device)

    @classmethod
    def identity(cls, settings: Any) -> Any:
        """Return the origin of the weights."""
        return settings.describe()

    def figures(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return `lpips`."""
        return dict(self.settings(output, target))

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return the origin of the weights."""
        return {"lpips": settings.describe()}


def _network_of_torchvision(net: str) -> nn.Module:
    try:
        return _build(net, random_backbone=False)
    except (OSError, RuntimeError) as error:  # no network, a full disk; a download whose hash is wrong
        raise InputError(
            f"LPIPS: the weights of {TORCHVISION_NAMES[net]} cannot be downloaded ({error}); expected "
            "network, or a torchvision state dict by --lpips-weights"
        ) from None


def _network_of_file(net: str, path: Path) -> nn.Module:
    from steadypix.gen.weights.pickles import read_state

    state = read_state(path, f"expected torchvision's {TORCHVISION_NAMES[net]} as a state dict")
    network = _build(net, random_backbone=True)
    backbone: Any = network.net
    backbone.load_state_dict(to_slices(state, backbone.state_dict(), path, net))
    return network


def _build(net: str, *, random_backbone: bool) -> nn.Module:
    from steadypix.eval.torchvision_shim import import_torchvision

    import_torchvision("torchvision.models")
    import torch
    from lpips import LPIPS

    # Building draws weights that are overwritten; nobody else's random numbers shall change by it.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # The lpips package still passes arguments that torchvision warns of.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models\._utils")
        network: nn.Module = LPIPS(net=net, pnet_rand=random_backbone, verbose=False)
    return network


def to_slices(
    state: Mapping[str, Any], backbone: Mapping[str, Any], path: Path, net: str
) -> dict[str, Tensor]:
    """Return torchvision's weights under the names of lpips: `features.N.p` as `sliceK.N.p`.

    Every key of `backbone`, lpips's own state dict, must be in `state`, whose classifier is not needed.

    Raises:
        InputError: naming the first key that is missing, left over, or of another shape.
    """
    expected = f"expected torchvision's {TORCHVISION_NAMES[net]} for --lpips-net {net}"
    sources = {re.sub(r"^slice\d+\.", "features.", key): key for key in backbone}
    for source, key in sources.items():
        if source not in state:
            raise InputError(f"{path}: has no {source}; {expected}")
        if state[source].shape != backbone[key].shape:
            shapes = [tuple(weights[k].shape) for weights, k in ((state, source), (backbone, key))]
            raise InputError(f"{path}: {source} is {shapes[0]}, not {shapes[1]}; {expected}")
        if not state[source].float().isfinite().all():
            raise InputError(f"{path}: {source} is not finite; {expected}")
    for source in state:
        if source.startswith("features.") and source not in sources:
            raise InputError(f"{path}: has {source}, which the backbone has not; {expected}")
    return {key: state[source] for source, key in sources.items()}
