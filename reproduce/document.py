"""The page of a study: tables from results.json alone, pictures beside them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.results import lead_score_db, summary_figure
from reproduce.measuring import mean_of, points
from reproduce.plan import (
    GRID_PICTURES,
    MAP_PICTURES,
    PAPER_BASE,
    PAPER_BIN5,
    PAPER_TARGET_TV,
    SCALES,
    SHOWN,
    STUDIES,
    VARIANTS,
    Run,
    counterpart,
    discriminators,
    runs,
)
from reproduce.sharpness import Point, at_sharpness

PAPER_RATIO = 0.84  # the paper's Bin-5 has this share of its baseline's TV
TOLERANCE = 0.02  # by which quality may be worse than the baseline's
PUBLISHED = (
    " The published one soon does so with a low-passed generator: by detail at the highest frequencies, "
    "which such a generator can only paint as images of its half-rate maps, locked to their grid. Pressed to "
    "do so it gives up its stability at all shifts but those that keep the outer grids, multiples of 4 px. "
    "Behind a filter there is less to be gained by them."
)
Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # by run: its checkpoints, in the order of training


@dataclass(frozen=True)
class Page:
    """What a page is made from.

    Args:
        study: a key of `STUDIES`.
        scale: a key of `SCALES`.
        rows: by run's name, its checkpoints in the order of training.
        finals: by the name of a run that is trained to the end, its last generator measured in full.
        command: what made all of it.
        pictures: file -> what it shows, in order.
        losses: by run's name, the discriminator's mean loss in the last eighth of its training.
    """

    study: str
    scale: str
    rows: Rows
    finals: Mapping[str, Mapping[str, Any]]
    command: str
    pictures: Mapping[str, str]
    losses: Mapping[str, float]


def write_page(page: Page) -> str:
    """Return the page as Markdown."""
    # In the paper's order, whatever was trained first.
    names = [name for variant in VARIANTS for name in sorted(page.rows) if name.rpartition("-")[0] == variant]
    parts = [
        f"# {STUDIES[page.study].title}",
        f"Made by `{page.command}`. Scale `{page.scale}`: {_means(page)}. Stability is the mean "
        f"over odd shifts of 1 to 7 px with its 95 % interval over images, protocol `crop` with "
        f"{_margin_px(page)} px of margin; full frame is without margin.",
        _what_is_missing(page),
        _in_short(page),
        _final_table(page, [name for name in names if name in page.finals]),
        _equal_table(page, [name for name in names if name in page.finals]),
        *(f"![{text}]({file})\n\n*{text}*" for file, text in page.pictures.items()),
        _against_the_paper(page, names),
        _along_training(page, names),
        _commands(page, names),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _means(page: Page) -> str:
    text = f"{SCALES[page.scale].means}; {Run(page.study, page.scale, 'baseline', 0).epochs} epochs"
    for row in page.finals.values():
        trained = round(row["provenance"]["seen"] / row["provenance"]["epoch"])
        return f"{text}; {trained} training pairs, {row['n_images']} measured"
    return text


def _margin_px(page: Page) -> str:
    """Return the widest margin that was measured: 16 px where pictures are large enough."""
    measured = [row for rows in page.rows.values() for row in rows]
    return list(measured[0]["stability"]["crop"])[-1] if measured else "16"


def _what_is_missing(page: Page) -> str:
    missing = [run.name for run in runs(page.study, page.scale) if run.name not in page.finals]
    if not missing:
        return ""
    return f"Not trained to the end yet: {', '.join(missing)}. The same command goes on with them."


def _in_short(page: Page) -> str:
    """What it comes to, by discriminator: the paper's gain and ours at one sharpness, seed by seed."""
    rows = []
    for suffix, seen_through in discriminators(page.scale).items():
        base = _baseline(page, f"baseline{suffix}")
        if base is None:
            continue
        bin5 = _runs_of(page, f"bin5{suffix}")
        late = _runs_of(page, f"blur_late{suffix}")
        if not bin5 and not late:
            continue
        gains = [
            ", ".join(_gained(run, base, PAPER_RATIO * base.tv)[2] or "sharper throughout" for run in several)
            for several in (bin5, late)
        ]
        over = [
            f"{found.db - run[-1].db:+.2f}"
            if (found := at_sharpness(late[0], run[-1].tv))
            else f"({_beside(late[0], run[-1].tv)})"
            for run in bin5
            if late
        ]
        name = f"behind `{seen_through}`" if seen_through else "as published"
        rows.append([name, f"{base.db:.2f}", f"{100 * base.tv:.2f}", *gains, ", ".join(over)])
    if not rows:
        return ""
    columns = ["discriminator", "baseline [dB]", "its TV x 100", f"Bin-5 at {PAPER_RATIO} of it, gain [dB]"]
    columns += ["`blur_late` there, gain [dB]", "`blur_late` as sharp as Bin-5's end, more than it [dB]"]
    return (
        "## In short\n\n"
        f"Gains over the baseline where outputs have {PAPER_RATIO} of its TV: as the paper's Bin-5 on "
        f"facades, which gains {PAPER_BIN5[0] - PAPER_BASE[0]:.1f} dB. In brackets: the sharpest of a run "
        "that stays softer. Several figures are several seeds. Every row has a baseline of its own, the "
        "mean of its seeds, so rows are not equally sharp.\n\n" + _table(columns, rows)
    )


