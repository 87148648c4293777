"""What the numbers say, in words: who is more stable, by how much, and at which sharpness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.decibels import IDENTICAL_DB
from eval.results import EQUALLY_SHARP, lead_figure, summary_figure

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Words for the top of a report.

    Attributes:
        headline: one sentence, the answer.
        sharpness: at which sharpness, and whether that makes the comparison fair.
        basis: protocol, margin, shifts and number of pictures it rests on.
        others: one sentence for every further comparison.
    """

    headline: str
    sharpness: str
    basis: str
    others: Sequence[str] = ()


def verdict(results: Results) -> Verdict:
    """Return the verdict of the first protocol at its widest margin; of EQ-T if there is no protocol."""
    models = {model["name"]: model for model in results["models"]}
    protocol, margin = leading_panel(results)
    comparisons = [
        row
        for row in results["comparisons"]
        if row["protocol"] == protocol and str(row["margin_px"]) == margin
    ]
    if not comparisons:
        model = results["models"][0]
        return Verdict(_alone(model, (protocol, margin)), _keeps(model), _basis(results))
    # The one that says most: the largest lead over the reference, else the reference's smallest lead.
    comparisons = sorted(comparisons, key=lambda row: -row["gain_db"]["mean"])
    first = comparisons[0]
    count = results["data"]["n_images"]
    pair = (models[first["model"]], models[first["reference"]])
    if count > 1 and not separable(first["gain_db"]):
        headline = compare_words(first, count)
        sharpness = _both(*pair)
    else:
        winner, loser = pair if first["gain_db"]["mean"] > 0 else pair[::-1]
        headline = _headline(winner, loser, abs(first["gain_db"]["mean"]), (protocol, margin))
        sharpness = _fairness(winner, loser)
        if _score_db(winner, (protocol, margin)) < IDENTICAL_DB:
            sharpness = f"{_interval(first['gain_db'], count)} {sharpness}"
    others = [compare_words(row, count) for row in comparisons[1:]]
    return Verdict(headline, sharpness, f"{_basis(results)}, paired picture by picture", others)


def leading_panel(results: Results) -> tuple[str, str]:
    """Return the first protocol and its widest margin, keys of `stability`; ("eqt", "0") if it is empty."""
    stability = results["models"][0]["stability"]
    if not stability:
        return "eqt", "0"
    protocol, margins = next(iter(stability.items()))
    return protocol, list(margins)[-1]


def separable(gain: Mapping[str, Any]) -> bool:
    """Return whether the interval of a difference leaves 0 out; without one it cannot be said."""
    if gain["ci95"] is None:
        return False
    low, high = gain["ci95"]
    return bool(low > 0 or high < 0)


def compare_words(row: Mapping[str, Any], n_images: int) -> str:
    """Return a comparison as a sentence; an interval over one picture is not claimed."""
    model, reference, gain = row["model"], row["reference"], row["gain_db"]
    if n_images < 2 or gain["ci95"] is None:
        verb = "more" if gain["mean"] > 0 else "less"
        return (
            f"{model} is {verb} stable than {reference} by {abs(gain['mean']):.1f} dB on one picture, "
            "so there is no interval."
        )
    low, high = gain["ci95"]
    if not separable(gain):
        return (
            f"{model} and {reference} cannot be told apart: {gain['mean']:+.1f} dB "
            f"(95 % interval {low:+.1f} to {high:+.1f} dB)."
        )
    if gain["mean"] < 0:
        model, reference, low, high = reference, model, -high, -low
    return (
        f"{model} is more stable than {reference} by {abs(gain['mean']):.1f} dB "
        f"(95 % interval {low:.1f} to {high:.1f} dB)."
    )


def margin_words(margin: str) -> str:
    """Return a margin as people say it."""
    return "full frame" if margin == "0" else f"{margin} px of border left out"


def shift_words(results: Results) -> str:
    """Return the shifts and their direction as people say it."""
    shifts = list(results["shifts_px"])
    whole = len(shifts) > 2 and shifts == list(range(int(shifts[0]), int(shifts[-1]) + 1))
    text = f"{shifts[0]} to {shifts[-1]}" if whole else ", ".join(map(str, shifts))
    ways = {"x": "to the right", "y": "down", "diagonal": "right and down"}
    return f"shifts of {text} px {ways.get(results['axis'], 'along ' + str(results['axis']))}"


