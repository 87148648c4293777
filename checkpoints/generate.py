"""The command `generate`: run a generator on pictures and folders of any size."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.checkpoints.generation import split
from steadypix.checkpoints.generation.sequence import Translator, add_options, settle, translate_folder
from steadypix.command import Parser, add_common_options, command, natural, pick_device, positive
from steadypix.data.pictures.inputs import collect, read_input
from steadypix.errors import InputError, one_line
from steadypix.eval.generators.formats import KINDS, TRUST
from steadypix.files import prepare_output
from steadypix.gen.networks.cost import require_forward
from steadypix.gen.networks.tiles import run_tiled
from steadypix.progress import progress

if TYPE_CHECKING:
    import argparse

    import numpy as np
    import torch
    from torch import nn

    from steadypix.data.pictures.inputs import InputPicture
    from steadypix.gen.large.strips import Strips

MIN_TILE_PX = 32
CHANNELS_AT_ONCE = 16  # a strip of a map holds as many samples as a tile with so many channels


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="generate", description="Translate pictures with a trained generator.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=KINDS)
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="pictures or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where NAME.png is written")
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 16, 32),
        default=8,
        help="a channel of the output; 32 are floats, black at 0 and white at 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=("png", "tiff", "exr"),
        help="of the output (default: png for grayscale and RGB, else, and for floats, tiff as NAME.tif)",
    )
    parser.add_argument(
        "--tile",
        type=tile_size,
        metavar="PX|auto",
        help="for pictures too large at once: work on about PX x PX px at a time, or on what memory has room "
        "for; the result is the same, TIFFs are read by rows, and the same command goes on where it stopped",
    )
    parser.add_argument(
        "--statistics",
        metavar="picture|first|sampled|tile|FILE",
        help="what norms go by: each picture as a whole; the first picture, for frames of a film; sampled, "
        "with --tile: a sample of each picture; a file of `steadypix statistics`; tile, with --tile: each of "
        "overlapping tiles, which are blended (default: picture; first for a sequence or film)",
    )
    parser.add_argument(
        "--halo",
        type=halo_size,
        metavar="PX|auto",
        help="with --tile, for ONNX models, programs and what else cannot be run strip by strip: what is cut "
        "off tiles on each side that has a neighbour (default: auto, as far as the generator reaches by a "
        "measurement, at most a quarter of the tile)",
    )
    split.add_options(parser)
    add_options(parser)
    parser.add_argument(
        "--context",
        type=natural,
        metavar="PX",
        help="show the generator PX px more on each side, mirrored from the picture, and cut them "
        "off its output; in a film whose camera moves they move along, so they help little (default: what "
        "it was trained with, data.context_px; 0: none)",
    )
    parser.add_argument(
        "--range",
        metavar="0,1|-1,1|0,255",
        help="of the numbers that a program takes and gives, or IN:OUT (default: what it says, or -1,1)",
    )
    parser.add_argument(
        "--output_key",
        metavar="KEY",
        help="key or place of the picture where a Python network returns a dict or a tuple",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace pictures in DIR that generate did not write, too"
    )
    parser.add_argument("--trust", action="store_true", help=TRUST)
    add_common_options(parser, batch_size=8)
    return parser


@command("generate")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code: 2 if any picture could not be read."""
    args = build_parser().parse(argv, signed=("--range",), intermixed=True)
    settle(args)
    check_tiles(args)
    split.check(args)
    prepare_output(args.out.parent if args.film else args.out, only=args.out if args.film else None)
    files = collect(args.inputs)

    from steadypix.data.pictures.saving import suffix_for
    from steadypix.eval.generators.loading import load_generator
    from steadypix.eval.generators.probe import state
    from steadypix.gen.kernels.allocator import keep_freed_memory
    from steadypix.gen.large.context import WithContext
    from steadypix.gen.large.frozen import freeze, load_statistics

    keep_freed_memory()
    device = pick_device(args.device)
    generator = load_generator(args.checkpoint, device, trust=args.trust)
    state([generator], ranges=args.range, output_key=args.output_key)
    if args.statistics not in ("picture", "first", "sampled", "tile"):
        freeze(generator, load_statistics(Path(args.statistics), generator))
    config: Any = generator.config
    if args.context is None and args.statistics != "tile":
        args.context = config.get("data", {}).get("context_px", 0)
    if args.context:
        generator = WithContext(generator, args.context)
    suffix = suffix_for(config["generator"].get("out_channels", 3), args.format, args.bits)
    if args.data:
        return translate_split(args, generator, device, suffix)
    rule, size = split.sizing(args, config)
    if args.sequence or args.film:
        return translate_in_order(args, generator, device, suffix)
    outputs = {args.out / f"{stem}{suffix}": file for stem, file in files.items()}
    check_outputs(outputs, overwrite=args.overwrite)
    if args.tile and args.statistics != "tile":
        return translate_large(args, generator, device, outputs)
    channels = config["generator"].get("in_channels", 3)

    def read(file: Path) -> InputPicture:
        return split.resized(read_input(file, channels), rule, size)

    return translate_each(args, generator, device, outputs, read)


