"""The command `generate`: run a generator on pictures and folders of any size."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.checkpoints.inputs import collect
from steadypix.command import Parser, add_common_options, command, pick_device, positive
from steadypix.errors import InputError, one_line
from steadypix.eval.generators.formats import KINDS, TRUST
from steadypix.files import prepare_output
from steadypix.gen.networks.tiles import run_tiled
from steadypix.progress import progress

if TYPE_CHECKING:
    import argparse

    import numpy as np
    import torch
    from torch import nn

    from steadypix.gen.large.strips import Strips

MIN_TILE_PX = 32
CHANNELS_AT_ONCE = 16  # a strip of a map holds as many samples as a tile with so many channels


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="generate", description="Translate pictures with a trained generator.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=KINDS)
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
        help="for pictures too large at once: work on about PX x PX px at a time; the result is the same",
    )
    parser.add_argument(
        "--statistics",
        default="picture",
        metavar="picture|first|tile|FILE",
        help="what norms go by: each picture as a whole; the first picture, for frames of a film; a file of "
        "`steadypix statistics`; tile, with --tile: each of overlapping tiles, which are blended, for "
        "programs and ONNX (default: %(default)s)",
    )
    parser.add_argument("--trust", action="store_true", help=TRUST)
    add_common_options(parser, batch_size=8)
    return parser


@command("generate")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code: 2 if any picture could not be read."""
    args = build_parser().parse(argv)
    if args.tile and args.tile < MIN_TILE_PX:
        raise InputError(f"--tile {args.tile}: expected at least {MIN_TILE_PX} px")
    if args.statistics == "tile" and not args.tile:
        raise InputError("--statistics tile: expected --tile PX with it")
    prepare_output(args.out)
    files = collect(args.inputs)

    from steadypix.data.pictures.images import read_image
    from steadypix.data.pictures.saving import save_image, suffix_for
    from steadypix.eval.generators.loading import load_generator
    from steadypix.gen.kernels.allocator import keep_freed_memory
    from steadypix.gen.large.frozen import freeze, gather, load_statistics, looking_norms
    from steadypix.gen.large.strips import NotInStrips

    keep_freed_memory()
    device = pick_device(args.device)
    generator = load_generator(args.checkpoint, device, trust=args.trust)
    if args.statistics not in ("picture", "first", "tile"):
        freeze(generator, load_statistics(Path(args.statistics), generator))
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
        picture = as_input(pixels, device, args)
        try:
            if args.statistics == "first" and looking_norms(generator):  # none is left once they are frozen
                freeze(generator, gather(generator, [picture]))
            made = translate(generator, picture, args)
        except NotInStrips as error:
            raise InputError(
                f"{args.checkpoint}: --tile cannot run {error}; expected --statistics tile"
            ) from None
        except InputError as error:  # a program that takes pictures of another size
            raise InputError(f"{args.checkpoint} on {file}: {error}") from None
        if made is None:
            raise InputError(
                f"{args.checkpoint}: makes an output of {file} that is not finite (NaN or infinity)"
            )
        save_image(out, made)
    print(f"wrote {len(files) - failures} of {len(files)} pictures to {args.out}", file=sys.stderr)
    return 2 if failures else 0


def as_input(pixels: np.ndarray, device: str, args: argparse.Namespace) -> torch.Tensor | Strips:
    """Return a picture (H, W, C) as a generator takes it: whole, or with `--tile` in strips."""
    from steadypix.data.pictures.transforms import to_tensor
    from steadypix.gen.large.strips import Strips, Workspace

    if not args.tile or args.statistics == "tile":
        return to_tensor(pixels)[None].to(device)
    height, width, channels = pixels.shape
    return Strips(
        lambda top, bottom: to_tensor(pixels[top:bottom])[None].to(device),
        (1, channels, height, width),
        to_tensor(pixels[:1, :1]).to(device),
        Workspace(strip_samples=CHANNELS_AT_ONCE * args.tile**2),
        stored=True,
    )


def translate(
    generator: nn.Module, picture: torch.Tensor | Strips, args: argparse.Namespace
) -> np.ndarray | None:
    """Return a generator's output (H, W, C) of one picture, None if it is not finite.

    Args:
        generator: maps (B, C, H, W) to (B, C', H', W').
        picture: from `as_input`.
        args: the command's `tile`, `bits`, `batch_size`.

    Raises:
        NotInStrips: if the picture is in strips and the generator cannot be run so.
    """
    import numpy as np
    import torch

    from steadypix.data.pictures.transforms import to_pixels
    from steadypix.gen.large.strips import run_in_strips

    with torch.inference_mode():
        if not isinstance(picture, torch.Tensor):
            outputs = run_in_strips(generator, picture, picture.workspace)
        elif args.tile:
            outputs = iter([run_tiled(generator, picture, args.tile, args.batch_size)])
        else:
            outputs = iter([generator(picture)])
        made = []
        for output in outputs:
            if not output.isfinite().all():
                return None
            made.append(to_pixels(output[0], args.bits))
    return np.concatenate(made)


if __name__ == "__main__":
    sys.exit(main())
