"""Options of pytorch-CycleGAN-and-pix2pix: one table for the docs and for messages, and it is true."""

from __future__ import annotations

import re

import pytest

import train_pix2pix
from steadypix.configs import peers
from steadypix.configs.load import build_parser
from tests.cli import Capture, one_error_line
from tests.conftest import REPOSITORY


def test_the_docs_show_the_table() -> None:
    assert peers.table() in (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")


def test_every_answer_names_options_that_there_are() -> None:
    known = {*build_parser("train", "")._option_string_actions, "--out", "--nproc_per_node"}
    for _, ours in peers.OPTIONS:
        named = re.findall(r"--[\w.]+", ours)
        assert set(named) <= known, ours


@pytest.mark.parametrize(
    ("argv", "option"),
    [
        (["--dataroot", "d"], "--data.root DIR"),
        (["--n_epochs=100"], "--train.epochs 200"),
        (["--netG", "unet_256"], "--generator.sampling strided"),
        (["--load_size", "286"], "--data.load_size 286"),
        (["--direction", "BtoA"], "--data.direction BtoA"),
        (["--no_flip"], "--data.flip false"),
        (["--gpu_ids", "0,1"], "--device cuda"),
        (["--lambda_L1", "10"], "--loss.lambda_l1"),
        (["--train.epohcs", "3"], "did you mean --train.epochs?"),
        (["--learning_rate", "3"], "did you mean --train.learning_rate?"),
    ],
)
def test_their_options_and_slips_are_answered(argv: list[str], option: str, capsys: Capture) -> None:
    assert train_pix2pix.main(argv) == 2
    one_error_line(capsys, argv[0].partition("=")[0], option)


def test_what_resembles_nothing_is_refused_without_a_guess(capsys: Capture) -> None:
    assert train_pix2pix.main(["--zzz", "3"]) == 2
    assert "did you mean" not in one_error_line(capsys, "--zzz")


def test_batch_size_is_called_the_same_here() -> None:
    assert "--batch_size" in build_parser("train", "")._option_string_actions
    assert peers.answer("--batch_size") is None
