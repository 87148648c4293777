"""The page of the classifier study: tables and charts from its results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.classifier_charts import (
    draw_corruptions,
    draw_diagonals,
    draw_feature_curve,
    draw_feature_grid,
    draw_scatter,
)
from eval.page import Section

TITLE = "Classifiers: consistency, features, corruptions"
LABELS = {"none": "none (plain)", "rect2": "Rect-2", "tri3": "Tri-3", "bin4": "Bin-4", "bin5": "Bin-5"}
LABELS |= {"gated": "gated pooling"}
NETWORKS = {"resnet18": "ResNet-18", "vgg11_bn": "VGG-11 (bn)"}
SHOWN_CURVES = 6
Results = Mapping[str, Any]


def sections(results: Results, measures: Sequence[Results], pictures: Path) -> list[Section]:
    """Return the page's sections; the charts are drawn into the folder `pictures`."""
    return [
        _setup(results),
        _main_table(results, measures, pictures),
        _verdict(results),
        _diagonal(results, measures, pictures),
        _corruptions(results, pictures),
        _ground(results),
        _flips(results),
        _features(results, measures, pictures),
        *_dense(measures),
    ]


def _setup(results: Results) -> Section:
    s = results["settings"]
    r = s["recipe"]
    text = [
        f"Fashion-MNIST, the first {s['train_images']:,} training and the first {s['test_images']:,} test "
        f"pictures, grayscale, 28 px on a black canvas of {r['canvas_px']} px, of which a network sees a "
        f"window of {r['window_px']} px. torchvision's ResNet-18 with a stem for small pictures, and VGG-11 "
        f"with batch norm, at {s['width']} channels in the first stage (theirs have 64).",
        f"Training: {r['epochs']} epochs of SGD (momentum {r['momentum']}, batch {r['batch_size']}, peak "
        f"rate {r['learning_rate']}, one cosine), "
        + ("windows from anywhere on the canvas" if r["random_shifts"] else "the middle window alone")
        + (", mirrored at random." if r["flip"] else ".")
        + f" {s['seeds']} seed{'s' if s['seeds'] > 1 else ''}; networks of one seed start from the same "
        "weights and see the same pictures in the same order. Figures are the mean over seeds "
        "± their standard deviation.",
        f"Made by `{results['command']}` in {results['minutes']:.0f} minutes of work on {results['threads']} "
        f"thread{'s' if results['threads'] != 1 else ''}.",
    ]
    return Section("What was done", text)


def _main_table(results: Results, measures: Sequence[Results], pictures: Path) -> Section:
    columns = ["network", "filter", "accuracy [%]", "consistency, crop [%]", "consistency, roll [%]"]
    columns += ["corruption error [%]", "mCE", "mFR"]
    rows = [
        [
            NETWORKS[row["architecture"]],
            LABELS[row["row"]],
            _percent(row["accuracy"]),
            _percent(row["consistency"]["crop"]),
            _percent(row["consistency"]["roll"]),
            _percent(row["error_corrupted"]),
            _plain(row["mce"]),
            _plain(row["mfr"]),
        ]
        for row in results["table"]
    ]
    points = [
        {
            "group": f"{NETWORKS[m['architecture']]}, {LABELS[m['row']]}",
            "accuracy": m["accuracy"]["mean"],
            "consistency": m["consistency"]["crop"]["mean"],
        }
        for m in measures
    ]
    points.sort(key=lambda point: _place(results, point["group"]))
    draw_scatter(
        pictures / "scatter.png", points, note="Fashion-MNIST; small marks are seeds, large their mean"
    )
    text = [
        "Consistency: how often two windows from random places of the canvas (crop), or two circular shifts "
        "(roll), get the same class. mCE: mean corruption error over the plain network's; mFR: mean flip "
        "rate over the plain network's; less than 1 is better.",
    ]
    return Section(
        "Results", text, columns, rows, [(pictures / "scatter.png", "Accuracy against consistency.")]
    )


def _place(results: Results, group: str) -> int:
    order = [f"{NETWORKS[row['architecture']]}, {LABELS[row['row']]}" for row in results["table"]]
    return order.index(group)


