"""Has a generator become less stable than an earlier results.json says?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steadypix.errors import InputError
from steadypix.eval.results.lead import lead_score

OF_DATA = ("source", "split", "direction", "canvas_px", "window_px", "n_images")
SAME = ("axis", "shifts_px", *(f"data.{key}" for key in OF_DATA))


def regressions(results: dict[str, Any], baseline: dict[str, Any], path: Path) -> list[str]:
    """Return a line for every model whose leading score fell below the baseline's 95 % interval.

    Models are matched by name; those the baseline does not know are passed over.

    Raises:
        InputError: if the two were not measured alike, or share no model.
    """
    known = [each["data"].get("pictures_sha256") for each in (results, baseline)]
    for key in SAME:
        section, _, name = key.rpartition(".")
        ours, theirs = ((each[section] if section else each).get(name) for each in (results, baseline))
        moved = key == "data.source" and None not in known  # told by their content, wherever they lie
        if ours != theirs and not moved:
            raise InputError(f"{path}: was measured with {key} {theirs}, this with {ours}; no comparison")
    if None not in known and known[0] != known[1]:
        here, there = (str(each)[:16] for each in known)
        raise InputError(f"{path}: was measured on other pictures ({there}, this on {here}); no comparison")
    earlier = {model["name"]: model for model in baseline["models"]}
    shared = [model for model in results["models"] if model["name"] in earlier]
    if not shared:
        names = ", ".join(map(str, earlier))
        raise InputError(f"{path}: knows none of these models, only {names or 'none at all'}")
    found = []
    for model in shared:
        where, now = lead_score(model)
        was_where, was = lead_score(earlier[model["name"]])
        if where != was_where:
            raise InputError(f"{path}: leads with {was_where}, this with {where}; no comparison")
        floor = was["ci95"][0] if was["ci95"] else was["mean"]
        if now["mean"] < floor:
            fall = f"{now['mean']:.2f} dB, below the baseline's {was['mean']:.2f} dB (from {floor:.2f})"
            found.append(f"{model['name']}: {fall}")
    return found
