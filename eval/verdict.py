"""What the numbers say, in words: who is more stable, by how much, and at which sharpness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]

ABOUT_EQUAL = 1.1  # sharpness within 10 %: no one would see which is sharper


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
    """Return the verdict of the first protocol at its widest margin."""
    models = {model["name"]: model for model in results["models"]}
    protocol, margin = leading_panel(results)
    basis = f"{protocol} protocol, {margin_words(margin)}, {shift_words(results)}"
    comparisons = [
        row
        for row in results["comparisons"]
        if row["protocol"] == protocol and str(row["margin_px"]) == margin
    ]
    if not comparisons:
        model = results["models"][0]
        return Verdict(_alone(model, protocol, margin), _keeps(model), _with_count(basis, results, model))
    # The one that says most: the largest lead over the reference, else the reference's smallest lead.
    comparisons = sorted(comparisons, key=lambda row: -row["gain_db"]["mean"])
    first = comparisons[0]
    if not separable(first["gain_db"]):
        sharpness = _both(models[first["model"]], models[first["reference"]])
    else:
        won = first["gain_db"]["mean"] > 0
        pair = (first["model"], first["reference"])
        winner, loser = (models[name] for name in (pair if won else pair[::-1]))
        sharpness = _fairness(winner, loser)
    count = results["data"]["n_images"]
    basis += f", mean over {first['over']} and {_pictures(count)}, paired picture by picture"
    others = [compare_words(row, count) for row in comparisons[1:]]
    return Verdict(compare_words(first, count), sharpness, basis, others)


def leading_panel(results: Results) -> tuple[str, str]:
    """Return the first protocol and its widest margin, the keys of `stability`."""
    protocol, margins = next(iter(results["models"][0]["stability"].items()))
    return protocol, list(margins)[-1]


def separable(gain: Mapping[str, Any]) -> bool:
    """Return whether the interval of a difference leaves 0 out."""
    low, high = gain["ci95"]
    return bool(low > 0 or high < 0)


def compare_words(row: Mapping[str, Any], n_images: int) -> str:
    """Return a comparison as a sentence; an interval over one picture is not claimed."""
    model, reference, gain = row["model"], row["reference"], row["gain_db"]
    low, high = gain["ci95"]
    if n_images < 2:
        verb = "more" if gain["mean"] > 0 else "less"
        return (
            f"{model} is {verb} stable than {reference} by {abs(gain['mean']):.1f} dB on one picture, "
            "so there is no interval."
        )
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


def _alone(model: Results, protocol: str, margin: str) -> str:
    summary = model["stability"][protocol][margin]
    figure = summary["odd_mean_db"] or summary["mean_db"]
    low, high = figure["ci95"]
    interval = "" if low == high else f" (95 % interval {low:.1f} to {high:.1f} dB)"
    return f"{model['name']} keeps {figure['mean']:.1f} dB when its input moves{interval}."


def _with_count(basis: str, results: Results, model: Results) -> str:
    protocol, margin = leading_panel(results)
    over = "odd shifts" if model["stability"][protocol][margin]["odd_mean_db"] else "all shifts"
    return f"{basis}, mean over {over} and {_pictures(results['data']['n_images'])}"


def _pictures(count: int) -> str:
    return f"{count} pictures" if count != 1 else "1 picture"


def _keeps(model: Results) -> str:
    ratio = model["quality"]["tv_ratio"]
    if ratio is None:
        return "The targets are flat, so sharpness cannot be compared."
    return (
        f"It shows {ratio:.0%} of the target's detail (total variation). A soft picture is stable for "
        "free: compare generators at equal sharpness."
    )


def _both(first: Results, second: Results) -> str:
    ratios = [model["quality"]["tv_ratio"] for model in (first, second)]
    if None in ratios:
        return "The targets are flat, so sharpness cannot be compared."
    return (
        f"{first['name']} shows {ratios[0]:.0%} of the target's detail (total variation), "
        f"{second['name']} {ratios[1]:.0%}."
    )


def _fairness(winner: Results, loser: Results) -> str:
    ratios = [model["quality"]["tv_ratio"] for model in (winner, loser)]
    words = _both(winner, loser)
    if None in ratios or not all(ratios):
        return words
    if ratios[1] / ratios[0] > ABOUT_EQUAL:
        return (
            f"{words} It is softer, and a soft picture is stable for free: part of the lead may be "
            "softness, so compare them at equal sharpness before you conclude."
        )
    if ratios[0] / ratios[1] > ABOUT_EQUAL:
        return f"{words} It is more stable although it is sharper."
    return f"{words} They are about equally sharp, so the comparison is fair."
