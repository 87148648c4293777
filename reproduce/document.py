"""The page of a study: tables from results.json alone, pictures beside them; its words are in page.jinja."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reproduce import plan
from reproduce.findings import findings
from reproduce.measuring import mean_of, points
from reproduce.movement import movement_rows
from reproduce.page import Baseline, Page
from reproduce.plan import PAPER_BASE, SCALES, STUDIES, VARIANTS, Run, counterpart, discriminators
from reproduce.sharpness import Point, at_sharpness
from steadypix.eval.report.page import markdown_table, plus_minus, templates
from steadypix.eval.results.lead import lead_score_db, summary_figure

PAPER_RATIO = 0.84  # the paper's Bin-5 has this share of its baseline's TV
TOLERANCE = 0.02  # by which quality may be worse than the baseline's


def write_page(page: Page) -> str:
    """Return the page as Markdown."""
    measured = [row for rows in page.rows.values() for row in rows]
    template = templates(Path(__file__).parent, markup=False).get_template("page.jinja")
    text = template.render(
        page=page,
        plan=plan,
        study=STUDIES[page.study],
        filters=discriminators(page.scale),
        means=_means(page),
        margin_px=list(measured[0]["stability"]["crop"])[-1] if measured else "16",
        missing=[run.label for run in plan.runs(page.study, page.scale) if run.name not in page.finals],
        table=markdown_table,
        ratio=PAPER_RATIO,
        tolerance=TOLERANCE,
        target_tv=next((mean_of(row["quality"]["target_tv"]) for row in page.finals.values()), None),
        in_short=_in_short(page),
        findings=findings(page, PAPER_RATIO),
        finals=_finals(page),
        movements=_movements(page),
        worse=_worse(page),
        equal=_equal(page),
        baselines=_baselines(page),
        late=_late(page),
        base=page.baseline("baseline"),
        others={VARIANTS[run.variant].discriminator for run in page.done()},
        gains=_gains(page),
        along=_along(page),
        trainings=[run.words(Path("DIR"), Path("runs")) for run in page.runs()],
        folder=f"runs/{page.study}-{page.scale}",
        keep_every=Run(page.study, page.scale, "baseline", 0).keep_every,
    )
    return "\n\n".join(_on_one_line(part) for part in re.split("\n{2,}", text.strip())) + "\n"


def _on_one_line(part: str) -> str:
    """Return a paragraph without line breaks; a table, a heading or a list of commands as it is."""
    return part if part.startswith(("|", "#", "```")) else part.replace("\n", " ")


def _means(page: Page) -> str:
    text = f"{SCALES[page.scale].means}; {Run(page.study, page.scale, 'baseline', 0).epochs} epochs"
    for row in page.finals.values():
        trained = round(row["provenance"]["seen"] / row["provenance"]["epoch"])
        return f"{text}; {trained} training pairs, {row['n_images']} measured"
    return text


def _in_short(page: Page) -> list[list[str]]:
    """What it comes to, by discriminator: the paper's gain and ours at one sharpness, seed by seed."""
    rows = []
    for suffix, seen_through in discriminators(page.scale).items():
        base = page.baseline(f"baseline{suffix}")
        bin5, late = page.trained(f"bin5{suffix}"), page.trained(f"blur_late{suffix}")
        if base is None or not (bin5 or late):
            continue
        gains = [
            ", ".join(_gained(run, base)[2] or "sharper at every checkpoint" for run in several)
            for several in (bin5, late)
        ]
        over = [_more(late[0], run[-1]) or f"({_beside(late[0], run[-1].tv)})" for run in bin5 if late]
        name = f"on `{seen_through}`-filtered pictures" if seen_through else "as published"
        rows.append([name, f"{base.db:.2f}", f"{100 * base.tv:.2f}", *gains, ", ".join(over)])
    return rows


def _more(run: Sequence[Point], than: Point) -> str:
    """Return how much more stable a run is than a generator, where it is as sharp; "" if it never is."""
    found = at_sharpness(run, than.tv)
    return f"{found.db - than.db:+.2f}" if found else ""


def _beside(run: Sequence[Point], level: float) -> str:
    """Say on which side of a sharpness a run stays that never passes it."""
    return (
        "softer at every checkpoint"
        if max(point.tv for point in run) < level
        else "sharper at every checkpoint"
    )


def _finals(page: Page) -> list[list[str]]:
    """The table of the paper: every variant at the end of its training."""
    rows = []
    for run in page.done():
        row, variant, base = page.finals[run.name], VARIANTS[run.variant], page.baseline(run.variant)
        quality = row["quality"]
        tv = mean_of(quality["tv"])
        cells = [
            variant.label,
            str(run.seed),
            *_stability(row),
            f"{mean_of(quality['l1']):.4f}",
            f"{mean_of(quality['lpips']):.4f}" if quality.get("lpips") else "",
            f"{100 * tv:.2f}",
            f"{tv / base.tv:.2f}" if base else "",
        ]
        if STUDIES[page.study].in_paper:
            paper = variant.paper
            cells += [f"{paper[0]:.1f}", f"{paper[1] / PAPER_BASE[1]:.2f}"] if paper else ["", ""]
        rows.append(cells)
    return rows


