"""The page of the classifier study: tables and charts from its results alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steadypix.eval.charts.classifier_charts import (
    draw_corruptions,
    draw_diagonals,
    draw_feature_curve,
    draw_feature_grid,
    draw_scatter,
)
from steadypix.eval.classifiers.corruptions import LIFTING
from steadypix.eval.classifiers.study import BASELINE, LIFT, mean_std
from steadypix.eval.report.page import Section, percent, plus_minus

TITLE = "Classifiers: consistency, features, corruptions"
LABELS = {"none": "none (plain)", "rect2": "Rect-2", "tri3": "Tri-3", "bin4": "Bin-4", "bin5": "Bin-5"}
LABELS |= {"gated": "gated pooling"}
NETWORKS = {"resnet18": "ResNet-18", "vgg11_bn": "VGG-11 (bn)"}
SHOWN_CURVES = 6
CORRECTED = (
    "Before, four kinds were measured, and in noise every frame was held against a noisy one, which can turn "
    "the order of networks round; those flip rates and mFR cannot be compared with these."
)
Results = Mapping[str, Any]
Cell = Callable[[Results], str]  # of a row of the results


def sections(results: Results, measures: Sequence[Results], pictures: Path) -> list[Section]:
    """Return the page's sections; the charts are drawn into the folder `pictures`."""
    first = results["table"][0]["architecture"]
    # In the order of the tables; networks of the first seed are shown by themselves.
    order = [(row["architecture"], row["row"]) for row in results["table"]]
    measures = sorted(measures, key=lambda m: order.index((m["architecture"], m["row"])))
    shown = [m for m in measures if m["seed"] == 0]
    return [
        _setup(results),
        _main_table(results, measures, pictures),
        Section("In words", _in_words(results)),
        _diagonal(results, [m for m in shown if m["architecture"] == first], pictures),
        _corruptions(results, pictures),
        _ground(results),
        _flips(results),
        _features(results, shown, pictures),
        *_dense(measures),
    ]


def _name(row: Results) -> str:
    return f"{NETWORKS[row['architecture']]}, {LABELS[row['row']]}"


def _by_network(
    results: Results, title: str, text: str, columns: Mapping[str, Cell], *pictures: Any
) -> Section:
    """Return a section whose table has a row for every kind of network, its cells made by `columns`."""
    rows = [
        [NETWORKS[row["architecture"]], LABELS[row["row"]], *(cell(row) for cell in columns.values())]
        for row in results["table"]
    ]
    return Section(title, [text], ["network", "filter", *columns], rows, pictures)


def _percent_of(key: str, name: str) -> Cell:
    return lambda row: percent(row[key][name])


def _setup(results: Results) -> Section:
    s = results["settings"]
    r = s["recipe"]
    windows = "windows from anywhere on the canvas" if r["random_shifts"] else "the middle window alone"
    plurals = ["s" if count != 1 else "" for count in (s["seeds"], results["threads"])]
    text = [
        f"Fashion-MNIST, the first {s['train_images']:,} training and the first {s['test_images']:,} test "
        f"pictures, grayscale, 28 px on a black canvas of {r['canvas_px']} px, of which a network sees a "
        f"window of {r['window_px']} px. torchvision's ResNet-18 with a stem for small pictures, and VGG-11 "
        f"with batch norm, at {s['width']} channels in the first stage (theirs have 64).",
        f"Training: {r['epochs']} epochs of SGD (momentum {r['momentum']}, batch {r['batch_size']}, peak "
        f"rate {r['learning_rate']}, one cosine), {windows}{', mirrored at random' if r['flip'] else ''}. "
        f"{s['seeds']} seed{plurals[0]}; networks of one seed start from the same "
        "weights and see the same pictures in the same order. Figures are the mean over seeds "
        "± their standard deviation.",
        f"Made by `{results['command']}` in {results['minutes']:.0f} minutes of work on {results['threads']} "
        f"thread{plurals[1]}.",
    ]
    return Section("What was done", text)


