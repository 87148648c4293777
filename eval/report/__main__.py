"""`python -m steadypix.eval.report DIR` writes report.html again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from steadypix.command import Parser, command
from steadypix.files import prepare_output

DESCRIPTION = "Make report.html again from a folder that eval_stability wrote."


@command("steadypix.eval.report")
def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m steadypix.eval.report", description=DESCRIPTION)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results"), help="default: %(default)s")
    folder = parser.parse(list(argv)).folder
    prepare_output(folder)

    from steadypix.eval.report.render import write_report  # loads every measure

    print(write_report(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