def _movements(page: Page) -> tuple[list[str], list[list[str]]]:
    """What else was measured at the end of training, in the studies that ask for it."""
    if not STUDIES[page.study].moves:
        return [], []
    labels = [(VARIANTS[run.variant].label, str(run.seed)) for run in page.done()]
    return movement_rows(zip(labels, (page.finals[run.name] for run in page.done()), strict=True))


def _stability(row: Mapping[str, Any]) -> list[str]:
    """Return the mean at the widest margin with half of its interval, and the mean at the first margin."""
    margins = list(next(iter(row["stability"].values())).values())
    widest, full = summary_figure(margins[-1]), summary_figure(margins[0])
    half = None if widest["ci95"] is None else (widest["ci95"][1] - widest["ci95"][0]) / 2
    return [plus_minus(widest["mean"], half), plus_minus(full["mean"], None)]


def _worse(page: Page) -> list[str] | None:
    """Name what is worse than the mean of its baselines by more than the tolerance; None: of nothing."""
    compared, found = 0, []
    for run, (key, label) in itertools.product(page.done(), (("l1", "L1"), ("lpips", "LPIPS"))):
        of = counterpart(run.variant, "baseline")
        theirs = [page.finals[other.name] for other in page.done() if other.variant == of]
        bases = [mean_of(row["quality"][key]) for row in theirs if row["quality"].get(key)]
        mine = page.finals[run.name]["quality"].get(key)
        if run.variant == of or not bases or not mine:
            continue
        compared += 1
        more = mean_of(mine) / (sum(bases) / len(bases)) - 1
        if more > TOLERANCE:
            found.append(f"{label} of {run.label} ({100 * more:+.1f} %)")
    return found if compared else None


def _equal(page: Page) -> list[list[str]]:
    """What is gained where outputs are as detailed as the paper's Bin-5, relative to the baseline's end."""
    return [
        [
            VARIANTS[run.variant].label,
            str(run.seed),
            f"{100 * PAPER_RATIO * base.tv:.2f}",
            *_gained(points(page.rows[run.name]), base),
        ]
        for run in page.done()
        if (base := page.baseline(run.variant))
    ]


def _baselines(page: Page) -> dict[str, Baseline]:
    """Return the baselines of all that is compared, by their labels."""
    kinds = dict.fromkeys(counterpart(run.variant, "baseline") for run in page.done())
    found = {VARIANTS[kind].label: page.baseline(kind) for kind in kinds}
    return {label: base for label, base in found.items() if base}


def _gained(run: Sequence[Point], base: Baseline) -> list[str]:
    """Return epoch, stability and gain where a run is as sharp as the paper's Bin-5 beside its baseline."""
    level = PAPER_RATIO * base.tv
    found = at_sharpness(run, level)
    if found is not None:
        stability = plus_minus(found.db, (found.high_db - found.low_db) / 2)
        return [f"{found.epoch:.1f}", stability, f"{found.db - base.db:+.2f}"]
    sharpest = max(run, key=lambda point: point.tv)
    if sharpest.tv > level:
        return ["", "sharper at every checkpoint", ""]
    return [
        f"{sharpest.epoch:g}",
        f"softer at every checkpoint, at most {100 * sharpest.tv:.2f}: {sharpest.db:.2f}",
        f"({sharpest.db - base.db:+.2f} at {sharpest.tv / base.tv:.2f})",
    ]


def _late(page: Page) -> list[list[str]]:
    """Return how far `blur_late` lies over Bin-5 at the sharpness of each of Bin-5's checkpoints."""
    rows = []
    for run, point, late in page.beside_late():
        found = at_sharpness(late, point.tv)
        beside = f"{found.db:.2f}" if found else _beside(late, point.tv)
        cells = [run.label, f"{point.epoch:g}", f"{100 * point.tv:.2f}", f"{point.db:.2f}"]
        rows.append([*cells, beside, _more(late, point)])
    return rows


def _gains(page: Page) -> list[list[str]]:
    """Return what every run gains, here and in the paper, and its discriminator's loss."""
    rows = []
    for run in page.done():
        base, variant = page.baseline(run.variant), VARIANTS[run.variant]
        if base is None:
            continue
        gain = published = ""
        if not run.is_baseline:
            row, theirs = page.finals[run.name], variant.paper
            gain = f"{lead_score_db(row) - base.db:+.2f} at {mean_of(row['quality']['tv']) / base.tv:.2f}"
            if theirs:
                published = f"{theirs[0] - PAPER_BASE[0]:+.2f} at {theirs[1] / PAPER_BASE[1]:.2f}"
        loss = f"{page.losses[run.name]:.3f}" if run.name in page.losses else ""
        paper = [published] if STUDIES[page.study].in_paper else []
        rows.append([variant.label, str(run.seed), gain, *paper, loss])
    return rows


def _along(page: Page) -> list[list[str]]:
    """Every checkpoint, beside the mean of the baselines after as many epochs."""
    rows = []
    for run in page.runs():
        for row, point in zip(page.rows[run.name], points(page.rows[run.name]), strict=True):
            base = None if run.is_baseline else page.baseline(run.variant, point.epoch)
            beside = [f"{point.tv / base.tv:.2f}", f"{point.db - base.db:+.2f}"] if base else ["", ""]
            cells = [run.label, f"{point.epoch:g}", f"{point.db:.2f}", f"{100 * point.tv:.2f}"]
            rows.append([*cells, f"{mean_of(row['quality']['l1']):.4f}", *beside])
    return rows