def _alone(model: Results, panel: tuple[str, str]) -> str:
    figure = _lead(model, panel)
    low, high = figure["ci95"] or (0, 0)
    interval = "" if low == high else f" (95 % interval {low:.1f} to {high:.1f} dB)"
    return f"{model['name']} keeps {figure['mean']:.1f} dB when its input moves{interval}."


def _basis(results: Results) -> str:
    """Return protocol, margin, shifts, and what the mean is over."""
    (protocol, margin), model = leading_panel(results), results["models"][0]
    pictures = _pictures(results["data"]["n_images"])
    if protocol == "eqt":
        return f"EQ-T, {model['eqt']['n_draws']} random translations a picture, pooled over {pictures}"
    summary = model["stability"][protocol][margin]
    over = summary.get("over") or ("odd shifts" if summary["odd_mean_db"] else "all shifts")
    where = f"{protocol} protocol, {margin_words(margin)}, {shift_words(results)}"
    return f"{where}, mean over {over} and {pictures}"


def _pictures(count: int) -> str:
    return f"{count} pictures" if count != 1 else "1 picture"


def _keeps(model: Results) -> str:
    ratio = model["quality"]["tv_ratio"]
    if ratio is None:
        return "The targets are flat, so sharpness cannot be compared."
    return (
        f"It shows {_detail(ratio)} of the target’s detail (total variation). A soft picture is stable for "
        "free: compare generators at equal sharpness."
    )


def _both(first: Results, second: Results) -> str:
    ratios = [model["quality"]["tv_ratio"] for model in (first, second)]
    if None in ratios:
        return "The targets are flat, so sharpness cannot be compared."
    return (
        f"{first['name']} shows {_detail(ratios[0])} of the target’s detail (total variation), "
        f"{second['name']} {_detail(ratios[1])}."
    )


def _headline(winner: Results, loser: Results, gain_db: float, panel: tuple[str, str]) -> str:
    # What 150 dB exceeds another by is a convention and no measurement.
    if _score_db(winner, panel) >= IDENTICAL_DB:
        return (
            f"{winner['name']} is identical at every shift, {loser['name']} keeps "
            f"{_score_db(loser, panel):.1f}\N{NO-BREAK SPACE}dB."
        )
    return (
        f"{winner['name']} is more stable than {loser['name']} by "
        f"{gain_db:.1f}\N{NO-BREAK SPACE}dB{_but(winner, loser)}."
    )


def _score_db(model: Results, panel: tuple[str, str]) -> float:
    return float(_lead(model, panel)["mean"])


def _lead(model: Results, panel: tuple[str, str]) -> dict[str, Any]:
    """Return the mean and interval of a model that the verdict rests on."""
    if panel[0] == "eqt":
        return lead_figure(model)
    return summary_figure(model["stability"][panel[0]][panel[1]])


def _detail(ratio: float) -> str:
    return f"{100 * ratio:.0f}\N{NO-BREAK SPACE}%"


def _softness(winner: Results, loser: Results) -> float | None:
    """Return how many times as much detail the loser shows; None where that cannot be said."""
    ours, theirs = (model["quality"]["tv_ratio"] for model in (winner, loser))
    return theirs / ours if ours and theirs else None


def _but(winner: Results, loser: Results) -> str:
    """Return the headline's ending: no stability without sharpness."""
    softness = _softness(winner, loser)
    if softness is None:
        return ""
    if softness > EQUALLY_SHARP:
        return ", but softer"
    return " although it is sharper" if softness < 1 / EQUALLY_SHARP else " at about equal sharpness"


def _fairness(winner: Results, loser: Results) -> str:
    softness, words = _softness(winner, loser), _both(winner, loser)
    if softness is None:
        return words
    if softness > EQUALLY_SHARP:
        return (
            f"{words} A soft picture is stable for free, so part of the lead may be softness: compare "
            "them at equal sharpness before you conclude."
        )
    if softness < 1 / EQUALLY_SHARP:
        return f"{words} The lead is not bought with softness."
    return f"{words} So the comparison is fair."


def _interval(gain: Results, n_images: int) -> str:
    """Return the interval of a lead, as a sentence; over one picture none is claimed."""
    if n_images < 2 or gain["ci95"] is None:
        return "Measured on one picture, so there is no interval."
    low, high = sorted(abs(end) for end in gain["ci95"])
    return f"95\N{NO-BREAK SPACE}% interval: {low:.1f} to {high:.1f}\N{NO-BREAK SPACE}dB."
