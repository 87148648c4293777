"""What each table of a study's page comes to, in a sentence above it."""

from __future__ import annotations

from typing import Any, Protocol

from reproduce.measuring import mean_of, points
from reproduce.plan import PAPER_BASE, STUDIES, VARIANTS, Run, counterpart
from reproduce.sharpness import at_sharpness
from steadypix.eval.results.lead import lead_score_db


class Measured(Protocol):
    """What is known of a study's trainings, see `reproduce.document.Page`."""

    @property
    def study(self) -> str:
        """A key of `STUDIES`."""

    @property
    def rows(self) -> Any:
        """By run's name, its checkpoints in the order of training."""

    @property
    def finals(self) -> Any:
        """By the name of a run that is trained to the end, its last generator."""

    def runs(self) -> list[Run]:
        """Return the runs that there are."""

    def done(self) -> list[Run]:
        """Return those of them that are trained to the end."""

    def baseline(self, variant: str, epoch: float | None = None) -> Any:
        """Return what a variant is compared with."""


def findings(page: Measured, ratio: float) -> dict[str, str]:
    """Return by a table's name the sentence above it; "" where there is nothing to say.

    Args:
        page: the study.
        ratio: share of the baseline's TV at which all are compared.
    """
    others = [run for run in page.done() if not _is_baseline(run) and page.baseline(run.variant)]
    return {
        "finals": _steadiest(page, others),
        "equal": _at_equal_sharpness(page, others, ratio),
        "late": _late(page, others),
        "gains": _beside_the_paper(page, others),
        "along": _along(page),
    }


def _is_baseline(run: Run) -> bool:
    return run.variant == counterpart(run.variant, "baseline")


def _steadiest(page: Measured, runs: list[Run]) -> str:
    found = []
    for run in runs:
        base, row = page.baseline(run.variant), page.finals[run.name]
        found.append((lead_score_db(row) - base.db, mean_of(row["quality"]["tv"]) / base.tv, run.label))
    if not found:
        return ""
    gain, share, label = max(found)
    how = f"{gain:+.1f} dB over its baseline, at {share:.2f} of its TV"
    return f"**The steadiest at its end is {label}: {how}.**"


def _at_equal_sharpness(page: Measured, runs: list[Run], ratio: float) -> str:
    found = []
    for run in runs:
        base = page.baseline(run.variant)
        there = at_sharpness(points(page.rows[run.name]), ratio * base.tv)
        if there is not None:
            found.append((there.db - base.db, run.label))
    if not found:
        return f"**None of them passes {ratio} of its baseline's TV.**" if runs else ""
    gain, label = max(found)
    return f"**As sharp as that, {label} gains most: {gain:+.1f} dB.**"


def _late(page: Measured, runs: list[Run]) -> str:
    more = []
    for run in runs:
        late = f"{counterpart(run.variant, 'blur_late')}-0"
        if not run.variant.startswith("bin5") or late not in page.finals:
            continue
        for point in points(page.rows[run.name]):
            there = at_sharpness(points(page.rows[late]), point.tv)
            if there is not None:
                more.append(there.db - point.db)
    if not more:
        return ""
    between = f"{min(more):.1f} to {max(more):.1f} dB"
    return f"**At the sharpness of Bin-5's checkpoints `blur_late` is {between} steadier.**"


def _beside_the_paper(page: Measured, runs: list[Run]) -> str:
    paper = VARIANTS["bin5"].paper
    gains = [
        f"{lead_score_db(page.finals[run.name]) - page.baseline(run.variant).db:+.1f}"
        for run in runs
        if run.variant == "bin5"
    ]
    if not gains or not paper or not STUDIES[page.study].in_paper:
        return ""
    return (
        f"**Bin-5 gains {' and '.join(gains)} dB here and {paper[0] - PAPER_BASE[0]:+.1f} dB in the paper.**"
    )


def _along(page: Measured) -> str:
    ends = [(rows[0], rows[-1]) for run in page.runs() if len(rows := points(page.rows[run.name])) > 1]
    if not ends:
        return ""
    turned = sum(last.tv > first.tv and last.db < first.db for first, last in ends)
    return f"**{turned} of {len(ends)} end sharper and less steady than at their first checkpoint.**"
