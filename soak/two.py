"""Two writers at once, over and over: `python -m soak.two --pairs 50`.

Of two commands that write to one folder at the same time one does its work, and the other must say who is
there (exit code 2, one line) or, if it came late, find the work done. Afterwards the folder must hold what
the command leaves that runs alone, and no lock.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from soak import forked
from soak.seeds import SMALL_RUN
from steadypix.checkpoints.export import main as export
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.retrofitting.command import main as retrofit
from steadypix.command import positive
from steadypix.data.cli import main as steadypix_data
from steadypix.data.download.catalogue import DATASETS
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators.loading import load_generator
from tests.archives import TINY, archive_of, honest_members
from train_pix2pix import main as train_pix2pix

NAMES = ("train", "eval", "generate", "synthetic", "download", "retrofit", "onnx", "pt2")


class Mixed(RuntimeError):
    """Two writers did what they must not."""


@dataclass(frozen=True)
class Case:
    """A command that writes to a folder.

    Attributes:
        run: the command; it takes its arguments.
        argv: these, but for the folder, which comes last behind `--out`.
        again: whether it may be run again on what it left.
    """

    run: Callable[[Sequence[str]], int]
    argv: Sequence[str]
    again: bool = True


def make_cases(work: Path, names: Sequence[str]) -> dict[str, Case]:
    """Make what the commands need; return them by name."""
    run, pictures, made = work / "run", work / "pictures", {}
    if {"eval", "generate", "retrofit", "onnx", "pt2"} & set(names):
        _alone(Case(train_pix2pix, SMALL_RUN), run)
    pairs = ["synthetic", "facades", "--size", "32", "--train", "3", "--test", "2"]
    if {"generate", "retrofit"} & set(names):
        _alone(Case(steadypix_data, pairs), pictures)
    measured = [str(run), "--shifts", "0..2", "--limit", "2", "--device", "cpu"]
    made["train"] = Case(train_pix2pix, SMALL_RUN)
    made["eval"] = Case(eval_stability, measured)
    translated = [str(run), str(pictures / "test"), "--device", "cpu"]
    made["generate"] = Case(generate, translated)
    rewritten = [str(run), "--data", str(pictures), "--steps", "2", "--limit", "1", "--device", "cpu"]
    made["retrofit"] = Case(retrofit, rewritten)
    for suffix in ("onnx", "pt2"):
        made[suffix] = Case(functools.partial(_exported, run, suffix), [])
    made["synthetic"] = Case(steadypix_data, pairs, again=False)
    made["download"] = Case(download, [])
    return {name: made[name] for name in names}


def _exported(run: Path, suffix: str, argv: Sequence[str]) -> int:
    """Write a program into the folder, and read it."""
    file = Path(argv[-1]) / f"net.{suffix}"
    code = export([str(run), "--out", str(file)])
    if not code:
        load_generator(file, trust=True)
    return code


def start(case: Case, out: Path, said: Path) -> int:
    """Start the command in a child of this process, whose stderr goes to a file; return its number."""
    return forked.start(lambda: case.run([*case.argv, "--out", str(out)]), said)


def _alone(case: Case, out: Path) -> None:
    said = out.with_name("said")
    if forked.end(start(case, out, said)):
        raise Mixed(f"alone: {said.read_text(errors='replace').strip()}")


def tree(out: Path) -> set[str]:
    """Return what lies in a folder."""
    return {path.relative_to(out).as_posix() for path in out.rglob("*")}


def try_pair(case: Case, out: Path, expected: set[str]) -> bool:
    """Start a command twice at once; return whether the second was refused.

    Raises:
        Mixed: saying what is wrong with what they left or said.
    """
    files = [out.with_name(f"said-{number}") for number in range(2)]
    both = [start(case, out, file) for file in files]
    codes = [forked.end(child) for child in both]
    said = [file.read_text(errors="replace") for file in files]
    refused = [text for text, code in zip(said, codes, strict=True) if code]
    expected_words = ["is being written by another command", *([] if case.again else ["pairs already"])]
    for text in refused:
        line = text.strip().splitlines()[-1] if text.strip() else ""
        if "Traceback" in text or not any(words in line for words in expected_words):
            raise Mixed(f"codes {codes}: {text.strip()}")
    if len(refused) == 2 or not set(codes) <= {0, 2}:
        raise Mixed(f"codes {codes}: {' / '.join(refused)}")
    if tree(out) != expected:
        raise Mixed(f"left {sorted(tree(out) ^ expected)}")
    return bool(refused)


def two(work: Path, names: Sequence[str], pairs: int, say: Callable[[str], None]) -> None:
    """Start every command so many times twice at once.

    Raises:
        Mixed: at the first pair that is wrong.
    """
    for name, case in make_cases(work, names).items():
        warm = [*case.argv, "--out", str(work / f"{name}-warm")]
        forked.warm_up([functools.partial(case.run, warm)], work)
        _alone(case, work / f"{name}-alone")
        expected = tree(work / f"{name}-alone")
        refused = 0
        for number in range(pairs):
            try:
                refused += try_pair(case, work / f"{name}-{number}", expected)
            except Mixed as error:
                raise Mixed(f"{name}, pair {number}: {error}") from None
        say(f"{name}: {pairs} pairs, {refused} times the second was refused, nothing mixed")


def download(argv: Sequence[str]) -> int:
    """Bring a tiny data set from a server of this process's own."""
    content = archive_of(honest_members())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    DATASETS["facades"] = TINY
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/facades.tar.gz"
        # The record names the address, which is another one every time; what is compared are names.
        code = steadypix_data(["download", "facades", "--url", url, *argv])
        server.shutdown()
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if nothing was mixed, else 1."""
    parser = argparse.ArgumentParser(prog="soak.two", description="Two writers at once, over and over.")
    parser.add_argument("--pairs", type=positive, default=50, metavar="N", help="of every command")
    parser.add_argument("--command", choices=NAMES, action="append", help="this one alone; may be repeated")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        try:
            two(Path(folder), args.command or NAMES, args.pairs, lambda line: print(line, flush=True))
        except Mixed as error:
            print(f"soak.two: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
