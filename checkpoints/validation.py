"""What a training run looks at along the way: a few figures and a sheet of pictures."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from steadypix.eval.metrics.forward import eval_mode, run_windows
from steadypix.eval.metrics.quality import quality
from steadypix.eval.metrics.stability import shift_stability
from steadypix.eval.shifts.protocols import Crop
from steadypix.files import write_whole

if TYPE_CHECKING:
    from torch import nn

    from steadypix.data.pairs.base import Pairs

SHIFTS_PX = (1, 3)  # enough to follow a run; eval_stability measures properly


def validate(generator: nn.Module, pairs: Pairs, *, limit: int) -> dict[str, float | None]:
    """Measure a generator on the first pairs of a set.

    Args:
        generator: maps inputs to outputs in [-1, 1]; given back in the mode it came in.
        pairs: validation pairs.
        limit: number of pairs at most.

    Returns:
        Means over pairs: `val_l1`, `val_tv`, `val_target_tv` on [0, 1], `val_tv_ratio`, the one TV over the
        other (None if the targets are flat), and `val_stability_db`, the odd-shift mean of protocol `crop`
        with a margin of an eighth of the window (None if the load size leaves no room to shift).
    """
    window = Crop(pairs.load_size, pairs.crop_size)
    device = next(generator.parameters()).device
    canvases = list(pairs.canvases(limit))
    rows = []
    with eval_mode(generator):
        for source, target in canvases:
            inputs = [window.base(source[None].to(device))]
            output = next(run_windows(generator, inputs, batch_size=1))
            rows.append(quality(output, window.base(target[None].to(device))))
    figures: dict[str, float | None] = {
        f"val_{key}": sum(row[key] for row in rows) / len(rows) for key in ("l1", "tv", "target_tv")
    }
    tv, target_tv = figures["val_tv"], figures["val_target_tv"]
    figures["val_tv_ratio"] = tv / target_tv if tv is not None and target_tv else None
    shifts = [shift for shift in SHIFTS_PX if shift <= window.origin_px]
    figures["val_stability_db"] = None
    if shifts:
        margin = pairs.crop_size // 8
        sources = (source[None] for source, _ in canvases)
        stability = shift_stability(
            generator, sources, window_px=pairs.crop_size, shifts=shifts, margins_px=[margin]
        )
        figures["val_stability_db"] = stability.odd_mean_db(margin)
    return figures


def draw_samples(generator: nn.Module, pairs: Pairs, path: Path, *, count: int = 4) -> None:
    """Write a sheet of the first pairs: a row each of input, output and target.

    Args:
        generator: maps inputs to outputs in [-1, 1]; given back in the mode it came in.
        pairs: where the inputs come from.
        path: the PNG to write; its folder is made.
        count: number of rows.
    """
    import torch
    from PIL import Image

    from steadypix.data.pictures.transforms import to_pixels
    from steadypix.eval.torchvision_shim import import_torchvision

    window = Crop(pairs.load_size, pairs.crop_size)
    device = next(generator.parameters()).device
    tiles = []
    with eval_mode(generator):
        for canvas in pairs.canvases(count):
            source, target = (window.base(half[None]) for half in canvas)
            output = next(run_windows(generator, [source.to(device)], batch_size=1)).cpu()
            # What can be shown: the first three channels, or the first as gray.
            tiles += [
                tile[:, :3] if tile.shape[1] >= 3 else tile[:, :1].expand(-1, 3, -1, -1)
                for tile in (source, output, target)
            ]
    make_grid = import_torchvision("torchvision.utils").make_grid
    image = Image.fromarray(to_pixels(make_grid(torch.cat(tiles), nrow=3, padding=2, pad_value=1)))
    write_whole(path, functools.partial(image.save, format="PNG"))