def translate_each(
    args: argparse.Namespace,
    generator: nn.Module,
    device: str,
    outputs: dict[Path, Path],
    read: Callable[[Path], InputPicture],
) -> int:
    """Translate pictures one by one; return the exit code."""
    from steadypix.data.pictures.saving import save_image
    from steadypix.data.pictures.transforms import to_tensor
    from steadypix.eval.generators.probe import remark
    from steadypix.gen.large.frozen import freeze, gather, looking_norms

    failures = 0
    for out, file in progress(outputs.items(), len(outputs)):
        try:
            given = read(file)
            require_memory(generator, given.pixels, device, args)
        except InputError as error:
            print(f"generate: error: {one_line(error)}", file=sys.stderr)
            failures += 1
            continue
        picture = to_tensor(given.pixels)[None].to(device)
        try:
            if args.statistics == "first" and looking_norms(generator):  # none is left once they are frozen
                freeze(generator, gather(generator, [picture]))
            made = translate(generator, picture, args)
        except InputError as error:  # a program that takes pictures of another size
            raise InputError(f"{args.checkpoint} on {file}: {error}") from None
        if made is None:
            raise InputError(
                f"{args.checkpoint}: makes an output of {file} that is not finite (NaN or infinity)"
            )
        save_image(out, made, given.alpha)
    if said := remark(generator):
        print(f"{args.checkpoint}: {said}", file=sys.stderr)
    print(f"wrote {len(outputs) - failures} of {len(outputs)} pictures to {args.out}", file=sys.stderr)
    return 2 if failures else 0


def tile_size(text: str) -> int | str:
    """Read the side of a tile in px, or `auto`, for argparse."""
    return text if text == "auto" else positive(text)


def halo_size(text: str) -> int | str:
    """Read a halo in px, or `auto`, for argparse."""
    return text if text == "auto" else natural(text)


def check_tiles(args: argparse.Namespace) -> None:
    """Check the options on large pictures.

    Raises:
        InputError: saying what was expected.
    """
    if args.tile == "auto" and (args.statistics == "tile" or args.sequence or args.film):
        what = "--statistics tile" if args.statistics == "tile" else "sequences and films"
        raise InputError(f"--tile auto: is not for {what}; expected --tile PX")
    if isinstance(args.tile, int) and args.tile < MIN_TILE_PX:
        raise InputError(f"--tile {args.tile}: expected at least {MIN_TILE_PX} px")
    if args.halo is not None and (not args.tile or args.statistics == "tile"):
        raise InputError("--halo: is cut off tiles; expected --tile PX with it, and no --statistics tile")
    if args.halo is not None and (args.sequence or args.film):
        raise InputError("--halo: is for single pictures; expected --statistics tile, whose tiles blend")
    if args.statistics == "tile" and args.context:
        raise InputError("--context: is not for --statistics tile, whose tiles overlap; expected one of them")
    if args.statistics in ("tile", "sampled") and not args.tile:
        raise InputError(f"--statistics {args.statistics}: expected --tile PX with it")
    if args.statistics == "sampled" and (args.sequence or args.film):
        raise InputError("--statistics sampled: is for single pictures; expected first or a file")


def check_outputs(outputs: dict[Path, Path], *, overwrite: bool) -> None:
    """Check that nothing is lost by writing `outputs`, which are made of the files they stand for.

    Raises:
        InputError: naming a file that would be lost.
    """
    from steadypix.data.pictures.saving import OVERWRITE, refuse_foreign

    for out, file in outputs.items():
        if out.resolve() == file.resolve():
            raise InputError(f"{file}: would be overwritten by its own output; expected another --out")
    if not overwrite:
        refuse_foreign(outputs, expected=OVERWRITE)


