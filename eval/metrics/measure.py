"""The face of everything that `eval_stability` can measure.

A measure is one class in one file, and one line in `eval/measure/registry.py`. Its class methods say how it
is asked for and how its results are shown; an object of it holds the numbers of one generator, a picture
after the other. An evaluation shows it to pictures, shares, resumes, exports, sums up and draws it through
this face alone, and knows no measure by name.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from steadypix.errors import InputError
from steadypix.eval.metrics.decibels import Array
from steadypix.eval.metrics.forward import eval_mode, one_by_one, run_windows
from steadypix.eval.shifts.offsets import Offset
from steadypix.eval.shifts.protocols import Crop, Protocol
from steadypix.json_checks import Check
from steadypix.sizes import Size, size_of, words

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steadypix.command import Parser
    from steadypix.eval.metrics.scene import Scene


@dataclass(frozen=True)
class Label:
    """What one window shows, for programs that are shown it as a file."""

    protocol: str  # the protocol, or the kind of perturbation
    offset: Offset  # how far its content is shifted, in px
    suffix: str  # of the file's name, unique for a picture


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure of every generator, in the table on stdout and in the report."""

    title: str  # short, for the report's heading
    figures: Sequence[Any]  # one a generator: a number, `{"mean": m, "ci95": [low, high]}`, or None
    heading: str | None = None  # of the table on stdout; None takes the title and the unit
    note: str = ""  # below the report's heading
    unit: str = ""  # `dB` or nothing
    digits: int = 2  # behind the point
    better: str = ""  # `high`, `low`, or nothing where neither end is good by itself
    interval: bool = False  # whether the table on stdout shows the interval too


