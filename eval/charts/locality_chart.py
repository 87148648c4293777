"""The chart of locality: how much outputs change by distance from a change of the input."""

from __future__ import annotations

import os

from steadypix.eval.charts.style import Results, chart, data_note, line_look, panels, shorten


def draw_locality(path: str | os.PathLike[str], results: Results) -> None:
    """Draw dB by distance, one line a generator; dotted with frozen norms, where they can be frozen.

    Raises:
        ValueError: if locality was not measured.
    """
    if "locality" not in results:
        raise ValueError("no locality to draw; expected results of eval_stability --locality")
    models = results["models"]
    title = f"{results['locality']['changed_px']} px change at the left" + data_note(results)
    names = [shorten(model["name"], 30) for model in models]
    with chart(path, (5.6, 4.2), title, names, note="solid as it is, dotted with frozen norms") as figure:
        (axes,) = panels(figure, 1, 1, ylabel="output beyond the change, dB")
        for index, model in enumerate(models):
            bands, look = model["locality"]["bands"], line_look(index)
            for key, style in (("db", look["ls"]), ("frozen_db", ":")):
                if all(band[key] for band in bands):
                    db = [band[key]["mean"] for band in bands]
                    axes.plot(range(len(bands)), db, **{**look, "ls": style}, clip_on=False, zorder=3)
        words = [
            f"{band['from_px']}+" if band["to_px"] is None else f"{band['from_px']}–{band['to_px']}"
            for band in bands
        ]
        axes.set_xticks(range(len(words)), words)
        axes.set_xlabel("distance from the change, px")
