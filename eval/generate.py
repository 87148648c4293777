"""The command `generate`: run a generator on pictures and folders of any size."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.command import (
    Parser,
    add_common_options,
    command,
    one_line,
    pick_device,
    positive,
    progress,
)
from data.errors import InputError
from eval.results import prepare_output

if TYPE_CHECKING:
    from torch import Tensor, nn

MIN_TILE_PX = 32


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="generate", description="Translate pictures with a trained generator.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="run directory or .safetensors file")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="pictures or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where NAME.png is written")
    parser.add_argument(
        "--bits", type=int, choices=(8, 16), default=8, help="a channel of the output (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=("png", "tiff"),
        help="of the output (default: png for grayscale and RGB, else tiff as NAME.tif)",
    )
    parser.add_argument(
        "--tile",
        type=positive,
        metavar="PX",
        help="work in overlapping tiles, for pictures too large at once",
    )
    add_common_options(parser, batch_size=8)
    return parser


@command("generate")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code: 2 if any picture could not be read."""
    args = build_parser().parse(argv)
    if args.tile and args.tile < MIN_TILE_PX:
        raise InputError(f"--tile {args.tile}: expected at least {MIN_TILE_PX} px")
    prepare_output(args.out)
    files = collect(args.inputs)

    import torch

    from data.images import read_image
    from data.saving import save_image, suffix_for
    from data.transforms import to_pixels, to_tensor
    from gen.allocator import keep_freed_memory
    from gen.checkpoint import load_generator

    keep_freed_memory()
    device = pick_device(args.device)
    generator = load_generator(args.checkpoint, device)
    config: Any = generator.config
    channels = config["generator"].get("in_channels", 3)
    suffix = suffix_for(config["generator"].get("out_channels", 3), args.format)
    outputs = {args.out / f"{stem}{suffix}": file for stem, file in files.items()}
    for out, file in outputs.items():
        if out.resolve() == file.resolve():
            raise InputError(f"{file}: would be overwritten by its own output; expected another --out")
    failures = 0
    for out, file in progress(outputs.items(), len(outputs)):
        try:
            pixels = read_image(file, channels)
        except InputError as error:
            print(f"generate: error: {one_line(error)}", file=sys.stderr)
            failures += 1
            continue
        x = to_tensor(pixels)[None].to(device)
        with torch.inference_mode():
            output = run_tiled(generator, x, args.tile, args.batch_size) if args.tile else generator(x)
        if not output.isfinite().all():
            raise InputError(
                f"{args.checkpoint}: makes an output of {file} that is not finite (NaN or infinity)"
            )
        save_image(out, to_pixels(output[0], args.bits))
    print(f"wrote {len(files) - failures} of {len(files)} pictures to {args.out}", file=sys.stderr)
    return 2 if failures else 0


def collect(inputs: Sequence[Path]) -> dict[str, Path]:
    """Return the picture files behind files and folders, by the name their output gets.

    Raises:
        InputError: if one is missing, a folder holds no picture, or two would write the same output.
    """
    from data.paired import list_images

    files: dict[str, Path] = {}
    for item in inputs:
        found = list_images(item) if item.is_dir() else [item]
        if not found:
            raise InputError(f"{item}: holds no images")
        for file in found:
            if not file.exists():
                raise InputError(f"{file}: no such file; expected a picture or a folder of them")
            if file.stem in files:
                raise InputError(f"{file}: would overwrite the output of {files[file.stem]}; rename one")
            files[file.stem] = file
    return files


def run_tiled(generator: nn.Module, x: Tensor, tile_px: int, batch_size: int) -> Tensor:
    """Run a generator on overlapping tiles and blend them with linear ramps.

    Tiles overlap by a quarter of their side at least. A network with instance norm sees each tile by
    itself, so tiles may differ in tone; the ramps hide the seam, not the difference.

    Args:
        generator: maps (B, C, h, w) to (B, C', h, w).
        x: (1, C, H, W) in [-1, 1].
        tile_px: side of a tile.
        batch_size: tiles in one forward pass.

    Returns:
        (1, C', H, W) in [-1, 1].
    """
    import torch

    height, width = x.shape[-2:]
    tile_y, tile_x = min(tile_px, height), min(tile_px, width)
    places = [(top, left) for top in starts(height, tile_y) for left in starts(width, tile_x)]
    weight = ramp(tile_y)[:, None] * ramp(tile_x)[None, :]
    weight = weight.to(x)
    total: Tensor | None = None
    weights = torch.zeros(1, 1, height, width, device=x.device, dtype=x.dtype)
    for first in range(0, len(places), batch_size):
        chunk = places[first : first + batch_size]
        outputs = generator(
            torch.cat([x[..., top : top + tile_y, left : left + tile_x] for top, left in chunk])
        )
        if total is None:
            total = outputs.new_zeros(1, outputs.shape[1], height, width)
        for (top, left), output in zip(chunk, outputs, strict=True):
            area = (..., slice(top, top + tile_y), slice(left, left + tile_x))
            total[area] += output * weight
            weights[area] += weight
    assert total is not None
    return total / weights


def starts(size: int, tile: int) -> list[int]:
    """Return evenly spread tile positions that cover `size` px with an overlap of at least a quarter."""
    if tile >= size:
        return [0]
    step = tile - tile // 4
    count = -(-(size - tile) // step) + 1
    return [round(place * (size - tile) / (count - 1)) for place in range(count)]


def ramp(size: int) -> Tensor:
    """Return weights (size,) that rise over the first quarter and fall over the last, never 0."""
    import torch

    distance = torch.minimum(torch.arange(size), torch.arange(size).flip(0)) + 1.0
    return (distance / max(size // 4, 1)).clamp(max=1.0)


if __name__ == "__main__":
    sys.exit(main())
