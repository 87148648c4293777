"""The pictures of a study's page, drawn by `eval_stability` and its charts."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import write_whole
from eval.charts import save_smaller
from eval.curve import draw_curve
from eval.results_schema import read_results
from eval.tradeoff import draw_tradeoff
from reproduce.measuring import evaluate, measured
from reproduce.plan import GRID_PICTURES, MAP_PICTURES, SHOWN, VARIANTS, discriminators

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
        File name -> what it shows, in the order of the page; nothing while none of `SHOWN` is trained.
    """
    shown = [name for name in SHOWN if name in ends]
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
    drawn = [name for name in rows if name.endswith("-0")]
    plain = [name for name in drawn if not VARIANTS[name[:-2]].discriminator]
    filters = discriminators(scale)
    behind = f"seed 0 of every variant behind `{filters['']}`"
    captions = {"tradeoff.png": f"Stability against sharpness along training, {behind}."}
    lines = {"tradeoff.png": plain}
    said = {
        "_soft": f"behind `{filters['_soft']}` (`_soft`)",
        "_published": "as published (`_published`)",
    }
    others = {end: [name for name in (f"{of[:-2]}{end}-0" for of in SHOWN) if name in drawn] for end in said}
    if any(others.values()):
        lines["discriminators.png"] = [*shown, *others["_soft"], *others["_published"]]
        more = " and ".join(said[end] for end in said if others[end])
        captions["discriminators.png"] = f"The same of {len(shown)} of them, and with a discriminator {more}."
    for file, names in lines.items():
        models = [row for name in names for row in rows[name]]
        draw_tradeoff(folder / file, {**about, "models": models})
    models = [{**rows[name][-1], "name": name} for name in plain if name in ends]
    draw_curve(folder / "curve.png", {**about, "models": models})
    captions["curve.png"] = f"Stability by shift at the end of training, {behind}."
    least = "the baseline" if "baseline-0" in shown else "the least stable of them"
    captions["grid.png"] = (
        f"Where {least} changes most, shift by shift; below each output its difference to the unshifted one. "
        f"The figures in it are of the first {in_grid} pictures."
    )
    captions["map.png"] = f"Stability over shifts in both directions, {in_map} pictures."
    for file in captions:  # documents travel with every clone
        smaller = functools.partial(save_smaller, folder / file, colours=COLOURS)
        write_whole(folder / file, smaller)
    return captions