def _beside(run: Sequence[Point], level: float) -> str:
    """Say on which side of a sharpness a run stays that never passes it."""
    return "softer throughout" if max(point.tv for point in run) < level else "sharper throughout"


def _runs_of(page: Page, variant: str) -> list[list[Point]]:
    """Return the trained runs of a variant, seed by seed."""
    names = sorted(name for name in page.finals if name.rpartition("-")[0] == variant)
    return [points(page.rows[name]) for name in names]


def _final_table(page: Page, names: Sequence[str]) -> str:
    """The table of the paper: every variant at the end of its training."""
    columns = ["sampling", "seed", "stability [dB]", "full frame [dB]", "L1", "LPIPS", "TV x 100"]
    columns += ["TV / baseline's"]
    in_paper = STUDIES[page.study].in_paper
    columns += ["paper [dB]", "paper, TV / baseline's"] if in_paper else []
    rows = []
    for name in names:
        variant, _, seed = name.rpartition("-")
        row, paper = page.finals[name], VARIANTS[variant].paper
        base = _baseline(page, variant)
        quality = row["quality"]
        tv = mean_of(quality["tv"])
        cells = [
            VARIANTS[variant].label,
            seed,
            _stability(row, -1),
            _stability(row, 0),
            f"{mean_of(quality['l1']):.4f}",
            f"{mean_of(quality['lpips']):.4f}" if quality.get("lpips") else "",
            f"{100 * tv:.2f}",
            f"{tv / base.tv:.2f}" if base else "",
        ]
        if in_paper:
            cells += [f"{paper[0]:.1f}", f"{paper[1] / PAPER_BASE[1]:.2f}"] if paper else ["", ""]
        rows.append(cells)
    target = _target_tv(page)
    note = "" if target is None else f"The targets' own TV x 100 is {100 * target:.2f} here"
    note += f", {PAPER_TARGET_TV:.2f} in the paper." if note and in_paper else "." if note else ""
    notes = [note, _worse(page, names)]
    text = "## At the end of training\n\n" + _table(columns, rows)
    return "\n\n".join([text, *(note for note in notes if note)])


def _worse(page: Page, names: Sequence[str]) -> str:
    """Name what is worse than the mean of its baselines by more than the tolerance."""
    compared, found = 0, []
    for name, (key, label) in itertools.product(names, (("l1", "L1"), ("lpips", "LPIPS"))):
        variant = name.rpartition("-")[0]
        of = counterpart(variant, "baseline")
        quality = [
            page.finals[run]["quality"].get(key) for run in page.finals if run.rpartition("-")[0] == of
        ]
        bases = [mean_of(figure) for figure in quality if figure]
        mine = page.finals[name]["quality"].get(key)
        if variant == of or not bases or not mine:
            continue
        compared += 1
        more = mean_of(mine) / (sum(bases) / len(bases)) - 1
        if more > TOLERANCE:
            found.append(f"{label} of `{name}` ({100 * more:+.1f} %)")
    if not compared:
        return ""
    but = f", but for {', '.join(found)}" if found else ""
    return f"No L1 or LPIPS is worse than the mean of its baselines by more than {100 * TOLERANCE:g} %{but}."


@dataclass(frozen=True)
class Baseline:
    """The baseline, the mean of its seeds.

    Args:
        db: stability.
        tv: total variation of its outputs.
        seeds: how many.
    """

    db: float
    tv: float
    seeds: int


def _baseline(page: Page, variant: str, epoch: float | None = None) -> Baseline | None:
    """Return what a variant is compared with, at the end or after some epochs; None if that is not there."""
    of = _runs_of(page, counterpart(variant, "baseline"))
    found = [run[-1] for run in of]
    if epoch is not None:
        found = [point for run in of for point in run if point.epoch == epoch]
    if not found:
        return None
    count = len(found)
    db, tv = (sum(getattr(point, key) for point in found) / count for key in ("db", "tv"))
    return Baseline(db, tv, count)