def _main_table(results: Results, measures: Sequence[Results], pictures: Path) -> Section:
    file, note = pictures / "scatter.png", "Fashion-MNIST; small marks are seeds, large their mean"
    draw_scatter(file, [_name(m) for m in measures], measures, note=note)
    return _by_network(
        results,
        "Results",
        "Consistency: how often two windows from random places of the canvas (crop), or two circular shifts "
        "(roll), get the same class. mCE: mean corruption error over the plain network's; mFR: mean flip "
        "rate over the plain network's; less than 1 is better.",
        {
            "accuracy [%]": lambda row: percent(row["accuracy"]),
            "consistency, crop [%]": _percent_of("consistency", "crop"),
            "consistency, roll [%]": _percent_of("consistency", "roll"),
            "corruption error [%]": lambda row: percent(row["error_corrupted"]),
            "mCE": lambda row: _plain(row["mce"]),
            "mFR": lambda row: _plain(row["mfr"]),
        },
        (file, "Accuracy against consistency."),
    )


def _in_words(results: Results) -> list[str]:
    """Say how Bin-5 stands against none, whatever the figures are."""
    text = []
    for architecture, name in NETWORKS.items():
        rows = {row["row"]: row for row in results["table"] if row["architecture"] == architecture}
        if "bin5" not in rows:  # the plain network is always there
            continue
        ours, base = rows["bin5"], rows[BASELINE]
        gain = percent(ours["consistency_gain"])
        accuracy = 100 * (ours["accuracy"]["mean"] - base["accuracy"]["mean"])
        means = {layer: figures["mean"] for layer, figures in base["features"].items()}
        not_lower = [
            layer
            for layer, figures in ours["features"].items()
            if figures["mean"] >= means.get(layer, np.inf) and means[layer] > 0
        ]
        text.append(
            f"{name}, Bin-5 against none: consistency {'' if gain.startswith('-') else '+'}{gain} points "
            f"(crop), accuracy {accuracy:+.2f} points, mean corruption error {_plain(ours['mce'])} "
            f"and flip rate {_plain(ours['mfr'])} of the plain network's. "
            f"Feature distance is lower at every layer{' but ' if not_lower else ''}{', '.join(not_lower)}."
        )
    return text


def _diagonal(results: Results, shown: Sequence[Results], pictures: Path) -> Section:
    plain = next(np.array(m["diagonal"]["curves"]) for m in shown if m["row"] == BASELINE)
    # Where the plain network changes its mind most, found by its own range.
    most = np.argsort(-np.ptp(plain, axis=1), kind="stable")[:SHOWN_CURVES]
    file = pictures / "diagonal.png"
    draw_diagonals(
        file,
        {LABELS[m["row"]]: (m["diagonal"]["shifts"], np.array(m["diagonal"]["curves"])[most]) for m in shown},
        [results["test_classes"][place] for place in most.tolist()],
        note=f"{NETWORKS[shown[0]['architecture']]}, seed 0; of {len(plain)} test pictures where the plain "
        "network moves most",
    )
    return _by_network(
        results,
        "Along the diagonal",
        "How much the right class's probability changes from one diagonal shift to the next, the mean "
        "over shifts and pictures, in points.",
        {"change a px [points]": lambda row: percent(row["diagonal_step"])},
        (file, "The right class's probability along diagonal shifts."),
    )


def _corruptions(results: Results, pictures: Path) -> Section:
    first = results["table"][0]["architecture"]
    errors = {
        LABELS[row["row"]]: {kind: figure["mean"] for kind, figure in row["corruptions"].items()}
        for row in results["table"]
        if row["architecture"] == first
    }
    file = pictures / "corruptions.png"
    draw_corruptions(file, errors, note=f"{NETWORKS[first]}, Fashion-MNIST, mean over seeds")
    rows = [
        [kind.replace("_", " "), *(percent(row["corruptions"][kind]) for row in results["table"])]
        for kind in results["table"][0]["corruptions"]
    ]
    severities = {
        "imagenet-c": "and so are their constants; what has a length is scaled by side / 224 (the rule, and "
        "what differs in the making, stands in `eval/classifiers/imagenet_c.py`). CIFAR-10-C's constants, "
        "made for 32 px by the same authors, are milder",
        "own": "their severities our own (the table in `eval/classifiers/corruptions.py`)",
    }[results["settings"]["severities"]]
    text = (
        f"Error in % for each kind, the mean over five severities, on "
        f"{results['settings']['corrupted_images']} test pictures. The kinds are ImageNet-C's, {severities}."
    )
    heads = ["kind", *map(_name, results["table"])]
    return Section("Corruptions", [text], heads, rows, [(file, "Error under each kind of corruption.")])