# A level in dB with its interval: more is better.
db_column = functools.partial(Column, unit="dB", better="high", interval=True)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What all measures of an evaluation share."""

    canvas_px: Size  # of the pictures as loaded
    window_px: Size  # of what a network sees, in their middle
    # Shifts (dx, dy) in px along the axis; a measure leaves out those it cannot make.
    offsets: Sequence[Offset] = ()
    map_offsets: Sequence[Offset] = ()  # further shifts of the (dx, dy) map, or none
    margins_px: Sequence[int] = (0, 16)  # borders left out, each reported
    seed: int = 0  # of everything random


@dataclass
class Measure(ABC):
    """The numbers of one generator under one measure."""

    name: ClassVar[str]  # key in the registry and in partial results
    # `protocol` or `quality` where it is a name in the list of that option; `option` where it has an option
    # of its own.
    asked_by: ClassVar[str] = "option"
    always: ClassVar[bool] = False  # whether it is measured unasked
    meaning: ClassVar[str] = ""  # of the protocol, in words, for results and report
    # Whether outputs may be larger or smaller than the windows, see `eval.metrics.forward.fits`.
    any_size: ClassVar[bool] = False
    needs_target: ClassVar[bool] = False  # whether there is nothing to measure without targets
    needs_base: ClassVar[bool] = True  # whether `add` wants the output for the unshifted window
    looks_inside: ClassVar[bool] = False  # whether it looks into generators, which are in eval mode for that
    described_first: ClassVar[bool] = False  # whether `about` stands before the models in results.json
    pictures: ClassVar[tuple[str, ...]] = ()  # glob patterns of the files that `draw` and `show` write
    # What results.json must hold in a model's entry, where measured
    checks: ClassVar[Mapping[str, Check]] = {}
    checks_about: ClassVar[Mapping[str, Check]] = {}  # the same of what `about` adds

    # Of every picture so far, as plain JSON values.
    rows: list[Any] = field(default_factory=list, init=False)

    # ---- how it is asked for ------------------------------------------------------------------------------

    @classmethod
    def add_options(cls, parser: Parser) -> None:
        """Add the options that only this measure has."""

    @classmethod
    def read(cls, args: Any, *, named: bool) -> Any:
        """Return its settings from the command line; None where it is not asked for.

        Args:
            args: the parsed options.
            named: whether the option behind `asked_by` names it.

        Raises:
            InputError: naming the option that cannot be understood.
        """
        return {} if named else None

    @classmethod
    def fit(cls, settings: Any, *, inputs: int, outputs: int) -> tuple[Any, str]:
        """Return the settings for so many channels, and what is left out, in words.

        None in place of the settings: it cannot be measured.
        """
        return settings, ""

    @classmethod
    def suit(cls, settings: Any, generators: Mapping[str, nn.Module]) -> Any:
        """Return the settings for these generators, by the name of their file.

        There are none where only inputs are exported.

        Raises:
            InputError: naming a generator that cannot be measured so.
        """
        return settings

    @classmethod
    def prepare(cls, settings: Any, device: str) -> Any:
        """Return the settings with what has to be loaded once for all generators."""
        return settings

    @classmethod
    def identity(cls, settings: Any) -> Any:
        """Return what the numbers depend on, as JSON values: an interrupted evaluation must share it."""
        return settings

    @classmethod
    def least_canvas_px(cls, settings: Any, window_px: Size) -> Size:
        """Return the size of the smallest picture it can be measured on; 0 takes that of the evaluation."""
        return 0

    @classmethod
    @abstractmethod
    def make(cls, settings: Any, conditions: Conditions) -> Self:
        """Return one without numbers.

        Raises:
            InputError: if a shift, margin or window does not fit.
        """

    # ---- the numbers of one generator ---------------------------------------------------------------------

    def windows(self, canvas: Tensor, index: int) -> Iterable[Tensor]:
        """Yield what the network must see of picture `index`, (1, C, S, S), beside the unshifted window."""
        return ()

    def labels(self, index: int) -> Sequence[Label]:
        """Return what each of `windows` shows."""
        return ()

    def look_into(self, network: nn.Module, canvas: Tensor, index: int, *, batch_size: int) -> None:
        """Run the network in other ways than on `windows`, where outputs alone do not tell enough.

        Args:
            network: the generator in eval mode, which must be left as it is.
            canvas: of picture `index`, (1, C, S, S); `add` follows.
            index: number of the picture.
            batch_size: windows in one forward pass.
        """

    @abstractmethod
    def add(self, base: Tensor | None, outputs: Iterator[Tensor], target: Tensor | None, index: int) -> None:
        """Score picture `index` and append to `rows`.

        Args:
            base: the output (1, C, H, W) in [-1, 1] for the unshifted window.
            outputs: yields the output for each of `windows`; only those are taken from it.
            target: what the output should be, of the same size, where it is known.
            index: number of the picture.
        """

    def take(self) -> Any:
        """Give the last picture's numbers away, as plain JSON values; `put` takes them back."""
        return self.rows.pop()

    def put(self, row: Any) -> None:
        """Add a picture that was measured by another process, or before."""
        self.rows.append(row)

    @abstractmethod
    def summary(self, *, seed: int) -> dict[str, Any]:
        """Return what goes into the generator's entry of results.json."""

    def gains(self, reference: Self, *, seed: int) -> list[dict[str, Any]]:
        """Return the paired differences to another generator: `protocol`, `margin_px`, `over`, `gain_db`."""
        return []

    @property
    def rule(self) -> Protocol | None:
        """The shift protocol by which outputs can be moved back and shown, if there is one."""
        return None

    def image_db(self) -> Array | None:
        """Return one value in dB a picture, by which generators are ranked; None if it ranks nothing."""
        return None

    # ---- how its results are shown, from results.json alone ------------------------------------------------

    @classmethod
    def about(cls, settings: Any, conditions: Conditions) -> dict[str, Any]:
        """Return what results.json says of the measure as a whole."""
        return {}

    @classmethod
    def was_measured(cls, results: Mapping[str, Any]) -> bool:
        """Whether results hold what `about` says of it, and an entry of every generator, under its name."""
        return cls.name in results and all(cls.name in model for model in results["models"])

    @classmethod
    def columns(cls, results: Mapping[str, Any]) -> list[Column]:
        """Return its figures, in the order of the generators; none where it was not measured."""
        return []

    @classmethod
    def notes(cls, results: Mapping[str, Any]) -> list[str]:
        """Return lines below the table: what its columns are means of."""
        return []

    @classmethod
    def words(cls, results: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return heading and text for the report's section on how things were measured."""
        return []

    @classmethod
    def meaning_and_notes(cls, results: Mapping[str, Any], under: str) -> list[tuple[str, str]]:
        """Return `words` of the meaning that `about` gives and the notes; nothing where it was not measured.

        Args:
            results: as results.json holds them.
            under: a condition, with `{}` around the keys of what `about` gives.
        """
        if not cls.was_measured(results):
            return []
        about = results[cls.name]
        notes = [f"{line}." for line in cls.notes(results)]
        return [(cls.name, " ".join([f"{about['meaning']}; {under.format(**about)}.", *notes]))]

    @classmethod
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return what has to be the same in every generator's entry for a table to stand for all."""
        return None

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write its charts to the folder `out`, where it was measured."""

    @classmethod
    def show(cls, scene: Scene, out: Path) -> None:
        """Write pictures that need the generators once more."""


AnyMeasure = TypeVar("AnyMeasure", bound=Measure)


def measure_alone(
    make: Callable[[Size], AnyMeasure],
    generator: nn.Module | Callable[[Tensor], Any],
    canvases: Any,
    *,
    window_px: Size,
    batch_size: int,
    data_range: Any = None,
    input: Any = None,
    output: Any = None,
    check: Callable[[nn.Module, Tensor], object] | None = None,
) -> AnyMeasure:
    """Return the numbers of one network under one measure, which `make` returns for the pictures' size in px.

    `data_range` and `output` are those of `steadypix.eval.generators.adapted.Adapted`, `input` that of
    `steadypix.eval.metrics.forward.one_by_one`. `check` is called with the network as it is measured and the
    first unshifted window, before anything is measured.

    Raises:
        InputError: if there are no pictures, or an output is not finite, leaves its range, or is of a size
            that the measure does not take.
    """
    from torch.nn import Module

    from steadypix.eval.generators.adapted import Adapted

    network = Adapted(generator, data_range=data_range, output=output)
    # What looks into layers is shown the network itself, where nothing has to be translated.
    plain = isinstance(generator, Module) and data_range is None and output is None
    scores: AnyMeasure | None = None
    size: Size = 0
    with eval_mode(network):
        for index, picture in enumerate(one_by_one(canvases, network, input)):
            canvas = network.ranges.from_inputs(picture)
            found = size_of(canvas.shape[-1], canvas.shape[-2])
            if scores is None:
                scores, size = make(found), found
            if found != size:
                raise InputError(f"pictures must be of one size; got {words(size)}, then {words(found)} px")
            base = Crop(size, window_px).base(canvas)
            if check is not None and index == 0:
                check(network, base)
            first = [base] if scores.needs_base else []
            windows = itertools.chain(first, scores.windows(canvas, index))
            same_size = not scores.any_size
            outputs = run_windows(network, windows, batch_size=batch_size, same_size=same_size)
            seen: Any = generator if plain else network
            scores.look_into(seen, canvas, index, batch_size=batch_size)
            scores.add(next(outputs) if first else None, outputs, None, index)
    if scores is None:
        raise InputError("there are no pictures to measure")
    network.remark()
    return scores
