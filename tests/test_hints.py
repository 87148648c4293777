"""What commands answer to an option that they do not know, and to a device that is not there."""

from __future__ import annotations

import importlib

import pytest
import torch

from steadypix.command import did_you_mean, pick_device
from steadypix.errors import InputError
from tests.cli import Capture, one_error_line


@pytest.mark.parametrize(
    ("module", "argv", "meant"),
    [
        ("steadypix.eval.eval_stability", ["--shfits", "0..7"], "--shifts"),
        ("steadypix.eval.eval_features", ["net", "--bordres=own"], "--borders"),
        ("steadypix.eval.eval_consistency", ["net", "--limits", "3"], "--limit"),
        ("steadypix.checkpoints.generate", ["net", "a.png", "--out", "o", "--titles", "64"], "--tile"),
        ("steadypix.checkpoints.export", ["net", "--out", "o.pt2", "--exportre", "dynamo"], "--exporter"),
        (
            "steadypix.checkpoints.generation.freeze",
            ["net", "a.png", "--out", "o", "--devise", "cpu"],
            "--device",
        ),
        ("steadypix.data.cli", ["download", "facades", "--out", "o", "--keep_archive"], "--keep-archive"),
    ],
)
def test_a_slip_is_answered_with_the_option(
    module: str, argv: list[str], meant: str, capsys: Capture
) -> None:
    assert importlib.import_module(module).main(argv) == 2
    one_error_line(capsys, f"did you mean {meant}?", "(see --help)")


def test_what_resembles_nothing_gets_no_guess() -> None:
    assert did_you_mean("--zzz", ["--shifts", "--train.epochs"]) == ""
    assert did_you_mean("--epoch", ["--shifts", "--train.epochs"]) == "; did you mean --train.epochs?"


@pytest.mark.parametrize(
    ("build", "error", "visible", "reason"),
    [
        (None, None, None, "is a build without CUDA"),
        ("13.0", RuntimeError("Found no NVIDIA driver on your system."), None, "no NVIDIA driver is found"),
        (
            "13.0",
            RuntimeError("The NVIDIA driver on your system is too old (11)."),
            None,
            "driver is too old",
        ),
        ("13.0", RuntimeError("No CUDA GPUs are available"), "7", "with CUDA_VISIBLE_DEVICES='7'"),
        ("13.0", None, None, "no device is found"),
    ],
)
def test_why_there_is_no_cuda(
    build: str | None,
    error: Exception | None,
    visible: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.version, "hip", None)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(InputError, match=r"--device cuda: is not available here \(.*\); expected") as caught:
        pick_device("cuda")
    assert reason in str(caught.value)
