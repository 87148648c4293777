"""A trained generator and what is made of it: an anti-aliased network with the same weights, and its file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steadypix.errors import InputError
from steadypix.eval.generators.formats import FORMATS, require_trust
from steadypix.eval.generators.loading import find_generator, load_network
from steadypix.eval.generators.models import code, digest
from steadypix.eval.generators.programs import Program
from steadypix.eval.generators.retrofitted import rewrite, save_retrofitted
from steadypix.gen.weights.generators import ARCHITECTURES, save_generator, take_weights

SLOPE = 0.2  # of the head's leaky ReLUs
HEAD = 16  # channels of a new one, as in the recipes


@dataclass(frozen=True)
class Rewritten:
    """A network before and after.

    Attributes:
        file: what it came from.
        sha256: of that.
        code_sha256: of the sources of a network that is none of ours, else None.
        teacher: the network as it was, in eval mode.
        network: the anti-aliased one with its weights, in eval mode.
        config: of the result's file: `generator` and `data`.
        seen: samples of the original training; None where its file does not say.
        done: what was changed, in words, one a line.
        builder: `module:function` of a network that is none of ours, else None.
        options: of `antialias` for such a network, and the side of its probe.
    """

    file: Path
    sha256: str
    teacher: nn.Module
    network: nn.Module
    config: dict[str, Any]
    seen: int | None
    done: list[str]
    builder: str | None = None
    options: Mapping[str, Any] | None = None
    code_sha256: str | None = None

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Write the network as it is now, so that every command loads it."""
        if self.builder is None:
            save_generator(path, self.network, config=self.config, provenance=provenance)
        else:
            save_retrofitted(
                path,
                self.network,
                builder=self.builder,
                options=self.options or {},
                config=self.config,
                provenance=provenance,
            )


def load_and_rewrite(
    what: str | Path, *, sampling: str | None, filter: str, texture: bool, trust: bool, window_px: int | None
) -> Rewritten:
    """Load a trained generator and make an anti-aliased one of it.

    Args:
        what: as of `load_generator`.
        sampling: `blur`, `preblur`, or for networks of ours `blur_late`; None is `blur_late` where it can be.
        filter: taps by name.
        texture: give a network of ours texture that moves with the scene, and a head, where it has none.
        trust: also call a `module:function`.
        window_px: side of the window that a network of others is looked at with; None: what its file says.

    Raises:
        InputError: if it cannot be loaded, is no network that can be rewritten, or has nothing to rewrite.
    """
    file, kind = find_generator(what)
    if kind not in ("steadypix", "pix2pix", "callable"):
        raise InputError(
            f"{file}: is {FORMATS[kind]}, whose layers cannot be rewritten; expected {FORMATS['steadypix']}, "
            f"{FORMATS['pix2pix']} or module:function"
        )
    require_trust(file, kind, trust=trust)
    teacher, config = load_network(file, kind, "cpu")
    if kind == "callable":
        return _foreign(file, teacher, config, sampling or "blur", filter, window_px or 256)
    return _own(file, teacher, config, sampling or "blur_late", filter, texture)


def _own(
    file: Path, teacher: nn.Module, config: dict[str, Any], sampling: str, filter: str, texture: bool
) -> Rewritten:
    before = dict(config["generator"])
    after = {**before, "sampling": sampling, "filter": filter}
    if sampling == "blur_late" and before.get("architecture", "unet") == "unet":
        after["late_levels"] = 2
    if texture and before.get("texture", "none") == "none":
        after["texture"] = "anchored"
    if texture and not before.get("head"):
        after["head"] = max(HEAD, 2 * before.get("out_channels", 3))  # see `_keep_picture`
    if after == before:
        raise InputError(f"{file}: is {sampling} {filter} already; expected a network to rewrite")
    arguments = {key: value for key, value in after.items() if key != "architecture"}
    network = ARCHITECTURES[after.get("architecture", "unet")](**arguments)
    take_weights(network, teacher.state_dict(), file)
    if after.get("head") and not before.get("head"):
        _keep_picture(network, teacher)
    seen = getattr(teacher, "provenance", {}).get("seen")
    changed = [
        f"{key} {before.get(key)} -> {value}" for key, value in after.items() if before.get(key) != value
    ]
    return Rewritten(
        file,
        digest(file, teacher),
        teacher,
        network.eval(),
        {**config, "generator": after},
        seen if isinstance(seen, int) and seen > 0 else None,
        changed,
    )


@torch.no_grad()
def _keep_picture(network: nn.Module, teacher: nn.Module) -> None:
    """Let a new head pass on what the last level paints, and new carriers do nothing yet.

    A leaky ReLU f of slope s is undone by a second channel of the opposite sign: f(v) - f(-v) = (1 + s) v.
    The other channels of the head begin as they were drawn, without a say, and learn one.
    """
    parts: Any = network.grown_parts
    first_seen, last_made = parts
    trained = teacher.state_dict()
    place = next(key for key in trained if key.startswith(last_made) and key.endswith(".weight"))
    last: Any = network.get_submodule(place.removesuffix(".weight"))
    weight, bias = trained[place], trained[place.removesuffix("weight") + "bias"]
    paints = last.weight if isinstance(last, nn.Conv2d) else last.weight.transpose(0, 1)
    theirs = weight if isinstance(last, nn.Conv2d) else weight.transpose(0, 1)
    channels = len(theirs)
    paints[: 2 * channels] = torch.cat([theirs, -theirs])
    last.bias[: 2 * channels] = torch.cat([bias, -bias])
    head: Any = network.get_submodule("detail.head")
    undo = torch.eye(channels) / (1 + SLOPE)
    signs = torch.cat([undo, -undo], dim=1)  # v of f(v) and f(-v)
    head.first.weight[: 2 * channels] = 0
    head.first.weight[: 2 * channels, : 2 * channels, 1, 1] = torch.cat([signs, -signs])
    head.first.bias[: 2 * channels] = 0
    head.second.weight.zero_()
    head.second.weight[:, : 2 * channels, 1, 1] = signs
    head.second.bias.zero_()
    seen: Tensor = network.state_dict()[first_seen]
    seen[:, trained[first_seen].shape[1] :] = 0


def _foreign(
    file: Path, teacher: nn.Module, config: dict[str, Any], sampling: str, filter: str, window_px: int
) -> Rewritten:
    if sampling == "blur_late":
        raise InputError("--sampling blur_late: is for networks of ours; expected blur or preblur")
    assert isinstance(teacher, Program)
    bare: Any = teacher.module
    channels = config["generator"].get("in_channels", 3)
    options = {"sampling": sampling, "filter": filter, "probe": [1, channels, window_px, window_px]}
    network = copy.deepcopy(bare)
    try:
        result = rewrite(network, options)
    except ValueError as error:
        raise InputError(f"{file}: cannot be rewritten ({error})") from None
    if not result.changes:
        raise InputError(f"{file}: has nothing to rewrite; {result}".replace("\n", "; "))
    return Rewritten(
        file,
        digest(file, teacher),
        teacher,
        network.eval(),
        config,
        None,
        str(result).splitlines(),
        builder=str(file),
        options=options,
        code_sha256=code(file, "callable", teacher),
    )
