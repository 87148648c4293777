"""A training between its loop and its directory: state in, metrics, pictures, checkpoints out."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.checkpoints.run_directory import MARKS, RunDirectory
from steadypix.command import version
from steadypix.configs.load import check_written, to_yaml
from steadypix.configs.resume import flatten
from steadypix.configs.schema import RunConfig
from steadypix.errors import printable

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn

    from steadypix.checkpoints.progress import Progress
    from steadypix.data.pairs.base import Pairs
    from steadypix.data.pairs.content import Content


BEST_FILE = "generator-best.safetensors"


class Run:
    """A training between its loop and its directory: state in, metrics, pictures and checkpoints out."""

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        networks: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        accelerator: Accelerator,
        an_epoch: int,
        content: Content,
        settle: Callable[[], None],
    ) -> None:
        self.config = config
        self.networks = networks
        self.optimizers = optimizers
        self.accelerator = accelerator
        self.an_epoch = an_epoch
        self.settle = settle  # before anything is made of the weights or the losses
        self.a_step = config.batch_size * config.train.accumulate * accelerator.num_processes
        # What a command that goes on is held against.
        self.facts = {
            "config": dataclasses.asdict(config),
            "a_step": self.a_step,
            "processes": accelerator.num_processes,
            "data": content.fingerprint,
            "pictures_sha256": content.sha256,
        }
        self.content = content
        self.directory = RunDirectory(out, config=self.facts["config"])
        self.changes: list[dict[str, Any]] = []  # options that changed when the run was gone on with
        self._sums: dict[str, Tensor] = {}
        self._counts: collections.Counter[str] = collections.Counter()  # a loss may begin in between
        self._steps = 0
        self._factor = 1.0
        self._logged_in = -1  # the epoch that the last line of losses belongs to
        self._shown_losses: dict[str, str] = {}
        self._since = self._saved_at = time.monotonic()
        self._validated: dict[str, Any] = {}
        self._unreadable: set[str] = set()
        self._skipped = 0

    @property
    def shown(self) -> nn.Module:
        """The generator that is looked at and saved: the average, where there is one."""
        ema = self.networks.get("ema")
        return self.networks["generator"] if ema is None else ema.get_submodule("module")

    def average(self) -> None:
        """Take the generator's weights into their average, where there is one."""
        ema: Any = self.networks.get("ema")
        if ema is not None:
            ema.update_parameters(self.networks["generator"])

    def say(self, message: str) -> None:
        """Print a message once, on stderr."""
        from tqdm import tqdm

        if self.accelerator.is_main_process:
            tqdm.write(message, file=sys.stderr)  # above the progress bar, not into it

    def begin(self, progress: Progress) -> None:
        """Make the directory and say what is going to happen."""
        self.directory.begin(config_yaml=to_yaml(self.config), seen=progress.seen)
        check_written(self.directory.path / "config.yaml", self.config)
        if self.config.train.tracker:
            start_tracker(self.accelerator, self.config, self.directory.path, progress.seen)
        weights = sum(p.numel() for p in self.networks["generator"].parameters())
        where = f"from sample {progress.seen}" if progress.seen else "from scratch"
        shape = self.config.generator
        self.say(
            f"{self.directory.path}: {shape.sampling} {shape.filter}, {weights / 1e6:.2f} M weights, "
            f"{self.an_epoch} pairs an epoch, {where}, on {self.accelerator.device}"
        )
        self._since = self._saved_at = time.monotonic()

    def count_skipped(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Name every unreadable pair once, and count the samples that others stand in for."""
        for batch in batches:
            for reasons in filter(None, batch["skipped"]):
                self._skipped += 1
                for reason in reasons.splitlines():
                    if reason not in self._unreadable:
                        self._unreadable.add(reason)
                        print(printable(f"skipped: {reason}"), file=sys.stderr)

    def log(self, progress: Progress, losses: dict[str, Tensor], factor: float, bar: Any) -> None:
        """Add a step; every `log_every_steps` write the means since the last line."""
        if not self.accelerator.is_main_process:
            return
        for key, loss in losses.items():
            self._sums[key] = self._sums.get(key, 0) + loss
            self._counts[key] += 1
        self._steps += 1
        self._factor = factor
        if (progress.seen // self.a_step) % self.config.train.log_every_steps:
            return
        self._log_means(progress, progress.epoch)
        bar.set_postfix(self.shown_figures(), refresh=False)

    def shown_figures(self) -> dict[str, str]:
        """Return what the progress bar shows: losses, and the last validation's dB beside its TV.

        TV is shown as such, and over that of the targets.
        """
        stability_db = self._validated.get("val_stability_db")
        if stability_db is None:
            return self._shown_losses
        shown = {"dB": f"{stability_db:.1f}", "TV": f"{self._validated['val_tv']:.3f}"}
        ratio = self._validated["val_tv_ratio"]
        if ratio is not None:
            shown["TV/targets"] = f"{ratio:.2f}"
        return {**self._shown_losses, **shown}

    def _log_means(self, progress: Progress, epoch: int) -> None:
        """Write the means of the steps since the last line."""
        self.settle()
        means = {key: value.item() / self._counts[key] for key, value in self._sums.items()}
        now = time.monotonic()
        row = {
            **means,
            "learning_rate": self.config.train.learning_rate * self._factor,
            "images_per_s": round(self._steps * self.a_step / max(now - self._since, 1e-9), 2),
        }
        self._write_row("train", progress, row)
        self._shown_losses = {key.removeprefix("loss_"): f"{v:.3f}" for key, v in means.items()}
        self._sums, self._steps, self._since, self._logged_in = {}, 0, now, epoch
        self._counts.clear()

    def end_epoch(self, progress: Progress, validation: Pairs | None) -> None:
        """Validate, draw samples and save, each when its epoch has come."""
        from steadypix.checkpoints.validation import draw_samples, validate
        from steadypix.gen.large.context import WithContext

        self.settle()
        context_px = self.config.data.context_px
        shown = WithContext(self.shown, context_px) if context_px else self.shown
        settings, epoch = self.config.train, progress.epoch
        last = epoch == settings.epochs
        if self.accelerator.is_main_process:
            if self._steps and self._logged_in < epoch - 1:  # an epoch of few steps has a line, too
                self._log_means(progress, epoch - 1)
            if validation is not None and due(epoch, settings.val_every, last):
                self._validated.update(validate(shown, validation, limit=settings.val_limit))
                self._write_row("val", progress, self._validated)
                self.say(f"epoch {epoch}: {in_words(self._validated)}")
                progress.plateau.update(self._validated["val_l1"])
                self._keep_best(progress)
            if validation is not None and due(epoch, settings.sample_every, last):
                draw_samples(shown, validation, self.directory.path / "samples" / f"epoch-{epoch:04d}.png")
            if due(epoch, settings.keep_every, last=False):
                self._save_generator(f"generator-{epoch:04d}.safetensors", progress)
        self._share_plateau(progress)
        if due(epoch, settings.save_every, last) or self.save_is_due():
            self.save(progress)
        self._say_skipped(epoch)
        self.accelerator.wait_for_everyone()
        self._since = time.monotonic()  # images_per_s is of training alone

    def save_is_due(self) -> bool:
        """Whether more time has passed since a state was written than a kill should cost."""
        every_s = self.config.train.save_every_s
        return 0 < every_s <= time.monotonic() - self._saved_at

    def save(self, progress: Progress) -> None:
        """Write the generator, then the state to go on from. Each file is replaced in one instant."""
        import torch

        from steadypix.gen.training.state import pack_state
        from steadypix.gen.weights.generators import GENERATOR_FILE

        self.settle()
        if self.accelerator.is_main_process:
            self._save_generator(GENERATOR_FILE, progress)
            threads = torch.get_num_threads()
            metadata = {**self.facts, "threads": threads, "progress": progress.to_json()}
            if self.changes:
                metadata["changes"] = self.changes
            tensors = pack_state(self.networks, self.optimizers)
            tensors[MARKS] = torch.from_numpy(self.content.marks.copy())
            self.directory.save_state(tensors, metadata)
        self._saved_at = time.monotonic()

    def _keep_best(self, progress: Progress) -> None:
        by = self.config.train.best_by
        score = {"l1": "val_l1", "stability": "val_stability_db"}
        value = self._validated[score[by]] if by else None
        if by is None or value is None:
            return
        if progress.is_best(-value if by == "stability" else value, by):
            self._save_generator(BEST_FILE, progress)

    def _share_plateau(self, progress: Progress) -> None:
        """Only the main process validates; the others take over its learning rate."""
        if self.config.train.lr_policy == "plateau" and self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            progress.plateau = broadcast_object_list([progress.plateau])[0]

    def _say_skipped(self, epoch: int) -> None:
        import torch

        if self.config.data.on_error == "skip":
            count = torch.tensor(self._skipped, device=self.accelerator.device)
            if total := int(self.accelerator.reduce(count)):
                self.say(f"epoch {epoch}: others stood in for {total} samples that cannot be read")
            self._skipped = 0

    def _save_generator(self, name: str, progress: Progress) -> None:
        import torch

        provenance = {
            "steadypix": version(),
            "torch": torch.__version__,
            "epoch": progress.epoch + progress.place / self.an_epoch,
            "seen": progress.seen,
            "averaged": "ema" in self.networks,
            "validation": self._validated,
        }
        if self.changes:
            provenance["changes"] = self.changes
        self.directory.save_generator(name, self.shown, provenance=provenance)

    def _write_row(self, kind: str, progress: Progress, values: dict[str, Any]) -> None:
        epoch = progress.epoch + progress.place / self.an_epoch
        self.directory.write_row(kind, seen=progress.seen, epoch=epoch, values=values)
        if self.config.train.tracker:
            figures = {f"{kind}/{k.removeprefix('val_')}": v for k, v in values.items() if v is not None}
            self.accelerator.log(figures, step=progress.seen)


def due(epoch: int, every: int, last: bool) -> bool:
    """Whether something done `every` epochs (0: never) is done now; always at the end."""
    return every > 0 and (last or epoch % every == 0)


def in_words(validated: Mapping[str, float | None]) -> str:
    """Return a validation's figures as a line; stability stands beside TV, for soft pictures are stable."""
    line = f"L1 {validated['val_l1']:.4f}"
    if validated["val_stability_db"] is not None:
        line += f", stability {validated['val_stability_db']:.2f} dB"
    ratio = validated["val_tv_ratio"]
    over = "" if ratio is None else f", ratio {ratio:.2f}"
    return f"{line} at TV {validated['val_tv']:.4f} (targets {validated['val_target_tv']:.4f}{over})"


def start_tracker(accelerator: Accelerator, config: RunConfig, out: Path, seen: int) -> None:
    """Start the tracker that `make_accelerator` has set up, with the configuration as hyperparameters.

    TensorBoard drops what a killed process wrote of later samples than `seen`, as metrics.jsonl does. MLflow
    would write to the current folder; unless MLFLOW_TRACKING_URI says where, it writes below `out` too.
    """
    folder = (out / "tracker").absolute()
    if config.train.tracker == "mlflow" and accelerator.is_main_process:
        mlflow: Any = importlib.import_module("mlflow")  # an extra of the user's own
        if not mlflow.is_tracking_uri_set():
            folder.mkdir(parents=True, exist_ok=True)
            mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    values = {
        key: value if isinstance(value, bool | int | float | str) else str(value).lower()
        for key, value in flatten(dataclasses.asdict(config)).items()
    }
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"purge_step": seen + 1},
        "wandb": {"name": out.name, "dir": str(out)},
        "mlflow": {"run_name": out.name, "logging_dir": str(folder)},
    }
    accelerator.init_trackers("steadypix", config=values, init_kwargs=options)
