"""Flip rates along small perturbations, after ImageNet-P (Hendrycks and Dietterich 2019, section 3.3).

A sequence is one picture, a little more perturbed from frame to frame. What counts is how often the class
changes from one frame to the next; in noise, whose frames have no order, from the first frame.

| kind | a frame to the next |
|---|---|
| noise | Gaussian noise of standard deviation 0.04, drawn anew |
| translate | the window moves by 1 px along the diagonal over the canvas |
| rotate | 1 degree about the window's centre, from -8 to 8 |
| scale | 1 % larger about the window's centre, from 1 to 1.16 |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from steadypix.data.labelled.labelled import Labelled
from steadypix.errors import InputError
from steadypix.eval.classifiers.corruptions import picture_seed, to_bytes
from steadypix.eval.metrics.perturb_kinds import enlarge, rotate, warp
from steadypix.eval.shifts.protocols import Protocol

FRAMES = 17
SIGMA = 0.04
SEQUENCES = ("noise", "translate", "rotate", "scale")


def sequence(canvas: Tensor, kind: str, protocol: Protocol, *, seed: int = 0) -> Tensor:
    """Return the frames (N, C, H, W) uint8 of a picture's canvas (C, S, S) uint8.

    `translate` has a frame for each place of the window along the diagonal, the others have `FRAMES`.

    Raises:
        InputError: for an unknown kind, or if there is no room to translate.
    """
    if kind == "noise":
        generator = torch.Generator().manual_seed(seed)
        base = protocol.base(canvas).float() / 255
        noise = torch.randn(FRAMES, *base.shape, generator=generator)
        return to_bytes(base + SIGMA * noise)
    if kind == "translate":
        if len(protocol.room) < 2:
            raise InputError(f"translate: the {protocol.window_px} px window has no room on its canvas")
        return torch.stack([protocol.shifted(canvas, (shift, shift)) for shift in protocol.room])
    if kind == "rotate":
        matrices = [rotate(degrees) for degrees in np.linspace(-8, 8, FRAMES)]
    elif kind == "scale":
        matrices = [enlarge(factor) for factor in np.linspace(1, 1.16, FRAMES)]
    else:
        raise InputError(f"perturbation {kind!r} is unknown; expected one of {', '.join(SEQUENCES)}")
    picture = canvas[None].double() / 255
    where = {"window_px": protocol.window_px, "origin_px": protocol.origin_px}
    frames = [warp(picture, matrix, **where, padding="reflection") for matrix in matrices]
    return to_bytes(protocol.base(torch.cat(frames)))


def flip_rates(
    predict: Callable[[Tensor], Tensor], pictures: Labelled, protocol: Protocol, *, seed: int = 0
) -> dict[str, float]:
    """Return kind -> how often the class changes, in [0, 1], over all pictures and frames.

    `predict` takes windows (B, C, H, W) uint8 to classes (B,); `protocol` cuts them; `seed` is of the noise.
    """
    rates = {}
    for kind in SEQUENCES:
        flips = []
        for index in range(len(pictures)):
            canvas = pictures.canvas(index, protocol.canvas_px)
            found = predict(sequence(canvas, kind, protocol, seed=picture_seed(seed, index)))
            changed = found[1:] != (found[:1] if kind == "noise" else found[:-1])
            flips.append(changed.double().mean().item())
        rates[kind] = float(np.mean(flips))
    return rates