def _equal_table(page: Page, names: Sequence[str]) -> str:
    """What is gained where outputs are as detailed as the paper's Bin-5, relative to the baseline's end."""
    rows, bases = [], {}
    for name in names:
        variant, _, seed = name.rpartition("-")
        base = _baseline(page, variant)
        if base is None:
            continue
        bases[VARIANTS[counterpart(variant, "baseline")].label] = base
        level = PAPER_RATIO * base.tv
        cells = _gained(points(page.rows[name]), base, level)
        rows.append([VARIANTS[variant].label, seed, f"{100 * level:.2f}", *cells])
    if not rows:
        return ""
    columns = ["sampling", "seed", "TV x 100", "epoch", "stability [dB]", "gain over the baseline [dB]"]
    stand = "; ".join(
        f"{label}: {base.db:.2f} dB at {100 * base.tv:.2f} (seeds: {base.seeds})"
        for label, base in bases.items()
    )
    return (
        "## At equal sharpness\n\n"
        "A soft picture is stable for free, so here every variant stands where its outputs' TV passes "
        f"{PAPER_RATIO} of its baseline's at the end (the paper's Bin-5 has that share), between two "
        f"checkpoints. The mean of the baselines at their end: {stand}. A baseline's own row says how "
        "much of a gain softness alone would give.\n\n" + _table(columns, rows) + _late_table(page, names)
    )


def _gained(run: Sequence[Point], base: Baseline, level: float) -> list[str]:
    found = at_sharpness(run, level)
    if found is None:
        sharpest = max(run, key=lambda point: point.tv)
        if sharpest.tv > level:
            return ["", "sharper at every checkpoint", ""]
        gain = f"({sharpest.db - base.db:+.2f} at {sharpest.tv / base.tv:.2f})"
        return [
            f"{sharpest.epoch:g}",
            f"softer throughout, at most {100 * sharpest.tv:.2f}: {sharpest.db:.2f}",
            gain,
        ]
    half = (found.high_db - found.low_db) / 2
    return [f"{found.epoch:.1f}", f"{found.db:.2f} ± {half:.2f}", f"{found.db - base.db:+.2f}"]


def _late_table(page: Page, names: Sequence[str]) -> str:
    """Return how far `blur_late` lies over Bin-5 at the sharpness of each of Bin-5's checkpoints."""
    rows = []
    for name in names:
        variant = name.rpartition("-")[0]
        late = f"{counterpart(variant, 'blur_late')}-0"
        if not variant.startswith("bin5") or late not in page.finals:
            continue
        for point in points(page.rows[name]):
            found = at_sharpness(points(page.rows[late]), point.tv)
            if found is None:
                db = [f"{point.db:.2f}", _beside(points(page.rows[late]), point.tv), ""]
            else:
                db = [f"{point.db:.2f}", f"{found.db:.2f}", f"{found.db - point.db:+.2f}"]
            rows.append([f"`{name}`", f"{point.epoch:g}", f"{100 * point.tv:.2f}", *db])
    if not rows:
        return ""
    columns = ["run", "epoch", "TV x 100", "Bin-5 [dB]", "`blur_late` [dB]", "more [dB]"]
    return (
        "\n\n`blur_late` (seed 0, the same discriminator) where its outputs are as sharp as those of each "
        "checkpoint of Bin-5:\n\n" + _table(columns, rows)
    )


def _against_the_paper(page: Page, names: Sequence[str]) -> str:
    """By how much our figures differ from the paper's, and what may be why."""
    base, in_paper = _baseline(page, "baseline"), STUDIES[page.study].in_paper
    if base is None:
        return ""
    rows = []
    for name in names:
        variant, _, seed = name.rpartition("-")
        if name in page.finals and _baseline(page, variant):
            gain, published, loss = _gain_cells(page, name)
            rows.append([VARIANTS[variant].label, seed, gain, *([published] if in_paper else []), loss])
    columns = ["sampling", "seed", "gain [dB] at TV / baseline's"]
    columns += ["in the paper"] if in_paper else []
    columns += ["loss of the discriminator"]
    usual = SCALES[page.scale].input_filter
    heading = "Against the paper" if in_paper else "What differs from the paper's recipe"
    stands = (
        f"The baseline has {base.db:.1f} dB here and {PAPER_BASE[0]:.1f} dB in the paper, whose protocol "
        "is not public: which shifts, how they enter at the border, which peak. Other differences: "
        if in_paper
        else "The paper has no figures of these pictures. Unlike its recipe: "
    )
    return (
        f"## {heading}\n\n{stands}"
        f"{_means(page)}; instance norm, and no dropout at test time; zero padding in all "
        f"convolutions; and the discriminator, which sees everything through {usual} "
        f"(`--discriminator.input_filter {usual}`){_other_discriminators(page)}. "
        "[Why there is a filter](../training.md). Its loss is the mean over the last eighth of a run: 0.69 "
        "is guessing, and one near nothing says that it tells outputs from targets at a glance."
        + (PUBLISHED if in_paper and "bin5_published-0" in page.finals else "")
        + "\n\n"
        + _table(columns, rows)
    )


