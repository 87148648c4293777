"""What each table of a study's page comes to, in a sentence above it."""

from __future__ import annotations

from reproduce.measuring import mean_of, points
from reproduce.page import Baseline, Page
from reproduce.plan import PAPER_BASE, STUDIES, VARIANTS, Run
from reproduce.sharpness import at_sharpness
from steadypix.eval.results.lead import lead_score_db


def findings(page: Page, ratio: float) -> dict[str, str]:
    """Return by a table's name the sentence above it; "" where there is nothing to say.

    Args:
        page: the study.
        ratio: share of the baseline's TV at which all are compared.
    """
    others = [
        (run, base)
        for run in page.done()
        if not run.is_baseline and (base := page.baseline(run.variant)) is not None
    ]
    return {
        "finals": _steadiest(page, others),
        "equal": _at_equal_sharpness(page, others, ratio),
        "late": _late(page),
        "gains": _beside_the_paper(page, others),
        "along": _along(page),
    }


def _steadiest(page: Page, runs: list[tuple[Run, Baseline]]) -> str:
    found = []
    for run, base in runs:
        row = page.finals[run.name]
        found.append((lead_score_db(row) - base.db, mean_of(row["quality"]["tv"]) / base.tv, run.label))
    if not found:
        return ""
    gain, share, label = max(found)
    how = f"{gain:+.1f} dB over its baseline, at {share:.2f} of its TV"
    return f"**The steadiest at its end is {label}: {how}.**"


def _at_equal_sharpness(page: Page, runs: list[tuple[Run, Baseline]], ratio: float) -> str:
    found = []
    for run, base in runs:
        there = at_sharpness(points(page.rows[run.name]), ratio * base.tv)
        if there is not None:
            found.append((there.db - base.db, run.label))
    if not found:
        return f"**None of them passes {ratio} of its baseline's TV.**" if runs else ""
    gain, label = max(found)
    return f"**As sharp as that, {label} gains most: {gain:+.1f} dB.**"


def _late(page: Page) -> str:
    found = ((at_sharpness(late, point.tv), point) for _, point, late in page.beside_late())
    more = [there.db - point.db for there, point in found if there is not None]
    if not more:
        return ""
    between = f"{min(more):.1f} to {max(more):.1f} dB"
    return f"**At the sharpness of Bin-5's checkpoints `blur_late` is {between} steadier.**"


def _beside_the_paper(page: Page, runs: list[tuple[Run, Baseline]]) -> str:
    paper = VARIANTS["bin5"].paper
    gains = [
        f"{lead_score_db(page.finals[run.name]) - base.db:+.1f}"
        for run, base in runs
        if run.variant == "bin5"
    ]
    if not gains or not paper or not STUDIES[page.study].in_paper:
        return ""
    return (
        f"**Bin-5 gains {' and '.join(gains)} dB here and {paper[0] - PAPER_BASE[0]:+.1f} dB in the paper.**"
    )


def _along(page: Page) -> str:
    ends = [(rows[0], rows[-1]) for run in page.runs() if len(rows := points(page.rows[run.name])) > 1]
    if not ends:
        return ""
    turned = sum(last.tv > first.tv and last.db < first.db for first, last in ends)
    return f"**{turned} of {len(ends)} end sharper and less steady than at their first checkpoint.**"
