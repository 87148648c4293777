"""The command `eval_features`: where in a network equivariance to shifts is lost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steadypix.command import Parser, add_common_options, command, pick_device, positive, version
from steadypix.errors import InputError
from steadypix.eval.classifiers.loading import load_with_pictures
from steadypix.eval.classifiers.pages import feature_table, write_features
from steadypix.eval.classifiers.subjects import (
    Subject,
    classifier_subject,
    generator_subject,
    measure_subject,
)
from steadypix.eval.generators.formats import CALLABLE, TRUST
from steadypix.eval.shifts.offsets import is_whole, parse_shifts
from steadypix.files import prepare_output
from steadypix.progress import progress

DESCRIPTION = """Measure the internal feature distance of classifiers or generators: for every layer and every
circular shift (dx, dy), how far the layer's map for the shifted input is from its shifted map."""
SCHEMA_VERSION = 1
KEPT = 18  # times a forward pass: the maps of all layers are held, and what they are compared in


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_features", description=DESCRIPTION)
    add = parser.add_argument
    about = (
        "classifiers: a run or .safetensors file, resnet18 (torchvision's weights), resnet18=FILE.pth, a "
        "function that returns a network (timm.models:resnet18, package.module:function=FILE.pth); or "
        "generators: a run or .safetensors file, latest_net_G.pth, package.module:function, the name of a "
        "released one such as facades-blur"
    )
    add("models", nargs="+", metavar="MODEL", help=about)
    about = "pictures (default: those the network was trained on, if it is a run of ours)"
    add("--data", metavar="DIR", help=about)
    add("--split", help="folder name, or of Fashion-MNIST train or test")
    add("--shifts", default="0..7", help="px, along x and y alike (default: %(default)s)")
    about = "use the first N pictures (default: %(default)s)"
    add("--limit", type=positive, default=8, metavar="N", help=about)
    about = "measure modules N names deep: 2 is blocks"
    add("--depth", type=positive, default=2, metavar="N", help=about)
    about = "let convs and pools wrap around, so that sampling alone breaks equivariance; or as trained"
    add("--borders", choices=("circular", "own"), default="circular", help=about)
    add("--out", type=Path, default=Path("results/features"), metavar="DIR")
    add("--trust", action="store_true", help=TRUST)
    add_common_options(parser, batch_size=8, without=("workers", "seed"))
    return parser


@command("eval_features")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    args = build_parser().parse(argv, signed=["--shifts"])
    shifts = parse_shifts(args.shifts)
    if not all(is_whole((shift, 0)) for shift in shifts):
        raise InputError(f"--shifts {args.shifts}: features are shifted by whole px")
    whole = [int(shift) for shift in shifts]
    prepare_output(args.out)

    device = pick_device(args.device)
    subjects = load_subjects(args, device)
    for subject in subjects:
        if max(map(abs, whole)) >= min(subject.inputs.shape[-2:]):
            side = subject.inputs.shape[-1]
            raise InputError(f"--shifts {args.shifts}: reach beyond the {side} px picture")
    measured = [
        measure_subject(subject, whole, depth=args.depth, batch_size=args.batch_size)
        for subject in progress(subjects, len(subjects), unit="network")
    ]
    results = {
        "schema_version": SCHEMA_VERSION,
        "steadypix": version(),
        "measure": "1 - cos over channels of Shift(up(F(X))) and up(F(Shift(X))), circular shifts",
        "borders": args.borders,
        "n_images": len(subjects[0].inputs),
        "dx": whole,
        "dy": whole,
        "models": measured,
    }
    write_features(results, args.out)
    print(feature_table(measured))
    print(f"wrote {args.out}/ features.json, features.html and pictures", file=sys.stderr)
    return 0


def load_subjects(args: Any, device: str) -> list[Subject]:
    """Load the networks and their pictures: all classifiers, or all generators."""
    from steadypix.eval.classifiers.loading import is_torchvisions
    from steadypix.eval.generators.released import list_generators

    kinds = {model: _is_generator(model, trust=args.trust) for model in args.models}
    for model in args.models:
        name = model.partition("=")[0]
        if not (kinds[model] or Path(model).exists() or CALLABLE.fullmatch(name) or is_torchvisions(name)):
            released = ", ".join(list_generators())
            raise InputError(
                f"{model}: no such file; expected a file or run of a classifier or a generator, the name of "
                f"one of torchvision's classifiers such as resnet18, or one of {released}"
            )
    if len(set(kinds.values())) > 1:
        odd = next(model for model in args.models if kinds[model] != kinds[args.models[0]])
        raise InputError(f"{odd}: is another kind of network than {args.models[0]}; expected one kind")
    circular = args.borders == "circular"
    if kinds[args.models[0]]:
        return _generators(args, device, circular=circular)
    where = (args.data, args.split or "test", args.limit, device)
    at_once = args.limit + args.batch_size
    networks = load_with_pictures(args.models, *where, at_once=at_once, trust=args.trust)
    return [classifier_subject(*network, circular=circular) for network in networks]


def _is_generator(model: str, *, trust: bool) -> bool:
    """Whether a generator is meant. Anything else is left to the loader of classifiers, or refused there."""
    from steadypix.eval.classifiers.called import gives_logits
    from steadypix.eval.generators.formats import find_format, require_trust
    from steadypix.eval.generators.released import list_generators
    from steadypix.gen.weights.generators import FORMAT, GENERATOR_FILE
    from steadypix.gen.weights.header import check_header

    path = Path(model)
    if not path.exists():
        if CALLABLE.fullmatch(model):  # called, and told by what it gives
            require_trust(path, "callable", trust=trust)
            return not gives_logits(model)
        return model in list_generators()
    if find_format(path) != "steadypix":
        return True
    path = path / GENERATOR_FILE if path.is_dir() else path
    return path.is_file() and path.suffix == ".safetensors" and check_header(path).get("format") == FORMAT


def _generators(args: Any, device: str, *, circular: bool) -> list[Subject]:
    import torch

    from steadypix.eval.generators.models import load_models
    from steadypix.eval.measure.sources import open_data
    from steadypix.gen.networks.cost import require_forward
    from steadypix.sizes import sides

    models = load_models(args.models, device, trust=args.trust)
    pairs, about = open_data(models, source=args.data, split=args.split, limit=args.limit)
    count = min(args.limit, len(pairs))
    for model in models if device != "cuda" else ():
        require_forward(
            model.config["generator"],
            *sides(about["window_px"]),
            what=model.name,
            helps="a network of smaller windows, or a smaller --limit or --batch_size",
            at_once=count + min(count, args.batch_size),
            copies=KEPT,
        )
    start = (about["canvas_px"] - about["window_px"]) // 2
    cut = slice(start, start + about["window_px"])
    inputs = torch.stack([pairs.canvas(index)[0][..., cut, cut] for index in range(count)]).to(device)
    return [generator_subject(model, inputs, about["source"], circular=circular) for model in models]


if __name__ == "__main__":
    sys.exit(main())