def _verdict(results: Results) -> Section:
    """Say in words how Bin-5 stands against none, whatever the figures are."""
    text = []
    by_key = {(row["architecture"], row["row"]): row for row in results["table"]}
    for architecture, name in NETWORKS.items():
        ours, base = by_key.get((architecture, "bin5")), by_key.get((architecture, "none"))
        if not ours or not base:
            continue
        gain = ours["consistency_gain"]
        accuracy = 100 * (ours["accuracy"]["mean"] - base["accuracy"]["mean"])
        not_lower = [
            layer
            for layer, figures in ours["features"].items()
            if layer in base["features"]
            and figures["mean"] >= base["features"][layer]["mean"]
            and base["features"][layer]["mean"] > 0
        ]
        text.append(
            f"{name}, Bin-5 against none: consistency {100 * gain['mean']:+.2f}"
            + ("" if gain["std"] is None else f" ± {100 * gain['std']:.2f}")
            + f" points (crop), accuracy {accuracy:+.2f} points, mean corruption error {_plain(ours['mce'])} "
            f"and flip rate {_plain(ours['mfr'])} of the plain network's. "
            "Feature distance is lower at "
            + ("every layer." if not not_lower else f"every layer but {', '.join(not_lower)}.")
        )
    return Section("In words", text)


def _diagonal(results: Results, measures: Sequence[Results], pictures: Path) -> Section:
    first = results["table"][0]["architecture"]
    chosen = [m for m in measures if m["architecture"] == first and m["seed"] == 0]
    chosen.sort(key=lambda m: list(LABELS).index(m["row"]))
    values = {LABELS[m["row"]]: np.array(m["diagonal"]["curves"]) for m in chosen}
    plain = values[LABELS["none"]]
    # Where the plain network changes its mind most, found by its own range.
    shown = np.argsort(-np.ptp(plain, axis=1), kind="stable")[:SHOWN_CURVES]
    titles = [results["test_classes"][place] for place in shown.tolist()]
    draw_diagonals(
        pictures / "diagonal.png",
        {
            name: (m["diagonal"]["shifts"], curves[shown])
            for (name, curves), m in zip(values.items(), chosen, strict=True)
        },
        titles,
        note=f"{NETWORKS[first]}, seed 0; of {len(plain)} test pictures where the plain network moves most",
    )
    rows = [
        [NETWORKS[row["architecture"]], LABELS[row["row"]], _percent(row["diagonal_step"])]
        for row in results["table"]
    ]
    return Section(
        "Along the diagonal",
        [
            "How much the right class's probability changes from one diagonal shift to the next, the mean "
            "over shifts and pictures, in points.",
        ],
        ["network", "filter", "change a px [points]"],
        rows,
        [(pictures / "diagonal.png", "The right class's probability along diagonal shifts.")],
    )


def _corruptions(results: Results, pictures: Path) -> Section:
    first = results["table"][0]["architecture"]
    mine = [row for row in results["table"] if row["architecture"] == first]
    errors = {
        LABELS[row["row"]]: {kind: figure["mean"] for kind, figure in row["corruptions"].items()}
        for row in mine
    }
    draw_corruptions(
        pictures / "corruptions.png", errors, note=f"{NETWORKS[first]}, Fashion-MNIST, mean over seeds"
    )
    heads = [f"{NETWORKS[row['architecture']]}, {LABELS[row['row']]}" for row in results["table"]]
    rows = [
        [kind.replace("_", " "), *(_percent(row["corruptions"][kind]) for row in results["table"])]
        for kind in mine[0]["corruptions"]
    ]
    count = results["settings"]["corrupted_images"]
    return Section(
        "Corruptions",
        [
            f"Error in % for each kind, the mean over five severities, on {count} test pictures. The kinds "
            "are ImageNet-C's, their making and severities our own (the table in `eval/corruptions.py`).",
        ],
        ["kind", *heads],
        rows,
        [(pictures / "corruptions.png", "Error under each kind of corruption.")],
    )