def _other_discriminators(page: Page) -> str:
    """Return what the others see through, of those in the table."""
    found = {VARIANTS[name.rpartition("-")[0]].discriminator for name in page.finals}
    says = {
        "_soft": f", or through {discriminators(page.scale)['_soft']} where a row says so",
        "_published": ", or through nothing where a row says published",
    }
    return "".join(text for discriminator, text in says.items() if discriminator in found)


def _gain_cells(page: Page, name: str) -> list[str]:
    """Return what a run gains here and in the paper, and its discriminator's loss."""
    variant = name.rpartition("-")[0]
    loss = f"{page.losses[name]:.3f}" if name in page.losses else ""
    base = _baseline(page, variant)
    if base is None or variant == counterpart(variant, "baseline"):
        return ["", "", loss]
    row, theirs = page.finals[name], VARIANTS[variant].paper
    gain = f"{lead_score_db(row) - base.db:+.2f} at {mean_of(row['quality']['tv']) / base.tv:.2f}"
    published = f"{theirs[0] - PAPER_BASE[0]:+.2f} at {theirs[1] / PAPER_BASE[1]:.2f}" if theirs else ""
    return [gain, published, loss]


def _along_training(page: Page, names: Sequence[str]) -> str:
    """Every checkpoint, beside the mean of the baselines after as many epochs."""
    rows = []
    for name in names:
        variant = name.rpartition("-")[0]
        for point, l1 in zip(points(page.rows[name]), _l1(page.rows[name]), strict=True):
            of_baseline = variant == counterpart(variant, "baseline")
            base = None if of_baseline else _baseline(page, variant, point.epoch)
            beside = [f"{point.tv / base.tv:.2f}", f"{point.db - base.db:+.2f}"] if base else ["", ""]
            cells = [f"`{name}`", f"{point.epoch:g}", f"{point.db:.2f}", f"{100 * point.tv:.2f}", f"{l1:.4f}"]
            rows.append(cells + beside)
    columns = ["run", "epoch", "stability [dB]", "TV x 100", "L1", "TV / baseline's", "gain [dB]"]
    return (
        "## Along training\n\n"
        "The last two columns compare with the mean of the baselines after as many epochs.\n\n"
        + _table(columns, rows)
    )


def _commands(page: Page, names: Sequence[str]) -> str:
    lines = []
    for name in names:
        variant, _, seed = name.rpartition("-")
        run = Run(page.study, page.scale, variant, int(seed))
        lines.append("train_pix2pix " + " ".join(run.words(Path("DIR"), Path("runs"))))
    of, runs_folder = STUDIES[page.study], f"runs/{page.study}-{page.scale}"
    ending = f"--shifts 0..7 --data DIR/{of.folder} --split {of.split}"
    lpips = "--quality ssim,lpips --lpips-net squeeze --lpips-weights FILE"
    first = Run(page.study, page.scale, "baseline", 0).keep_every
    shown = " ".join(f"{runs_folder}/{name}" for name in SHOWN if name in page.finals)
    lines += [
        f"eval_stability {runs_folder}/RUN {ending} {lpips}",
        f"eval_stability {runs_folder}/RUN/generator-{first:04d}.safetensors {ending}   # along training",
        f"eval_stability {shown} {ending} --limit {GRID_PICTURES} --no-originals   # grid.png",
        f"eval_stability {shown} {ending} --limit {MAP_PICTURES} --map   # map.png",
    ]
    return (
        "## Commands\n\nEach row, checkpoint and picture by itself; LPIPS is SqueezeNet's:\n\n```\n"
        + "\n".join(lines)
        + "\n```"
    )


def _stability(row: Mapping[str, Any], margin: int) -> str:
    """Return mean and half of the interval, at the first (0) or the widest (-1) margin."""
    figure = summary_figure(list(next(iter(row["stability"].values())).values())[margin])
    half = "" if figure["ci95"] is None else f" ± {(figure['ci95'][1] - figure['ci95'][0]) / 2:.2f}"
    return f"{figure['mean']:.2f}{half if margin else ''}"


def _target_tv(page: Page) -> float | None:
    for row in page.finals.values():
        return mean_of(row["quality"]["target_tv"])
    return None


def _l1(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    return [mean_of(row["quality"]["l1"]) for row in rows]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
