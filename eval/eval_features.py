"""The command `eval_features`: where in a network equivariance to shifts is lost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.command import (
    Parser,
    add_common_options,
    command,
    pick_device,
    positive,
    printable,
    progress,
    version,
)
from data.errors import InputError
from data.files import write_text
from eval.offsets import is_whole, parse_shifts
from eval.results import prepare_output, to_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from data.labelled import Labelled
    from eval.classifier_file import Classifier

DESCRIPTION = """Measure the internal feature distance of classifiers or generators: for every layer and every
circular shift (dx, dy), how far the layer's map for the shifted input is from its shifted map."""
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Subject:
    """A network and what it is given.

    Attributes:
        name: in tables and charts.
        module: in eval mode.
        inputs: (N, C, H, W), as it takes them.
        origin: of its weights, and of the pictures.
    """

    name: str
    module: nn.Module
    inputs: Tensor
    origin: dict[str, Any]


def build_parser() -> Parser:
    """Return the command line."""
    parser = Parser(prog="eval_features", description=DESCRIPTION)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="classifiers: a run or .safetensors file, resnet18 (torchvision's weights), resnet18=FILE.pth; "
        "or generators: a run or .safetensors file",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="pictures (default: those the network was trained on, if it is a run of ours)",
    )
    parser.add_argument("--split", help="folder name, or of Fashion-MNIST train or test")
    parser.add_argument("--shifts", default="0..7", help="px, along x and y alike (default: %(default)s)")
    parser.add_argument(
        "--limit",
        type=positive,
        default=8,
        metavar="N",
        help="use the first N pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--depth", type=positive, default=2, metavar="N", help="measure modules N names deep: 2 is blocks"
    )
    parser.add_argument(
        "--borders",
        choices=("circular", "own"),
        default="circular",
        help="let convs and pools wrap around, so that sampling alone breaks equivariance; or as trained",
    )
    parser.add_argument("--out", type=Path, default=Path("results/features"), metavar="DIR")
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
            raise InputError(
                f"--shifts {args.shifts}: reach beyond the {subject.inputs.shape[-1]} px picture"
            )
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
    print(table(measured))
    print(f"wrote {args.out}/ features.json, features.html and pictures", file=sys.stderr)
    return 0


