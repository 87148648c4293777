"""A rewritten network fine-tuned, a few hundred steps at a time: interrupted at any instant, it goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from steadypix import json_checks as want
from steadypix.checkpoints.retrofitting.pictures import Pictures
from steadypix.checkpoints.retrofitting.rewrite import Rewritten
from steadypix.checkpoints.retrofitting.table import Row, as_table
from steadypix.checkpoints.run_directory import STATE_FILE, RunDirectory
from steadypix.checkpoints.setup import hash_seed
from steadypix.checkpoints.stop import StopRequest
from steadypix.command import version
from steadypix.data.pairs.sampler import EpochSampler
from steadypix.errors import NOT_KEPT, CheckpointError, InputError
from steadypix.files import write_text
from steadypix.gen.training.failures import failures_explained
from steadypix.gen.training.state import pack_state, unpack_state
from steadypix.gen.weights.generators import GENERATOR_FILE
from steadypix.gen.weights.tensors import read_tensors
from steadypix.progress import progress_interval_s

TABLE_FILE = "retrofit.json"
CONTENTS = ("pictures_sha256", "code_sha256")
LOG_EVERY_STEPS = 50
SAVE_EVERY_S = 300.0
Step = Callable[[Sequence[Mapping[str, Any]], Sequence[int]], dict[str, Tensor]]


@dataclass
class Run:
    """A retrofit under way.

    Attributes:
        out: its folder.
        asked: what makes it this run and no other, JSON-able; a command that goes on must ask for the same.
        rewritten: the networks.
        networks: what is trained, by name.
        optimizers: by name.
        row: measures the network as it is now.
        rows: of the table so far.
        seen: steps so far.
    """

    out: Path
    asked: dict[str, Any]
    rewritten: Rewritten
    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    row: Callable[[nn.Module], Row]
    rows: list[Row] = field(default_factory=list)
    seen: int = 0

    def restore(self) -> None:
        """Go on from `out`, if it holds a run.

        Raises:
            InputError: if that was asked for something else.
            CheckpointError: if its state is damaged.
        """
        path = self.out / STATE_FILE
        if not path.exists():
            if (self.out / GENERATOR_FILE).exists():
                raise InputError(f"--out {self.out}: holds a generator already; expected a new folder")
            return
        tensors, theirs = read_tensors(path)
        asked, rows, seen = (theirs.get(key) for key in ("config", "rows", "seen"))
        if (
            not isinstance(asked, dict)
            or not isinstance(rows, list)
            or not _fit(rows)
            or type(seen) is not int
            or seen < 0
        ):
            raise CheckpointError(f"{path}: is no state of a retrofit; expected another --out")
        for key in sorted(asked.keys() | self.asked.keys()):
            if key in CONTENTS and key not in asked:  # of a run from before these were compared
                continue
            if asked.get(key) != self.asked.get(key):
                raise InputError(
                    f"--out {self.out}: holds a retrofit with {key} {asked.get(key)}, not "
                    f"{self.asked.get(key)}; expected the same, or another --out"
                )
        try:
            unpack_state(tensors, self.networks, self.optimizers)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{path}: the retrofit cannot go on from it ({reason})") from None
        self.rows, self.seen = rows, seen

    def save(self) -> None:
        """Write the network, then the state to go on from. Each file is replaced in one instant."""
        self.rewritten.save(self.out / GENERATOR_FILE, self.provenance())
        self.save_state()

    def save_state(self) -> None:
        """Write the state to go on from."""
        self.directory.save_state(
            pack_state(self.networks, self.optimizers), {"rows": self.rows, "seen": self.seen}
        )

    def provenance(self) -> dict[str, Any]:
        """Return where the weights come from."""
        return {
            "run": self.out.name,
            "steadypix": version(),
            "torch": torch.__version__,
            "retrofit": {**self.asked, "steps_done": self.seen, "done": self.rewritten.done},
            "rows": self.rows,
        }

    def add_row(self, name: str) -> None:
        """Measure, and write the table as far as it is."""
        self.rows.append({"name": name, "step": self.seen, **self.row(self.rewritten.network)})
        self._write_table()

    def _write_table(self) -> None:
        table = {"asked": self.asked, "done": self.rewritten.done, "rows": self.rows}
        path = self.out / TABLE_FILE
        write_text(path, json.dumps(table, indent=1) + "\n")
        if want.read_json(path, want.mapped(want.anything), "the table of a retrofit") != table:
            raise InputError(f"{path}: {NOT_KEPT}")

    @property
    def directory(self) -> RunDirectory:
        """Where this run writes."""
        return RunDirectory(self.out, config=self.asked)


def tune(
    run: Run,
    step: Step,
    pictures: Pictures,
    points: Mapping[int, str],
    *,
    batch_size: int,
    seed: int,
    device: str,
) -> None:
    """Fine-tune until the last point, measuring at each; go on where `run` stands.

    Args:
        run: restored, if there was something to restore; its table has the rows of before and right after.
        step: makes one update.
        pictures: to learn from.
        points: steps after which the network is measured -> the row's name.
        batch_size: windows a step.
        seed: of order, jitter and shifts.
        device: where the networks are.

    Raises:
        TrainingError: if a loss is not finite or memory runs out.
    """
    directory, last = run.directory, max(points)
    directory.begin(config_yaml=yaml.safe_dump(run.asked, sort_keys=False), seen=run.seen)
    run.save()
    sampler = EpochSampler(len(pictures.train), batch_size, seed=seed)
    an_epoch = len(pictures.train) // batch_size
    loader = torch.utils.data.DataLoader(pictures.train, batch_sampler=sampler)
    bar = tqdm(total=last, initial=run.seen, unit="step", mininterval=progress_interval_s())
    stop, saved_at = StopRequest(), time.monotonic()
    sums: dict[str, float] = {}
    counted = 0
    with stop.listening(), bar, failures_explained(lambda: run.seen * batch_size):
        while run.seen < last:
            epoch, place = divmod(run.seen, an_epoch)
            sampler.enter(epoch, start=place * batch_size)
            for batch in loader:
                on_device = {key: batch[key].to(device) for key in ("input", "target")}
                losses = step([on_device], [hash_seed(seed, run.seen)])
                run.seen += 1
                counted += 1
                bar.update()
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value.item()
                at_point = run.seen in points
                if run.seen % LOG_EVERY_STEPS == 0 or at_point:
                    means = {name: total / counted for name, total in sums.items()}
                    directory.write_row("train", seen=run.seen, epoch=run.seen / an_epoch, values=means)
                    bar.set_postfix(
                        {k.removeprefix("loss_"): f"{v:.3f}" for k, v in means.items()}, refresh=False
                    )
                    sums, counted = {}, 0
                if at_point:
                    run.add_row(points[run.seen])
                    directory.write_row(
                        "val", seen=run.seen, epoch=run.seen / an_epoch, values=_plain(run.rows[-1])
                    )
                    tqdm.write(as_table([*run.rows[:1], run.rows[-1]]).splitlines()[-1], file=sys.stderr)
                if stop.signal is not None and run.seen < last:
                    run.save()
                    tqdm.write(
                        f"{run.out}: saved after {run.seen} of {last} steps; the same command goes on",
                        file=sys.stderr,
                    )
                    stop.leave()
                if at_point or time.monotonic() - saved_at >= SAVE_EVERY_S:
                    run.save()
                    saved_at = time.monotonic()
                if run.seen == last:
                    break


def _fit(rows: list[Any]) -> bool:
    """Whether these can be rows of one table."""
    figures = dict.fromkeys(("l1", "lpips", "l1_before", "lpips_before", "target_tv"), want.number)
    figured = {"name": want.text, "step": want.count, "stability_db": want.number, "tv": want.number}
    try:
        want.listed(want.record(figured, figures))(rows, "rows")
    except want.WrongError:
        return False
    return all(row.keys() == rows[0].keys() for row in rows)


def _plain(row: Row) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, float)}