def translate_large(
    args: argparse.Namespace, generator: nn.Module, device: str, outputs: dict[Path, Path]
) -> int:
    """Translate pictures strip by strip; return the exit code."""
    from steadypix.checkpoints.generation.large import LargePictures
    from steadypix.eval.generators.loading import find_generator
    from steadypix.eval.generators.models import identity

    sha = identity(*find_generator(args.checkpoint), generator) + shown_mark(args)
    large = LargePictures(args, generator, digest=sha, device=device, outputs=outputs)
    failures = 0
    for out, file in progress(outputs.items(), len(outputs)):
        try:
            rows = large.open(file)
        except InputError as error:
            print(f"generate: error: {one_line(error)}", file=sys.stderr)
            failures += 1
            continue
        large.translate(file, rows, out)
    large.finish()
    print(f"wrote {len(outputs) - failures} of {len(outputs)} pictures to {args.out}", file=sys.stderr)
    return 2 if failures else 0


def translate_split(args: argparse.Namespace, generator: nn.Module, device: str, suffix: str) -> int:
    """Translate a data set as the generator was trained; return the exit code."""
    import torch

    from steadypix.gen.large.frozen import freeze, gather, looking_norms

    @torch.inference_mode()
    def run(picture: torch.Tensor) -> torch.Tensor:
        if args.statistics == "first" and looking_norms(generator):
            freeze(generator, gather(generator, [picture]))
        output: torch.Tensor = generator(picture)
        return output

    return split.translate_split(args, generator, device, suffix, run)


def translate_in_order(args: argparse.Namespace, generator: nn.Module, device: str, suffix: str) -> int:
    """Translate the frames of a folder or a film as one sequence; return the exit code."""
    from steadypix.eval.generators.loading import find_generator
    from steadypix.eval.generators.models import identity

    config: Any = generator.config
    shape = config["generator"]

    def prepared(pixels: np.ndarray) -> torch.Tensor | Strips:
        require_memory(generator, pixels, device, args)
        return as_input(pixels, device, args)

    translator = Translator(
        args.checkpoint,
        generator,
        shape.get("in_channels", 3),
        prepared,
        lambda picture: translate(generator, picture, args),
    )
    sha = identity(*find_generator(args.checkpoint), generator) + shown_mark(args)
    origin = {"digest": sha, "device": device}
    if not args.film:
        return translate_folder(args, translator, suffix=suffix, **origin)
    from steadypix.checkpoints.generation.film import translate_film

    return translate_film(args, translator, out_channels=shape.get("out_channels", 3), **origin)


def shown_mark(args: argparse.Namespace) -> str:
    """Return what tells how a generator is run from how else it could be, for runs that are gone on with."""
    context = f" with {args.context} px of context" if args.context else ""
    told = "".join(f" {name} {text}" for name in ("range", "output_key") if (text := getattr(args, name)))
    return context + told


def as_input(pixels: np.ndarray, device: str, args: argparse.Namespace) -> torch.Tensor | Strips:
    """Return a picture (H, W, C) as a generator takes it: whole, or with `--tile` in strips."""
    from steadypix.data.pictures.transforms import to_tensor
    from steadypix.gen.large.strips import Strips
    from steadypix.gen.large.workspace import Workspace

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


def require_memory(generator: nn.Module, pixels: np.ndarray, device: str, args: argparse.Namespace) -> None:
    """Check that a generator may take a picture (H, W, C), whole or by the tiles of `--statistics tile`.

    Raises:
        TooLargeError: saying what helps.
    """
    if device == "cuda" or (args.tile and args.statistics != "tile"):  # memory of its own; strips say theirs
        return
    config: Any = generator.config
    context = args.context or 0
    height, width = (min(side, args.tile or side) + 2 * context for side in pixels.shape[:2])
    count = args.batch_size if args.tile and max(pixels.shape[:2]) > args.tile else 1
    helps = "a smaller --tile or --batch_size" if args.tile else "a smaller picture, or --tile auto"
    require_forward(
        config["generator"],
        width,
        height,
        what=args.checkpoint,
        helps=f"{helps}, or less --context" if context else helps,
        at_once=count,
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