def measure_subject(
    subject: Subject,
    shifts: Sequence[int],
    *,
    depth: int = 2,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Return a network's distances as JSON has them, for every (dx, dy) of `shifts`."""
    from eval.features import FeatureDistance, downsampling_layers, layer_names

    moves = [(dx, dy) for dy in shifts for dx in shifts]
    names = layer_names(subject.module, subject.inputs[:1], depth=depth)
    if not names:
        raise InputError(f"{subject.name}: has no layers with maps at --depth {depth}")
    distance = FeatureDistance(subject.module, names, moves)
    for batch in subject.inputs.split(batch_size):
        distance.add(batch)
    at_rest = [move == (0, 0) for move in moves]
    grid = {name: values.reshape(len(shifts), len(shifts)) for name, values in distance.result().items()}
    layers = {
        name: {
            "stride": distance.strides[name],
            # The shift by nothing is 0 by definition.
            "mean": float(values.ravel()[~np.array(at_rest)].mean()) if not all(at_rest) else 0.0,
            "distance": values.tolist(),
        }
        for name, values in grid.items()
    }
    return {
        "name": subject.name,
        **subject.origin,
        "dx": list(shifts),
        "dy": list(shifts),
        "downsampling": downsampling_layers(distance.strides),
        "layers": layers,
    }


def load_subjects(args: Any, device: str) -> list[Subject]:
    """Load the networks and their pictures: all classifiers, or all generators."""
    kinds = {model: _is_generator(model) for model in args.models}
    if len(set(kinds.values())) > 1:
        odd = next(model for model in args.models if kinds[model] != kinds[args.models[0]])
        raise InputError(f"{odd}: is another kind of network than {args.models[0]}; expected one kind")
    if kinds[args.models[0]]:
        return _generators(args, device)
    return _classifiers(args, device)


def _is_generator(model: str) -> bool:
    from gen.checkpoint import FORMAT, GENERATOR_FILE
    from gen.header import check_header

    path = Path(model)
    path = path / GENERATOR_FILE if (path / GENERATOR_FILE).exists() else path
    return path.is_file() and path.suffix == ".safetensors" and check_header(path).get("format") == FORMAT


def _classifiers(args: Any, device: str) -> list[Subject]:
    from eval.classifier_models import load_any, open_pictures
    from eval.models import named_apart

    subjects = []
    for model in args.models:
        classifier = load_any(model, device)
        pictures = open_pictures(classifier, args.data, args.split or "test").first(args.limit)
        subjects.append(classifier_subject(classifier, pictures, circular=args.borders == "circular"))
    names = named_apart([subject.name for subject in subjects], args.models)
    return [replace(subject, name=name) for subject, name in zip(subjects, names, strict=True)]


def classifier_subject(classifier: Classifier, pictures: Labelled, *, circular: bool) -> Subject:
    """Return a classifier with the middle windows of pictures; `circular` changes its borders for good.

    Raises:
        InputError: naming a network whose borders cannot be circular.
    """
    from eval.consistency import protocol_of
    from gen.circular import make_circular

    if circular:
        try:
            make_circular(classifier.module)
        except ValueError as error:
            raise InputError(f"{classifier.name}: {error}; expected --borders own") from None
    canvases = pictures.canvases(range(len(pictures)), classifier.canvas_px)
    inputs = classifier.prepare(protocol_of(classifier, "crop").base(canvases))
    origin = {"weights": dict(classifier.provenance), "source": pictures.source}
    return Subject(classifier.name, classifier.module, inputs, origin)


def _generators(args: Any, device: str) -> list[Subject]:
    import torch

    from eval.models import load_models
    from eval.sources import open_data
    from gen.checkpoint import build_generator

    models = load_models(args.models, device)
    pairs, about = open_data(models, source=args.data, split=args.split, limit=args.limit)
    count = min(args.limit, len(pairs))
    start = (about["canvas_px"] - about["window_px"]) // 2
    cut = slice(start, start + about["window_px"])
    inputs = torch.stack([pairs.canvas(index)[0][..., cut, cut] for index in range(count)]).to(device)
    subjects = []
    for model in models:
        module = model.module
        if args.borders == "circular":
            arguments = {**model.config["generator"], "padding": "circular"}
            module = build_generator(model.path, arguments, module.state_dict()).to(device).eval()
        origin = {"weights": model.describe()["provenance"], "source": about["source"]}
        subjects.append(Subject(model.name, module, inputs, origin))
    return subjects


def write_features(results: dict[str, Any], out: Path) -> None:
    """Write features.json, the two charts, and the page they stand on."""
    from eval.page import write_page

    text = to_json(results)
    write_text(out / "features.json", text)
    section = feature_section(results, out)
    write_page(out / "features.html", "Internal feature distance", [section])


def feature_section(results: dict[str, Any], out: Path, *, stem: str = "features") -> Any:
    """Draw the charts into `out` and return the section of a page that shows them."""
    from eval.classifier_charts import draw_feature_curve, draw_feature_grid
    from eval.page import Section

    models = results["models"]
    borders = "circular borders" if results["borders"] == "circular" else "borders as trained"
    note = f"{results['n_images']} pictures, {borders}"
    pictures = []
    shared = [name for name in models[0]["layers"] if all(name in model["layers"] for model in models)]
    if shared:
        draw_feature_grid(out / f"{stem}_grid.png", models, note=note)
        pictures.append((out / f"{stem}_grid.png", "Heat maps: blue is equivariant, red is not; one scale."))
    draw_feature_curve(out / f"{stem}_curve.png", models, note=note)
    pictures.append((out / f"{stem}_curve.png", "The mean over all shifts, through the layers."))
    rows = [
        [name, _sizes(models, name)]
        + [f"{m['layers'][name]['mean']:.4f}" if name in m["layers"] else "" for m in models]
        for name in layers_of(models)
    ]
    return Section(
        "Internal feature distance",
        [
            "1 - cosine between a layer's shifted map and its map for the shifted input, both at the input's "
            "size, mean over positions, pictures and circular shifts. 0 is equivariant. A map that circular "
            "borders make constant, such as one of 2 x 2 blurred, is rounding alone after a norm, and scores "
            "near 1.",
        ],
        ["layer", "size", *(model["name"] for model in models)],
        rows,
        pictures,
    )


def layers_of(models: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of all layers of all networks, in the order of their first appearance."""
    return list(dict.fromkeys(name for model in models for name in model["layers"]))


def _sizes(models: Sequence[dict[str, Any]], name: str) -> str:
    # An anti-aliased layer may work densely up to its blur, and other architectures reuse a name.
    strides = [model["layers"][name]["stride"] for model in models if name in model["layers"]]
    return ", ".join(f"1/{stride}" for stride in dict.fromkeys(strides))


def table(models: Sequence[dict[str, Any]]) -> str:
    """Return the table that people read: the mean distance of every layer of every network."""
    names = layers_of(models)
    width = max(map(len, names))
    heads = [printable(model["name"]) for model in models]
    lines = [" ".join(["layer".ljust(width), *(head.rjust(max(8, len(head))) for head in heads)])]
    for name in names:
        cells = [
            (f"{m['layers'][name]['mean']:.4f}" if name in m["layers"] else "-").rjust(max(8, len(head)))
            for m, head in zip(models, heads, strict=True)
        ]
        lines.append(" ".join([name.ljust(width), *cells]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
