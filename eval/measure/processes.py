"""Several processes share an evaluation: `torchrun --nproc_per_node=2 eval/eval_stability.py ...`.

Process r of n measures every n-th picture; the first one gathers the numbers and writes everything. Before
that all see that they have the same pictures and generators before them.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from steadypix.agreement import require_same

if TYPE_CHECKING:
    from steadypix.data.pairs.content import Content

TO_MEET = datetime.timedelta(minutes=30)  # until all processes are there
TO_FINISH = datetime.timedelta(days=30)  # until the slowest has measured its share


class ProcessError(RuntimeError):
    """Another process of the evaluation is not there, or not there any more."""

    exit_code = 1


class Processes:
    """This process among those that torchrun started; alone if it did not.

    Attributes:
        run: what tells this evaluation from an earlier or later one; the same in all of its processes.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))  # number of this process
        self.world = int(os.environ.get("WORLD_SIZE", "1"))  # how many there are
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))  # on this machine: the number of its GPU
        self.run = uuid.uuid4().hex
        self._patient: Any = None  # the group of processes that wait for each other's share

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return this process's own device of a kind."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.world > 1 else name

    def agree(self, content: Content, what: Mapping[str, Any]) -> None:
        """See that all processes have the same before them.

        Args:
            content: of the pictures.
            what: other JSON values that must be equal.

        Raises:
            InputError: on every process alike, naming the difference.
            ProcessError: if another process does not come.
        """
        if self.world == 1:
            return
        self.run = self._everyone(self.run)[0]
        content.require_same(self._everyone)
        require_same(what, self._everyone)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in order of rank; an empty list on all but the first.

        Raises:
            ProcessError: if another process has ended.
        """
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        with self._explained():
            gathered: list[Any] | None = [None] * self.world if self.first else None
            dist.gather_object(value, gathered, group=self._meet())
        return gathered or []

    def finish(self) -> None:
        """Wait until the first process has written the results, and part.

        Raises:
            ProcessError: if it has ended before.
        """
        if self.world == 1:
            return
        import torch.distributed as dist

        with self._explained():
            dist.barrier(group=self._meet())
        _part()

    def _everyone(self, value: Any) -> list[Any]:
        import torch.distributed as dist

        with self._explained():
            group = self._meet()
            values: list[Any] = [None] * self.world
            dist.all_gather_object(values, value, group=group)
        return values

    def _meet(self) -> Any:
        """Connect the processes once. A few numbers a picture: the CPU's backend does, also beside GPUs."""
        import torch.distributed as dist

        if self._patient is None:
            if not dist.is_initialized():
                dist.init_process_group("gloo", timeout=TO_MEET)
                # However this process ends: gloo's threads would abort one that has not parted.
                atexit.register(_part)
            self._patient = dist.new_group(backend="gloo", timeout=TO_FINISH)
        return self._patient

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of torch.distributed, whose messages are pages long
            reason = " ".join(str(error).split())[:120]
            raise ProcessError(
                f"process {self.rank} of {self.world}: another one has ended or did not come ({reason}); "
                "what is measured is kept, and the same command goes on"
            ) from None


def _part() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
