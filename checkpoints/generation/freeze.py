"""The command `steadypix statistics`: what a generator's norms see in a set of pictures, for `generate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.command import Parser, command, pick_device
from steadypix.data.pictures.inputs import collect, read_input
from steadypix.errors import InputError, require_text
from steadypix.eval.generators.formats import KINDS, TRUST
from steadypix.files import prepare_output
from steadypix.progress import progress

if TYPE_CHECKING:
    from torch import Tensor


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(
        prog="steadypix statistics",
        description="Freeze a generator's normalisation; `generate --statistics FILE` goes by it.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=KINDS)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="pictures or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .safetensors")
    parser.add_argument("--trust", action="store_true", help=TRUST)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    return parser


@command("steadypix statistics")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv)
    require_text(args.out, "--out")
    if args.out.suffix != ".safetensors":
        raise InputError(f"--out {args.out}: expected a name that ends in .safetensors")
    files = list(collect(args.inputs).values())
    prepare_output(args.out.parent, only=args.out)

    from steadypix.data.pictures.transforms import to_tensor
    from steadypix.eval.generators.loading import load_generator
    from steadypix.gen.large.frozen import FORMAT, gather, save_statistics
    from steadypix.gen.networks.cost import require_forward
    from steadypix.gen.weights.header import check_header

    if args.out.exists() and check_header(args.out).get("format") != FORMAT:
        raise InputError(f"--out {args.out}: is there, and holds no statistics; expected a new file")
    device = pick_device(args.device)
    generator = load_generator(args.checkpoint, device, trust=args.trust)
    config: Any = generator.config
    channels = config["generator"].get("in_channels", 3)

    def picture(file: Path) -> Tensor:
        pixels = read_input(file, channels).pixels
        if device != "cuda":
            height, width = pixels.shape[:2]
            what = f"{args.checkpoint} ({file})"
            require_forward(config["generator"], width, height, what=what, helps="a smaller picture")
        return to_tensor(pixels)[None].to(device)

    pictures = (picture(file) for file in progress(files, len(files)))
    try:
        statistics = gather(generator, pictures)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{args.checkpoint}: {error}") from None
    save_statistics(args.out, statistics, pictures=len(files))
    print(f"wrote {args.out}, of {len(files)} pictures", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
