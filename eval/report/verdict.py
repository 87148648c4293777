"""What the numbers say, in words: who is more stable, by how much, and at which sharpness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from steadypix.eval.measure.registry import columns
from steadypix.eval.metrics.decibels import IDENTICAL_DB
from steadypix.eval.repeat.shown import floor_lines
from steadypix.eval.results.lead import EQUALLY_SHARP, lead_figure, lead_score_db, leading, margin_words

Results = Mapping[str, Any]
NO_SHARPNESS = "The targets are flat, so sharpness cannot be compared."
NO_TARGETS = "There are no targets, so sharpness is not known beside them: compare generators at equal TV."


class Verdict(NamedTuple):
    """Words for the top of a report."""

    headline: str  # one sentence, the answer
    sharpness: str  # at which sharpness, and whether that makes the comparison fair
    basis: str  # protocol, margin, shifts and number of pictures it rests on
    others: Sequence[str] = ()  # one sentence for every further comparison and every floor


def verdict(results: Results) -> Verdict:
    """Return the verdict of the first protocol at its widest margin; of EQ-T if there is no protocol."""
    models = {model["name"]: model for model in results["models"]}
    lead = leading(results["models"][0])
    comparisons = [row for row in results["comparisons"] if (row["protocol"], str(row["margin_px"])) == lead]
    if not comparisons:
        model = results["models"][0]
        return Verdict(_alone(model), _keeps(model), _basis(results), floor_lines(results))
    # The one that says most: the largest lead over the reference, else the reference's smallest lead.
    first, *rest = sorted(comparisons, key=lambda row: -row["gain_db"]["mean"])
    count, gain = results["data"]["n_images"], first["gain_db"]
    winner, loser = models[first["model"]], models[first["reference"]]
    if count > 1 and not separable(gain):
        headline, sharpness = compare_words(first, count), _both(winner, loser)
    else:
        if gain["mean"] <= 0:
            winner, loser = loser, winner
        headline = _headline(winner, loser, abs(gain["mean"]))
        sharpness = f"{_both(winner, loser)}{_softness(winner, loser)[1]}"
        if lead_score_db(winner) < IDENTICAL_DB:
            sharpness = f"{_interval_sentence(gain, count)} {sharpness}"
    others = [*(compare_words(row, count) for row in rest), *floor_lines(results)]
    return Verdict(headline, sharpness, f"{_basis(results)}, paired picture by picture", others)


def separable(gain: Mapping[str, Any]) -> bool:
    """Return whether the interval of a difference leaves 0 out; without one it cannot be said."""
    return gain["ci95"] is not None and not gain["ci95"][0] <= 0 <= gain["ci95"][1]


def compare_words(row: Mapping[str, Any], n_images: int) -> str:
    """Return a comparison as a sentence; an interval over one picture is not claimed."""
    model, reference, gain = row["model"], row["reference"], row["gain_db"]
    if n_images < 2 or gain["ci95"] is None:
        verb = "more" if gain["mean"] > 0 else "less"
        return (
            f"{model} is {verb} stable than {reference} by {abs(gain['mean']):.1f} dB on one picture, "
            "so there is no interval."
        )
    if not separable(gain):
        interval = _interval(*gain["ci95"], sign="+")
        return f"{model} and {reference} cannot be told apart: {gain['mean']:+.1f} dB{interval}."
    if gain["mean"] < 0:
        model, reference = reference, model
    interval = _interval(*sorted(map(abs, gain["ci95"])))
    return f"{model} is more stable than {reference} by {abs(gain['mean']):.1f} dB{interval}."


def shift_words(results: Results) -> str:
    """Return the shifts and their direction as people say it."""
    shifts = list(results["shifts_px"])
    whole = len(shifts) > 2 and shifts == list(range(int(shifts[0]), int(shifts[-1]) + 1))
    text = f"{shifts[0]} to {shifts[-1]}" if whole else ", ".join(map(str, shifts))
    ways = {"x": "to the right", "y": "down", "diagonal": "right and down"}
    return f"shifts of {text} px {ways.get(results['axis'], 'along ' + str(results['axis']))}"


def _interval(low: float, high: float, *, sign: str = "") -> str:
    return f" (95 % interval {low:{sign}.1f} to {high:{sign}.1f} dB)"


def _alone(model: Results) -> str:
    figure = lead_figure(model)
    low, high = figure["ci95"] or (0, 0)
    interval = "" if low == high else _interval(low, high)
    return f"{model['name']} keeps {figure['mean']:.1f} dB when its input moves{interval}."


def _basis(results: Results) -> str:
    """Return protocol, margin, shifts, and what the mean is over."""
    model = results["models"][0]
    protocol, margin = leading(model)
    count = results["data"]["n_images"]
    pictures = f"{count} pictures" if count != 1 else "1 picture"
    if protocol not in model["stability"]:
        draws = model[protocol]["n_draws"]
        return f"{columns(results)[0].title}, {draws} random translations a picture, pooled over {pictures}"
    summary = model["stability"][protocol][margin]
    over = summary.get("over") or ("odd shifts" if summary["odd_mean_db"] else "all shifts")
    where = f"{protocol} protocol, {margin_words(margin)}, {shift_words(results)}"
    return f"{where}, mean over {over} and {pictures}"


def _keeps(model: Results) -> str:
    ratio = model["quality"]["tv_ratio"]
    if ratio is None:
        return NO_SHARPNESS if model["quality"]["target_tv"] else NO_TARGETS
    return (
        f"It shows {_detail(ratio)} of the target’s detail (total variation). A soft picture is stable for "
        "free: compare generators at equal sharpness."
    )


def _both(first: Results, second: Results) -> str:
    ratios = [model["quality"]["tv_ratio"] for model in (first, second)]
    if None in ratios:
        return NO_SHARPNESS if first["quality"]["target_tv"] else NO_TARGETS
    return (
        f"{first['name']} shows {_detail(ratios[0])} of the target’s detail (total variation), "
        f"{second['name']} {_detail(ratios[1])}."
    )


def _headline(winner: Results, loser: Results, gain_db: float) -> str:
    # What 150 dB exceeds another by is a convention and no measurement.
    if lead_score_db(winner) >= IDENTICAL_DB:
        return (
            f"{winner['name']} is identical at every shift, {loser['name']} keeps "
            f"{lead_score_db(loser):.1f}\N{NO-BREAK SPACE}dB."
        )
    but, _ = _softness(winner, loser)
    return f"{winner['name']} is more stable than {loser['name']} by {gain_db:.1f}\N{NO-BREAK SPACE}dB{but}."


def _detail(ratio: float) -> str:
    return f"{100 * ratio:.0f}\N{NO-BREAK SPACE}%"


def _softness(winner: Results, loser: Results) -> tuple[str, str]:
    """Return what is said of a winner as soft as that, and whether it is fair; nothing where not known."""
    ours, theirs = (model["quality"]["tv_ratio"] for model in (winner, loser))
    if not ours or not theirs:
        return "", ""
    if theirs / ours > EQUALLY_SHARP:
        return ", but softer", (
            " A soft picture is stable for free, so part of the lead may be softness: compare them at equal "
            "sharpness before you conclude."
        )
    if theirs / ours < 1 / EQUALLY_SHARP:
        return " although it is sharper", " The lead is not bought with softness."
    return " at about equal sharpness", " So the comparison is fair."


def _interval_sentence(gain: Results, n_images: int) -> str:
    """Return the interval of a lead, as a sentence; over one picture none is claimed."""
    if n_images < 2 or gain["ci95"] is None:
        return "Measured on one picture, so there is no interval."
    low, high = sorted(abs(end) for end in gain["ci95"])
    return f"95\N{NO-BREAK SPACE}% interval: {low:.1f} to {high:.1f}\N{NO-BREAK SPACE}dB."
