"""Pictures as a run saw them: `generate --resize`, and `generate --data`, a split and a page of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.data.pictures.sizing import RULES, rule_words
from steadypix.errors import InputError, one_line, printable
from steadypix.json_checks import LARGEST_PX

if TYPE_CHECKING:
    import argparse

    import torch
    from torch import nn

    from steadypix.command import Parser
    from steadypix.data.pictures.inputs import InputPicture
    from steadypix.eval.generators.models import Model
    from steadypix.eval.report.gallery import Shown

TITLES = ("input", "output", "target")
BY_ORDER = ("tile", "sequence", "film")  # what takes pictures as they are


def add_options(parser: Parser) -> None:
    """Add the options of this file."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="translate a data set instead of INPUTs, as the generator was trained (direction, sizes), and "
        "write index.html, a page of inputs, outputs and targets",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="with --data: which folder of it (default: the run's validation split)",
    )
    parser.add_argument(
        "--resize",
        choices=RULES,
        help="bring pictures to the size of the training: squares; the shorter side; none: as they are "
        "(default: as trained with --data, or with data.resize keep; else none)",
    )


def check(args: argparse.Namespace) -> None:
    """Check the options on data sets and sizes, `args.film` among them.

    Raises:
        InputError: saying what was expected.
    """
    if bool(args.inputs) == bool(args.data):
        got = "both" if args.data else "neither"
        raise InputError(f"expected INPUT pictures or --data DIR; got {got}")
    if args.split and not args.data:
        raise InputError(f"--split {args.split}: expected --data DIR with it")
    for name in BY_ORDER if args.data or args.resize else ():
        if getattr(args, name):
            option = "--data" if args.data else "--resize"
            raise InputError(f"{option}: is not for {'films' if name == 'film' else f'--{name}'}")
    if args.data:
        folders = [Path(args.data), *(Path(args.data, f"{args.split}{end}") for end in ("", "A", "B"))]
        if args.out.resolve() in [folder.resolve() for folder in folders]:
            raise InputError(f"--out {args.out}: holds the pictures themselves; expected another folder")


def sizing(args: argparse.Namespace, config: Mapping[str, Any]) -> tuple[str, int]:
    """Return the rule by which INPUTs are resized, and the load size; say it on stderr beside the training's.

    A generator that was trained on squares takes pictures as they are, unless `--resize` says other: what it
    makes of a photo keeps the photo's shape.
    """
    data = config.get("data")
    trained = data if isinstance(data, Mapping) and _is_side(data.get("load_size")) else {}
    rule = str(trained.get("resize", "square"))
    as_they_are = rule != "keep" or any(getattr(args, name) for name in BY_ORDER)
    own = args.resize or ("none" if as_they_are else rule)
    if own != "none" and not trained:
        raise InputError(f"--resize {own}: {args.checkpoint} does not know its load size; expected none")
    size = trained.get("load_size", 0)
    how = "as they are" if own == "none" else rule_words(own, size)
    line = f"{args.checkpoint}: {trained.get('direction', 'direction unknown')}, pictures {how}"
    if trained.get("root"):
        learnt = rule_words(rule, size) if rule in RULES else "of unknown size"
        line += f"; trained on windows of {trained.get('crop_size')} px, pictures {learnt}"
    print(line, file=sys.stderr)
    return own, size


def resized(picture: InputPicture, rule: str, size: int) -> InputPicture:
    """Return a picture, and its alpha, resized by one of `RULES`."""
    from steadypix.data.pictures.transforms import resize

    alpha = None if picture.alpha is None else resize(picture.alpha[..., None], size, rule)[..., 0]
    return replace(picture, pixels=resize(picture.pixels, size, rule), alpha=alpha)


