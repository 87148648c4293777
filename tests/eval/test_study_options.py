"""What is shown of a command line that trained classifiers."""

from __future__ import annotations

from steadypix.eval.study_options import shown_command


def test_no_place_on_this_machine_is_shown() -> None:
    words = ["--data", "/home/me/data", "--out=/home/me/out", "--seeds", "2", "--document=/home/me/page.md"]
    shown = "eval_classifiers --data DIR --out=DIR --seeds 2 --document=FILE.md"
    assert shown_command("eval_classifiers", words) == shown
