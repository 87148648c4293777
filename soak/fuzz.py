"""Feed every reader of files damaged and lying ones: `python -m soak.fuzz --inputs 10000 --seed 0`.

An input may be read, or refused as every command refuses: exit code 2 and one line that names the file.
Anything else is a failure: another exception, a warning, more than one line, a hang, memory that grows.
Every input is a function of the seed, the reader and its number, so a failure is repeated by
`--reader NAME --only NUMBER`, and `--keep DIR` writes the inputs that failed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import io
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from soak.readers import Reader, make_readers
from steadypix.command import command, natural, positive

MOST_MEMORY = 8 << 30  # bytes of addresses beyond what is in use: a bomb ends as MemoryError, not the machine
HANG_S = 120  # where no signal is heeded, the process ends itself
LONGEST_LINE = 2200
SWAPPED = 0.02  # of the inputs are another sound file under the same name
STATUS = Path("/proc/self/status")


class HangError(BaseException):
    """Raised where a reader stands when its time is over; no reader catches it."""


def make_input(reader: Reader, seed: int, number: int) -> tuple[str, str, bytes]:
    """Return input `number` of a reader: the seed file's name, the mutator's, and the content."""
    rng = random.Random(f"{seed}/{reader.name}/{number}")
    name = rng.choice(sorted(reader.seeds))
    if rng.random() < SWAPPED:  # what lies under this name is sound, and another file
        return name, "swap", reader.seeds[rng.choice(sorted(reader.seeds))]
    mutator = rng.choice(reader.mutators)
    return name, mutator.__name__, mutator(rng, reader.seeds[name])


def try_input(reader: Reader, name: str, content: bytes) -> tuple[str, str]:
    """Read one file; return what became of it (`read`, `refused` or a failure's name) and the message."""
    path = reader.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    said = io.StringIO()
    before = peak_mb()
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
            alarm(reader.limit_s),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error")
            code = command("fuzz")(lambda _: _exit_code(reader.read(path)))([])
    except HangError:
        return "hang", f"more than {reader.limit_s:g} s"
    except Exception as error:
        return type(error).__name__, "".join(traceback.format_exception(error)[-4:])
    finally:
        path.write_bytes(reader.seeds[name])  # another seed may be read together with it
    if peak_mb() - before > reader.limit_mb:
        return "memory", f"grew by {peak_mb() - before:.0f} MB"
    message = said.getvalue()
    return ("read", "") if code == 0 else judge(reader, path, code, message)


def judge(reader: Reader, path: Path, code: int, message: str) -> tuple[str, str]:
    """Return `refused` if a command's last words are as they must be, else what is wrong with them."""
    if code != 2:
        return f"exit code {code}", message
    if message.count("\n") != 1 or ": error: " not in message or len(message) > LONGEST_LINE:
        return "not one line", message
    if not message.strip("\n").isprintable():
        return "not printable", repr(message)
    named = reader.names_key or path.name in message or str(path.parent) in message
    return ("refused", message) if named else ("names no file", message)


def _exit_code(result: object) -> int:
    return result if isinstance(result, int) else 0


@contextlib.contextmanager
def alarm(limit_s: float) -> Iterator[None]:
    """Raise HangError after `limit_s` of work, or many times that of waiting, for the machine may be busy."""

    def ring(*_: object) -> None:
        raise HangError

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, limit_s),
        signal.SIGALRM: (signal.ITIMER_REAL, 12 * limit_s),
    }
    previous = {number: signal.signal(number, ring) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    faulthandler.dump_traceback_later(HANG_S + 12 * limit_s, exit=True, file=2)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        faulthandler.cancel_dump_traceback_later()


def peak_mb() -> float:
    """Return the most memory that this process has held so far."""
    if STATUS.exists():
        return int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    # Elsewhere; on Linux this would count what the parent held when it started this process.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bound_memory() -> None:
    """Let allocations fail that no reader should ask for."""
    if STATUS.exists():
        limit = int(STATUS.read_text().partition("VmSize:")[2].split()[0]) * 1024 + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def fuzz(
    reader: Reader, numbers: Sequence[int], *, seed: int = 0, keep: Path | None = None
) -> tuple[collections.Counter[str], float]:
    """Feed a reader its inputs; return what became of them, and the longest seconds of work for one."""
    for name, content in reader.seeds.items():  # also warms up, so that memory is measured from here on
        outcome, message = try_input(reader, name, content)
        if outcome != "read":
            raise RuntimeError(f"{reader.name}: the sound {name} is not read: {outcome} {message}")
    outcomes: collections.Counter[str] = collections.Counter()
    slowest_s = 0.0
    for number in numbers:
        name, how, content = make_input(reader, seed, number)
        began = time.process_time()
        outcome, message = try_input(reader, name, content)
        slowest_s = max(slowest_s, time.process_time() - began)
        outcomes[outcome] += 1
        if outcome not in ("read", "refused"):
            print(f"{reader.name} {number}: {how} of {name}: {outcome}: {message}", file=sys.stderr)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{reader.name}-{number}-{name}").write_bytes(content)
    return outcomes, slowest_s


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if any input failed."""
    parser = argparse.ArgumentParser(prog="python -m soak.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--inputs", type=positive, default=10_000, metavar="N", help="of all readers together"
    )
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="of all damage")
    parser.add_argument("--reader", metavar="NAME", help="feed this one alone")
    parser.add_argument("--only", type=natural, metavar="NUMBER", help="repeat one input of --reader")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the inputs that fail to this folder")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}", flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        readers = make_readers(Path(work))
        shares = sum(reader.share for reader in readers)
        bound_memory()
        print(f"{'reader':12}{'inputs':>8}{'read':>8}{'refused':>9}{'failed':>8}{'slowest':>10}")
        total, failed = 0, 0
        for reader in readers:
            if args.reader not in (None, reader.name):
                continue
            count = args.inputs if args.reader else -(-args.inputs * reader.share // shares)
            numbers = range(count) if args.only is None else [args.only]
            found, slowest_s = fuzz(reader, numbers, seed=args.seed, keep=args.keep)
            bad = len(numbers) - found["read"] - found["refused"]
            total, failed = total + len(numbers), failed + bad
            figures = f"{found['read']:8}{found['refused']:9}{bad:8}{slowest_s:8.2f} s"
            print(f"{reader.name:12}{len(numbers):8}{figures}", flush=True)
    print(f"{total} inputs, {failed} failed, {time.perf_counter() - began:.0f} s, seed {args.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
