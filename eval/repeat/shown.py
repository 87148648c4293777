"""How the noise of generators is shown beside their scores, from results.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steadypix import json_checks as want
from steadypix.eval.metrics.measure import Column

CAUSES = {
    "random": "is random: equal inputs give outputs that agree to",
    "batch": "goes by what else is in its batch: equal inputs give outputs that agree to",
}
# What results.json must hold in a model's entry, where there is a floor.
CHECK = want.record(
    {"cause": want.one_of(*CAUSES), **dict.fromkeys(("db", "repeat_db", "batch_db"), want.decibels)}
)


def floor_words(name: str, floor: Mapping[str, Any]) -> str:
    """Return a generator's noise as a sentence, without its full stop.

    Args:
        name: of the generator.
        floor: its `floor` in results.json.
    """
    return f"{name} {CAUSES[floor['cause']]} {floor['db']:.1f} dB"


def floor_lines(results: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every generator with a floor."""
    return [
        f"{floor_words(model['name'], model['floor'])}, and what moves less is not told from that."
        for model in results["models"]
        if "floor" in model
    ]


def floor_columns(results: Mapping[str, Any]) -> list[Column]:
    """Return the column of the floors; none where no generator has one."""
    floors = [model.get("floor") for model in results["models"]]
    if not any(floors):
        return []
    figures = [floor and floor["db"] for floor in floors]
    return [Column(title="floor", note="equal inputs", unit="dB", figures=figures)]
