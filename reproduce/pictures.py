"""The pictures of a study's page, drawn by `eval_stability` and its charts."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reproduce.measuring import evaluate, measured
from reproduce.plan import GRID_PICTURES, MAP_PICTURES, STUDIES, VARIANTS, discriminators
from steadypix.eval.charts.curve import draw_curve
from steadypix.eval.charts.style import save_smaller
from steadypix.eval.charts.tradeoff import draw_tradeoff
from steadypix.eval.results.schema import read_results

COLOURS = 48  # all pictures of the studies stay below 1 MB


def draw_pictures(
    folder: Path,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    ends: Mapping[str, Path],
    *,
    study: str,
    scale: str,
    data: Path,
    root: Path,
    limit: int | None,
) -> dict[str, str]:
    """Draw what there are runs for.

    Args:
        folder: gets the pictures.
        rows: by run's name, its checkpoints in the order of training.
        ends: by the name of a run that is trained to its end, its last generator.
        study: a key of `STUDIES`.
        scale: a key of `SCALES`.
        data: folder of the pairs.
        root: folder of the runs.
        limit: pairs measured; None: all.

    Returns:
        File name -> what it shows, in the order of the page; nothing while no run is trained that they show.
    """
    shown = [name for name in STUDIES[study].shown if name in ends]
    if not shown:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    place = measured(root, study, scale)
    files = [ends[name] for name in shown]
    in_grid, in_map = (min(count, limit or count) for count in (GRID_PICTURES, MAP_PICTURES))
    # The page travels; the photos that were learnt from do not.
    for file, out, words in (
        ("grid.png", place / "shown", ["--limit", str(in_grid), "--no-originals"]),
        ("map.png", place / "map", ["--limit", str(in_map), "--map"]),
    ):
        evaluate(files, study, data=data, out=out, words=words)
        shutil.copy(out / file, folder / file)
    # About the pictures every run was measured on.
    about = read_results(place / shown[0] / f"{rows[shown[0]][-1]['epoch']:g}" / "results.json")
    captions = {}
    for file, (names, caption) in _tradeoffs(list(rows), shown, study, scale).items():
        models = [row for name in names for row in rows[name]]
        draw_tradeoff(folder / file, {**about, "models": models})
        captions[file] = caption
    models = [{**rows[name][-1], "name": name} for name in _usual(rows, study) if name in ends]
    draw_curve(folder / "curve.png", {**about, "models": models})
    least = "the baseline" if shown[0] == STUDIES[study].shown[0] else "the least stable of them"
    captions |= {
        "curve.png": f"Stability by shift at the end of training, {_usual_words(study, scale)}.",
        "grid.png": f"Where {least} changes most, shift by shift; below each output its difference to the "
        f"unshifted one. The figures in it are of the first {in_grid} pictures.",
        "map.png": f"Stability over shifts in both directions, {in_map} pictures.",
    }
    for file in captions:  # documents travel with every clone
        save_smaller(folder / file, folder / file, colours=COLOURS)
    return captions


def _usual(names: Iterable[str], study: str) -> list[str]:
    """Return the runs of the first seed before the study's own discriminator."""
    own = STUDIES[study].discriminator
    return [name for name in names if name.endswith("-0") and VARIANTS[name[:-2]].discriminator == own]


def _usual_words(study: str, scale: str) -> str:
    seen_through = discriminators(scale)[STUDIES[study].discriminator]
    seen = f"on `{seen_through}`-filtered pictures" if seen_through else "as published"
    return f"seed 0 of every variant, discriminator {seen}"


def _tradeoffs(
    names: Sequence[str], shown: Sequence[str], study: str, scale: str
) -> dict[str, tuple[list[str], str]]:
    """Return the charts along training: file -> the runs in it, and what it shows."""
    words = f"Stability against sharpness along training, {_usual_words(study, scale)}."
    charts = {"tradeoff.png": (_usual(names, study), words)}
    if STUDIES[study].discriminator:
        return charts
    seen_through = {
        "_soft": f"on `{discriminators(scale)['_soft']}`-filtered pictures (`_soft` in the chart)",
        "_published": "as published (`_published` in the chart)",
    }
    others = {}
    for end in seen_through:
        wanted = (f"{of[:-2]}{end}-0" for of in STUDIES[study].shown)
        if found := [name for name in wanted if name in names]:
            others[end] = found
    if others:
        more = " and ".join(seen_through[end] for end in others)
        words = f"The same of {len(shown)} of them, and with a discriminator {more}."
        charts["discriminators.png"] = ([*shown, *itertools.chain(*others.values())], words)
    return charts