def translate_split(
    args: argparse.Namespace,
    generator: nn.Module,
    device: str,
    suffix: str,
    translate: Callable[[torch.Tensor], torch.Tensor],
) -> int:
    """Translate the pictures of a split and write their page; return the exit code.

    Args:
        args: the command's.
        generator: as loaded; its `.config` says direction, sizes and channels.
        device: where it is.
        suffix: of the outputs' files.
        translate: maps an input (1, C, H, W) in [-1, 1] to the output.

    Raises:
        InputError: if there are no pictures, or an output is not finite.
    """
    from steadypix.eval.measure.sources import open_data
    from steadypix.eval.report.gallery import write_gallery
    from steadypix.progress import progress

    model = _as_model(args.checkpoint, generator)
    pairs, data = open_data([model], source=args.data, split=args.split, limit=None, resize=args.resize)
    rule = data.get("resize")
    how = rule_words(rule, data["canvas_px"]) if rule else f"rendered at {data['canvas_px']} px"
    where = f"{data['source']}" + (f" ({data['split']})" if data["split"] else "")
    print(
        f"{args.checkpoint}: {data['direction']}, {len(pairs)} pictures of {where} {how}; trained on "
        f"windows of {data['window_px']} px",
        file=sys.stderr,
    )
    for remark in data["remarks"]:  # the second half of which names options of eval_stability
        print(printable(remark.partition(";")[0]), file=sys.stderr)
    names = _distinct([pairs.name(index) for index in range(len(pairs))])
    if not args.overwrite:
        _refuse_foreign(args.out, names, suffix)
    shown: list[Shown] = []
    for index, name in enumerate(progress(names, len(names))):
        try:
            source, target = pairs.whole(index)
        except InputError as error:
            print(f"generate: error: {one_line(error)}", file=sys.stderr)
            continue
        output = translate(source[None].to(device))[0]
        if not output.isfinite().all():
            raise InputError(f"{args.checkpoint}: makes an output of {pairs.name(index)} that is not finite")
        shown.append(_write(args, name, suffix, source, output, target if pairs.has_targets else None))
    facts = [("direction", str(data["direction"])), ("pictures", f"{len(shown)} of {where}, {how}")]
    page = write_gallery(args.out, model.name, facts, shown)
    print(f"wrote {len(shown)} of {len(pairs)} pictures to {args.out}, shown by {page}", file=sys.stderr)
    return 0 if len(shown) == len(pairs) else 2


def _write(
    args: argparse.Namespace,
    name: str,
    suffix: str,
    source: torch.Tensor,
    output: torch.Tensor,
    target: torch.Tensor | None,
) -> Shown:
    """Write a picture's files, the output itself and what the page shows, and return how it is shown."""
    from steadypix.data.pictures.saving import save_image
    from steadypix.data.pictures.transforms import to_pixels
    from steadypix.eval.metrics.quality import l1
    from steadypix.eval.report.gallery import Shown

    save_image(args.out / f"{name}{suffix}", to_pixels(output, args.bits))
    files = []
    for title, picture in zip(TITLES, (source, output, target), strict=True):
        if picture is None:
            continue
        if title == "output" and suffix == ".png":
            files.append((title, f"{name}{suffix}"))
            continue
        # What a browser can show: the first three channels, or the first as gray.
        channels = 3 if picture.shape[0] >= 3 else 1
        save_image(args.out / title / f"{name}.png", to_pixels(picture[:channels]))
        files.append((title, f"{title}/{name}.png"))
    height, width = output.shape[-2:]
    distance = None
    if target is not None and target.shape == output.shape:
        distance = l1(output.cpu(), target)
    return Shown(name, files, width, height, distance)


def _as_model(checkpoint: str, generator: nn.Module) -> Model:
    """Return a loaded generator as evaluations know them.

    Raises:
        InputError: if what its file says of its data could not be used.
    """
    from steadypix.eval.generators.loading import find_generator
    from steadypix.eval.generators.models import Model, check_data, short_names

    file, kind = find_generator(checkpoint)
    config: Any = generator.config
    if kind == "steadypix" or "root" in config.get("data", {}):
        check_data(file, config)
    return Model(short_names([file])[0], file, "", generator, config, kind)


def _refuse_foreign(out: Path, names: Sequence[str], suffix: str) -> None:
    """Refuse to write over what is not ours: pictures, or a page."""
    from steadypix.data.pictures.saving import OVERWRITE, refuse_foreign
    from steadypix.eval.report.gallery import GALLERY, MARK

    refuse_foreign((out / f"{name}{suffix}" for name in names), expected=OVERWRITE)
    shown = (out / title / f"{name}.png" for title in TITLES for name in names)
    refuse_foreign(shown, expected=OVERWRITE)
    page = out / GALLERY
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{page}: is there, and is no page of generate; expected {OVERWRITE}")


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, numbered where one returns: two pictures may differ in their suffix alone."""
    distinct: dict[str, None] = {}
    for name in names:
        number, free = 1, name
        while free in distinct:
            number += 1
            free = f"{name}-{number}"
        distinct[free] = None
    return list(distinct)


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_PX