def _ground(results: Results) -> Section:
    """How much of the corruption error is the colour of the ground."""
    columns = {
        "mCE, ground lifted": lambda row: _plain(row["mce_ground_lifted"]),
        "mCE, ground black": lambda row: _plain(row["mce_ground_black"]),
    }
    columns |= {f"error, {name}": _percent_of("ground", name) for name in results["table"][0]["ground"]}
    return _by_network(
        results,
        "The colour of the ground",
        "Every training picture lies on black, so a network may rely on that. The mean corruption error "
        f"again, over the kinds that brighten a black ground ({', '.join(LIFTING).replace('_', ' ')}) and "
        f"over those that leave it black; and the error in % with {LIFT} added to pictures of the range "
        "[0, 1], everywhere or where they are not black.",
        columns,
    )


def _flips(results: Results) -> Section:
    kinds = results["table"][0]["flips"]
    return _by_network(
        results,
        "Flip rates",
        "How often the class changes along ImageNet-P's ten sequences of 31 frames, in %, on "
        f"{results['settings']['sequence_images']} test pictures: from the clean picture to each noisy one, "
        "in the other kinds from a frame to the next (`eval/classifiers/flips.py` has the constants and the "
        "two differences: translations are of 1 px over the canvas, and frames are not compressed as video). "
        f"{CORRECTED}",
        {kind.replace("_", " "): _percent_of("flips", kind) for kind in kinds},
    )


def _features(results: Results, shown: Sequence[Results], pictures: Path) -> Section:
    found, rows = [], []
    kinds = list(dict.fromkeys(row["row"] for row in results["table"]))
    for architecture, name in NETWORKS.items():
        models = [
            {**m["features"], "name": LABELS[m["row"]]} for m in shown if m["architecture"] == architecture
        ]
        if not models:
            continue
        note = f"{name}, seed 0, {results['settings']['feature_images']} test pictures, circular borders"
        for kind, draw, what in (
            ("grid", draw_feature_grid, "heat maps"),
            ("curve", draw_feature_curve, "the mean over all shifts"),
        ):
            file = pictures / f"features_{architecture}_{kind}.png"
            draw(file, models, note=note)
            found.append((file, f"Internal feature distance of {name}: {what}."))
        layers = {r["row"]: r["features"] for r in results["table"] if r["architecture"] == architecture}
        for layer in models[0]["downsampling"]:
            means = [_plain(layers[kind][layer]) if kind in layers else "" for kind in kinds]
            rows.append([f"{name} {layer}", f"1/{models[0]['layers'][layer]['stride']}", *means])
    return Section(
        "Where equivariance is lost",
        [
            "Cosine distance between a layer's shifted map and its map for the shifted input, the mean over "
            "circular shifts of 0 to 8 px along both axes. The table has the layers where resolution falls.",
        ],
        ["layer", "size", *(LABELS[kind] for kind in kinds)],
        rows,
        found,
    )


def _dense(measures: Sequence[Results]) -> list[Section]:
    """Dense evaluation of the plain network, beside it and Bin-5 on the same few pictures."""
    measured = [m for m in measures if "dense" in m]
    if not measured:
        return []
    rows = []
    for row, kind, label in (
        (BASELINE, "as it is", "plain"),
        (BASELINE, "dense", "plain, evaluated densely"),
        ("bin5", "as it is", "Bin-5"),
    ):
        if mine := [m["dense"][kind] for m in measured if m["row"] == row]:
            figures = [mean_std([m[key]["mean"] for m in mine]) for key in ("accuracy", "consistency")]
            rows.append([label, *map(percent, figures)])
    count = measured[0]["dense"]["as it is"]["accuracy"]["n_images"]
    text = (
        "Without any stride, the later layers dilated instead, the network's mean over positions moves with "
        f"nothing but its borders; every stage then works at full resolution. ResNet-18 on the first {count} "
        "test pictures, four pairs of crops each."
    )
    return [Section("Dense evaluation", [text], ["ResNet-18", "accuracy [%]", "consistency, crop [%]"], rows)]


def _plain(figure: Results | None) -> str:
    return "–" if figure is None else plus_minus(figure["mean"], figure["std"], 3)