def _ground(results: Results) -> Section:
    """How much of the corruption error is the colour of the ground."""
    from eval.classifier_study import LIFT
    from eval.corruptions import LIFTING

    names = list(results["table"][0]["ground"])
    rows = [
        [
            NETWORKS[row["architecture"]],
            LABELS[row["row"]],
            _plain(row["mce_ground_lifted"]),
            _plain(row["mce_ground_black"]),
            *(_percent(row["ground"][name]) for name in names),
        ]
        for row in results["table"]
    ]
    lifting = ", ".join(kind.replace("_", " ") for kind in LIFTING)
    text = [
        "Every training picture lies on black, so a network may rely on that. The mean corruption error "
        f"again, over the kinds that brighten a black ground ({lifting}) and over those that leave it black; "
        f"and the error in % with {LIFT} added to pictures of the range [0, 1], everywhere or where they are "
        "not black.",
    ]
    columns = [
        "network",
        "filter",
        "mCE, ground lifted",
        "mCE, ground black",
        *(f"error, {n}" for n in names),
    ]
    return Section("The colour of the ground", text, columns, rows)


def _flips(results: Results) -> Section:
    kinds = list(results["table"][0]["flips"])
    rows = [
        [NETWORKS[row["architecture"]], LABELS[row["row"]], *(_percent(row["flips"][kind]) for kind in kinds)]
        for row in results["table"]
    ]
    count = results["settings"]["sequence_images"]
    return Section(
        "Flip rates",
        [
            f"How often the class changes from one frame of a sequence to the next, in %, on {count} test "
            "pictures (the sequences are described in `eval/flips.py`).",
        ],
        ["network", "filter", *kinds],
        rows,
    )


def _features(results: Results, measures: Sequence[Results], pictures: Path) -> Section:
    found = []
    for architecture, name in NETWORKS.items():
        mine = [m for m in measures if m["architecture"] == architecture and m["seed"] == 0]
        if not mine:
            continue
        mine.sort(key=lambda m: list(LABELS).index(m["row"]))
        models = [{**m["features"], "name": LABELS[m["row"]]} for m in mine]
        note = f"{name}, seed 0, {results['settings']['feature_images']} test pictures, circular borders"
        for kind, draw in (("grid", draw_feature_grid), ("curve", draw_feature_curve)):
            file = pictures / f"features_{architecture}_{kind}.png"
            draw(file, models, note=note)
            what = "heat maps" if kind == "grid" else "the mean over all shifts"
            found.append((file, f"Internal feature distance of {name}: {what}."))
    rows = []
    kinds = list(dict.fromkeys(row["row"] for row in results["table"]))
    for architecture, name in NETWORKS.items():
        mine = [row for row in results["table"] if row["architecture"] == architecture]
        if not mine:
            continue
        last = 1
        for layer, figures in mine[0]["features"].items():
            if figures["stride"] > last:
                means = {row["row"]: _plain(row["features"][layer]) for row in mine}
                rows.append(
                    [f"{name} {layer}", f"1/{figures['stride']}", *(means.get(key, "") for key in kinds)]
                )
            last = max(last, figures["stride"])
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
    from eval.classifier_study import mean_std

    rows = []
    count = 0
    for row, kind, label in (
        ("none", "as it is", "plain"),
        ("none", "dense", "plain, evaluated densely"),
        ("bin5", "as it is", "Bin-5"),
    ):
        mine = [m["dense"][kind] for m in measures if m["row"] == row and "dense" in m]
        if not mine:
            continue
        count = mine[0]["accuracy"]["n_images"]
        rows.append(
            [
                label,
                _percent(mean_std([m["accuracy"]["mean"] for m in mine])),
                _percent(mean_std([m["consistency"]["mean"] for m in mine])),
            ]
        )
    if not rows:
        return []
    text = [
        "Without any stride, the later layers dilated instead, the network's mean over positions moves with "
        f"nothing but its borders; every stage then works at full resolution. ResNet-18 on the first {count} "
        "test pictures, four pairs of crops each.",
    ]
    return [Section("Dense evaluation", text, ["ResNet-18", "accuracy [%]", "consistency, crop [%]"], rows)]


def _percent(figure: Results) -> str:
    half = "" if figure["std"] is None else f" ± {100 * figure['std']:.2f}"
    return f"{100 * figure['mean']:.2f}{half}"


def _plain(figure: Results | None) -> str:
    if figure is None:
        return "–"
    half = "" if figure["std"] is None else f" ± {figure['std']:.3f}"
    return f"{figure['mean']:.3f}{half}"
