"""The floors of an evaluation's generators, found before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from steadypix.errors import InputError
from steadypix.eval.measure.plan import Plan
from steadypix.eval.measure.stage import Stage, pictures
from steadypix.eval.repeat.floor import find_floor, refuse

if TYPE_CHECKING:
    from steadypix.eval.generators.models import Model


def find_floors(
    models: Sequence[Model], stages: Sequence[Stage], plan: Plan, *, allow: bool
) -> dict[str, dict[str, Any]]:
    """Return the floors of the generators that have one, by name, measured on the first picture.

    Args:
        models: the generators; folders of outputs are passed over.
        stages: the pictures.
        plan: what is measured.
        allow: whether generators may have one.

    Raises:
        InputError: naming a generator that has one, if that is not allowed, or that cannot be run.
    """
    running = [model for model in models if model.format != "outputs"]
    # Nothing is worth a process for one picture.
    first = pictures(stages, range(plan.count(stages[0].pairs)), replace(plan, workers=0))
    found: dict[str, dict[str, Any]] = {}
    for _, name, canvases in first if running else ():
        window = stages[0].base(canvases[0][0])
        for model in running:
            try:
                floor = find_floor(model.module, window, seed=plan.seed, batches=plan.batch_size > 1)
            except InputError as error:
                raise InputError(f"{model.path} on {name}: {error}") from None
            if not allow:
                refuse(model.path, floor)
            if floor.cause:
                found[model.name] = floor.as_json()
        break
    return found
