"""Every kept generator measured by `eval_stability`, each once."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reproduce.plan import STUDIES, Run
from reproduce.sharpness import Point
from reproduce.training import is_done
from steadypix.eval.results.lead import lead_figure
from steadypix.eval.results.schema import read_results
from steadypix.files import write_text
from steadypix.gen.weights.generators import GENERATOR_FILE

SHIFTS = ["--shifts", "0..7"]


class MeasuringFailed(RuntimeError):
    """An evaluation ended by itself; what was wrong stands above, in its own words."""

    exit_code = 1


def checkpoints(run: Run, root: Path) -> dict[float, Path]:
    """Return a run's kept generators by epoch, in the order of training; the last one once all is trained."""
    folder = run.directory(root)
    found = {}
    for file in folder.glob("generator-*.safetensors"):
        if number := re.fullmatch(r"generator-(\d+)", file.stem):
            found[float(number[1])] = file
    if is_done(run, root):
        found[float(run.epochs)] = folder / GENERATOR_FILE
    return dict(sorted(found.items()))


def measured(root: Path, study: str, scale: str) -> Path:
    """Return the folder of a study's evaluations."""
    return root / f"{study}-{scale}" / "measured"


def measure(
    run: Run, *, data: Path, root: Path, limit: int | None, last: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the row of every kept generator of a run, named `run@epoch`; measure what has not been.

    Args:
        run: which.
        data: folder of the pictures.
        root: folder of the runs.
        limit: pictures measured; None: all.
        last: words for the evaluation of the last generator, such as for slow metrics, once all is trained.
    """
    rows = []
    for epoch, file in checkpoints(run, root).items():
        out = measured(root, run.study, run.scale) / run.name / f"{epoch:g}"
        words = [*_limit(limit), *(last if epoch == run.epochs else ())]
        results = evaluate([file], run.study, data=data, out=out, words=words)
        row = results["models"][0]
        row["name"] = f"{run.name}@{epoch:g}"
        row["epoch"], row["n_images"] = epoch, results["data"]["n_images"]
        rows.append(row)
    return rows


def evaluate(
    files: Sequence[Path], study: str, *, data: Path, out: Path, words: Sequence[str] = ()
) -> dict[str, Any]:
    """Run `eval_stability` unless its results are there, of these files and words; return results.json.

    Raises:
        MeasuringFailed: if it fails; its own message stands above.
    """
    of = STUDIES[study]
    arguments = [*map(str, files), *SHIFTS, "--data", str(data / of.folder), "--split", of.split, *words]
    asked = {"arguments": arguments, "sha256": [sha256(file) for file in files]}
    note = out / "asked.json"
    if _read_note(note) != asked:
        note.unlink(missing_ok=True)  # what is cut short from here on passes for nobody's results
        command = [sys.executable, "-m", "steadypix.eval.eval_stability", *arguments, "--out", str(out)]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise MeasuringFailed(f"eval_stability {' '.join(arguments)}: exit code {done.returncode}")
        write_text(note, json.dumps(asked))
    return read_results(out / "results.json")


def points(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return what the comparison at equal sharpness needs of a run's rows."""
    found = []
    for row in rows:
        figure = lead_figure(row)
        low, high = figure["ci95"] or (figure["mean"], figure["mean"])
        tv = row["quality"]["tv"]
        found.append(Point(row["epoch"], mean_of(tv), figure["mean"], low, high))
    return found


def sha256(file: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_note(note: Path) -> Any:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _limit(limit: int | None) -> list[str]:
    return [] if limit is None else ["--limit", str(limit)]


def mean_of(figure: Any) -> float:
    """Return the mean of a figure of results.json, with an interval or without."""
    return float(figure["mean"] if isinstance(figure, dict) else figure)
