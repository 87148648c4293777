"""Let every write, every fsync and every rename of a command fail once: `python -m soak.faults`.

What a command writes is counted (by faults.c, which is put in front of libc). Then it is run again for every
one of those calls: that call fails, as on a disk that has no room or is broken; or it fails and no write
succeeds any more; or the process is killed there, with one half of what it was to write written. Each time

- the command ends with one line and an exit code that is not 0, or did all of its work;
- whatever bears a final name is whole: its own reader reads it;
- the same command finishes afterwards, and leaves what an undisturbed one leaves, to the byte.

Commands run in forked children of this process. Needs a C compiler, and Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from soak import forked
from soak.commands import (
    NAMES,
    Case,
    Lost,
    make_cases,
    must_equal,
    read_everything,
    serving,
    stop_the_clock,
    tree,
)
from steadypix.command import natural, positive

MODES = ("once", "full", "kill")  # in the order of the enum in faults.c, behind COUNT
CALLS = ("writes", "fsyncs", "renames")
SOURCE = Path(__file__).with_name("faults.c")
LIBRARY = "STEADYPIX_FAULTS"  # in the environment: the compiled library


class Sweep:
    """One command, and its calls made to fail.

    Args:
        name: of the command.
        case: how it is run.
        work: a folder of its own.
    """

    def __init__(self, name: str, case: Case, work: Path) -> None:
        self.name = name
        self.case = case
        self.out = work / "out"
        self.said = work / "said"
        self._counts = work / "counts"
        self._library = ctypes.CDLL(os.environ[LIBRARY])
        self.calls = self._count()
        self.whole = tree(self.out)
        self._count()
        must_equal(self.out, self.whole, "the command, undisturbed a second time,")

    def _count(self) -> list[int]:
        code = self._run(self.case.run, 0, 0)
        if code:
            raise Lost(f"{self.name}: undisturbed: {self.said.read_text()}")
        counts: list[int] = json.loads(self._counts.read_text())
        return counts

    def _run(self, run: Callable[[Path], int], at: int, mode: int, *, anew: bool = True) -> int:
        """Run the command with its call number `at` failing; return the exit code."""
        if anew:
            shutil.rmtree(self.out, ignore_errors=True)

        def armed() -> int:
            self._library.faults_arm(str(self.out).encode(), ctypes.c_long(at), mode)
            code = run(self.out)
            counts = [self._library.faults_seen(call) for call in range(len(CALLS))]
            self._counts.write_text(json.dumps(counts))
            return code

        return forked.end(forked.start(armed, self.said))

    def try_call(self, number: int, mode: str) -> bool:
        """Let one call fail; return whether the command did its work all the same.

        Raises:
            Lost: saying what is wrong with what it said or left.
        """
        code = self._run(self.case.run, number, MODES.index(mode) + 1)
        said = self.said.read_text(errors="replace")
        if code == 0:
            must_equal(self.out, self.whole, "a success")
        elif mode == "kill":
            if code != -9:
                raise Lost(f"exit code {code}: {said}")
        elif code not in (1, 2) or "Traceback" in said or said.count(": error: ") != 1:
            raise Lost(f"exit code {code}: {said}")
        if self.out.exists():
            read_everything(self.out)
        again = self._run(self.case.again or self.case.run, 0, 0, anew=False)
        if again:
            raise Lost(f"does not go on: exit code {again}: {self.said.read_text(errors='replace')}")
        must_equal(self.out, self.whole, "the same command afterwards")
        return code == 0

    def numbers(self, every: int, rng: random.Random) -> range:
        """Return which calls are tried: all, or every n-th from a random one on."""
        return range(1 + rng.randrange(every), sum(self.calls) + 1, every)


def sweep(
    name: str,
    case: Case,
    folder: Path,
    modes: Sequence[str],
    say: Callable[[str], None],
    *,
    every: int = 1,
    only: int | None = None,
    rng: random.Random,
) -> int:
    """Let the calls of a command fail; return how often something was lost.

    Args:
        name: of the command.
        case: how it is run.
        folder: an empty one.
        modes: some of MODES.
        say: takes a line.
        every: try every n-th call.
        only: try this call alone.
        rng: picks the first.
    """
    forked.warm_up([functools.partial(case.run, folder / "out")], folder)
    swept = Sweep(name, case, folder)
    counts = ", ".join(f"{count} {what}" for count, what in zip(swept.calls, CALLS, strict=True))
    lost = 0
    for mode in modes:
        tried = done = bad = 0
        for number in swept.numbers(every, rng) if only is None else [only]:
            try:
                done += swept.try_call(number, mode)
            except Lost as error:
                bad += 1
                say(f"{name}: call {number} of {sum(swept.calls)}, {mode}: {error}")
            tried += 1
        say(f"{name} ({counts}), {mode}: {tried} calls tried, {done} did no harm, {bad} lost something")
        lost += bad
    return lost


def compile_library(folder: Path) -> Path:
    """Compile faults.c.

    Raises:
        RuntimeError: if that cannot be done here.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or sys.platform != "linux":
        raise RuntimeError("needs Linux and a C compiler")
    library = folder / "faults.so"
    words = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(words, check=True)
    return library


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if nothing was lost, else 1."""
    parser = argparse.ArgumentParser(prog="soak.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--command", choices=NAMES, action="append", help="this one alone; may be repeated")
    parser.add_argument("--mode", choices=MODES, action="append", help="this one alone; may be repeated")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="try every n-th call alone")
    parser.add_argument("--call", type=positive, metavar="N", help="try this call alone")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="of the call to begin with")
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        if LIBRARY not in os.environ:  # once more, with the library in front of libc
            library = str(compile_library(Path(folder)))
            environment = {**os.environ, LIBRARY: library, "LD_PRELOAD": library, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "soak.faults", *words]
            return subprocess.run(command, env=environment, check=False).returncode
        stop_the_clock()
        work, rng, lost = Path(folder).resolve(), random.Random(args.seed), 0
        with serving() as url:
            cases = make_cases(work, url)
            for name in args.command or NAMES:
                with tempfile.TemporaryDirectory(dir=work) as own:
                    lost += sweep(
                        name,
                        cases[name],
                        Path(own),
                        args.mode or MODES,
                        lambda line: print(line, flush=True),
                        every=args.every,
                        only=args.call,
                        rng=rng,
                    )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
