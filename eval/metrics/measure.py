"""The face of everything that `eval_stability` can measure.

A measure is one class in one file, and one line in `eval/measure/registry.py`. Its class methods say how it
is asked for and how its results are shown; an object of it holds the numbers of one generator, a picture
after the other. An evaluation shows it to pictures, shares, resumes, exports, sums up and draws it through
this face alone, and knows no measure by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from steadypix.eval.metrics.decibels import Array
from steadypix.eval.shifts.offsets import Offset
from steadypix.json_checks import Check

if TYPE_CHECKING:
    from torch import Tensor

    from steadypix.command import Parser
    from steadypix.eval.metrics.scene import Scene
    from steadypix.eval.shifts.protocols import Protocol


@dataclass(frozen=True)
class Label:
    """What one window shows, for programs that are shown it as a file.

    Attributes:
        protocol: the protocol, or the kind of perturbation.
        offset: how far its content is shifted, in px.
        suffix: of the file's name, unique for a picture.
    """

    protocol: str
    offset: Offset
    suffix: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure of every generator, in the table on stdout and in the report.

    Attributes:
        title: short, for the report's heading.
        figures: one a generator: a number, `{"mean": m, "ci95": [low, high]}`, or None.
        heading: of the table on stdout; None takes the title and the unit.
        note: below the report's heading.
        unit: `dB` or nothing.
        digits: behind the point.
        better: `high`, `low`, or nothing where neither end is good by itself.
        interval: whether the table on stdout shows the interval too.
    """

    title: str
    figures: Sequence[Any]
    heading: str | None = None
    note: str = ""
    unit: str = ""
    digits: int = 2
    better: str = ""
    interval: bool = False


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What all measures of an evaluation share.

    Attributes:
        canvas_px: side of the pictures as loaded.
        window_px: side of what a network sees, in their middle.
        offsets: shifts (dx, dy) in px along the axis; a measure leaves out those it cannot make.
        map_offsets: further shifts of the (dx, dy) map, or none.
        margins_px: borders left out, each reported.
        seed: of everything random.
    """

    canvas_px: int
    window_px: int
    offsets: Sequence[Offset] = ()
    map_offsets: Sequence[Offset] = ()
    margins_px: Sequence[int] = (0, 16)
    seed: int = 0


@dataclass
class Measure(ABC):
    """The numbers of one generator under one measure.

    Class attributes:
        name: key in the registry and in partial results.
        asked_by: `protocol` or `quality` where it is a name in the list of that option; `option` where it
            has an option of its own.
        always: whether it is measured unasked.
        meaning: of the protocol, in words, for results and report.
        needs_base: whether `add` wants the output for the unshifted window.
        described_first: whether `about` stands before the models in results.json.
        pictures: glob patterns of the files that `draw` and `show` write.
        checks: what results.json must hold in a model's entry, where measured.
        checks_about: the same of what `about` adds.
    """

    name: ClassVar[str]
    asked_by: ClassVar[str] = "option"
    always: ClassVar[bool] = False
    meaning: ClassVar[str] = ""
    needs_base: ClassVar[bool] = True
    described_first: ClassVar[bool] = False
    pictures: ClassVar[tuple[str, ...]] = ()
    checks: ClassVar[Mapping[str, Check]] = {}
    checks_about: ClassVar[Mapping[str, Check]] = {}

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
    def prepare(cls, settings: Any, device: str) -> Any:
        """Return the settings with what has to be loaded once for all generators."""
        return settings

    @classmethod
    def identity(cls, settings: Any) -> Any:
        """Return what the numbers depend on, as JSON values: an interrupted evaluation must share it."""
        return settings

    @classmethod
    def least_canvas_px(cls, settings: Any, window_px: int) -> int:
        """Return the side of the smallest picture it can be measured on; 0 takes that of the evaluation."""
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
    def outline(cls, model: Mapping[str, Any]) -> Any:
        """Return what has to be the same in every generator's entry for a table to stand for all."""
        return None

    @classmethod
    def draw(cls, out: Path, results: dict[str, Any]) -> None:
        """Write its charts to the folder `out`, where it was measured."""

    @classmethod
    def show(cls, scene: Scene, out: Path) -> None:
        """Write pictures that need the generators once more."""
