"""Memory is asked for before it is taken: limits as the machine has them, estimates as measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steadypix import budget
from steadypix.budget import Part, TooLargeError, parse_memory, size_text
from steadypix.checkpoints import memory
from steadypix.configs.schema import DataConfig, GeneratorConfig
from steadypix.data.pictures.images import read_image
from steadypix.errors import InputError
from steadypix.gen.networks import cost
from tests.cli import Capture, one_error_line
from tests.conftest import REPOSITORY, tiny_config, write_checkpoint
from tests.hostile_runs import SECONDS, TINY, run_measured
from tests.peaks import training

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory as Linux counts it")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
MODULES = {
    "eval_stability": "steadypix.eval.eval_stability",
    "steadypix_data": "steadypix.data.cli",
    "train_pix2pix": "train_pix2pix",
}


@pytest.fixture(autouse=True)
def _of_a_command() -> Any:
    with budget.of_a_command():
        yield


# ---- what may be taken ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2G", 2 * 10**9),
        ("1.5GB", 15 * 10**8),
        ("500m", 5 * 10**8),
        ("1TiB", 10**12),
        ("75%", 750),
        ("150%", 1500),
    ],
)
def test_sizes_and_shares(text: str, expected: int) -> None:
    assert parse_memory(text, 1000) == expected


@pytest.mark.parametrize("text", ["", "2", "G", "0G", "0%", "-1G", "1e9", "2 GB x", "9999%", "٣G", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="expected a size such as 2G"):
        budget.allow(text)


def test_a_command_begins_with_the_defaults() -> None:
    budget.allow("1G")
    with budget.of_a_command():
        assert budget.limit_bytes() != 10**9
        budget.allow("2G")
        assert budget.limit_bytes() == 2 * 10**9
    assert budget.limit_bytes() == 10**9


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "fs"
    own.write_text("0::/outer/inner\n")
    group(root / "outer", memory__max=1000, memory__current=400, memory__stat="anon 1\ninactive_file 50")
    group(root / "outer" / "inner", memory__max="max", memory__current=100)
    assert budget._left_by_groups(root, own) == [650]
    group(root / "outer" / "inner", memory__max=150)
    assert sorted(budget._left_by_groups(root, own)) == [50, 650]
    own.write_text("4:cpu,memory:/job\n3:pids:/job\nnonsense\n")
    group(root / "memory", memory__limit_in_bytes=(1 << 63) - 4096)  # none
    usage = {"memory__usage_in_bytes": 300, "memory__stat": "total_inactive_file 100"}
    group(root / "memory" / "job", memory__limit_in_bytes=500, **usage)
    assert budget._left_by_groups(root, own) == [300]
    assert budget._left_by_groups(root, tmp_path / "none") == []


@linux
def test_the_limit_of_addresses_counts() -> None:
    code = "from steadypix.budget import *; print(available_bytes(), limit_bytes())"
    command = f"ulimit -v 1000000; exec {sys.executable} -c '{code}'"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    available, limit = map(int, done.stdout.split())
    assert 0 < available < 1024 * 1000000
    assert limit < 1.2 * available


def test_the_line_says_what_it_takes_what_there_is_and_what_helps() -> None:
    budget.allow("1G")
    budget.require(Part(10**8, "a", "less a"), Part(10**8, "b", "less b"))
    with pytest.raises(TooLargeError) as caught:
        budget.require(Part(10**8, "a", "less a"), Part(5e12, "b 7", "less b"))
    line = str(caught.value)
    for words in (
        "b 7: would take about 5.0 TB",
        "1.0 GB may be taken (1G)",
        "expected less b",
        "--max_memory",
    ):
        assert words in line
    assert size_text(float("inf")) == "more than 1000 PB"


# ---- estimates against what is measured -------------------------------------------------------------------

TRAININGS: list[dict[str, Any]] = [
    {"px": 128, "batch": 8, "generator": {"ngf": 16, "num_downs": 5}, "discriminator": {"ndf": 8}},
    {"px": 64, "batch": 1, "generator": {"ngf": 64, "num_downs": 6, "sampling": "strided"}},
    {"px": 128, "batch": 3, "generator": {"ngf": 4, "num_downs": 4}, "discriminator": {"filter": "bin5"}},
]
FORWARDS: list[dict[str, Any]] = [
    {"px": 1024, "batch": 1, "generator": {"ngf": 16, "num_downs": 5}},
    {"px": 512, "batch": 3, "generator": {"ngf": 16, "n_blocks": 2, "padding": "reflect"}},
    {"px": 16, "batch": 1, "generator": {"ngf": 1, "num_downs": 11}},  # padded to 2048 px
]


@linux
@pytest.mark.slow
def test_estimates_are_what_is_taken(tmp_path: Path) -> None:
    """On the large side, and within a factor of about two."""
    rng = np.random.default_rng(0)
    bilevel, deep = tmp_path / "bilevel.png", tmp_path / "deep.png"
    Image.fromarray(np.zeros((9000, 9000), bool)).save(bilevel, compress_level=1)
    import imagecodecs

    deep.write_bytes(imagecodecs.png_encode(rng.integers(0, 9, (5000, 5000, 3), dtype=np.uint16), level=1))
    asked: list[tuple[str, dict[str, Any]]] = [("train", case) for case in TRAININGS]
    asked += [("forward", case) for case in FORWARDS]
    asked += [("read", {"path": str(path), "channels": 3}) for path in (bilevel, deep)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.peaks"],
        cwd=REPOSITORY,
        input=json.dumps(asked),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    estimates = [sum(part.n_bytes for part in _training_parts(case)) for case in TRAININGS]
    for case in FORWARDS:
        shape = case["generator"]
        numbers = cost.forward_numbers(shape, case["px"], case["px"])
        estimates.append(4 * (cost.generator_weights(shape) + case["batch"] * numbers))
    for path in (bilevel, deep):
        with Image.open(path, formats=("PNG",)) as image:
            from steadypix.data.pictures.images import _decoded_bytes

            estimates.append(_decoded_bytes(image, 3, 3 * (path == deep)))
    peaks = json.loads(done.stdout)["peaks"]
    for what, estimate, peak in zip(asked, estimates, peaks, strict=True):
        ratio = (budget.PROGRAM_BYTES + estimate) / peak
        # The libraries' own share depends on their build.
        assert 0.9 <= ratio < 2.5, (what, estimate / 1e6, peak / 1e6)
        assert estimate > 0.15 * peak, what  # it is not the program alone that is looked at


def _training_parts(case: dict[str, Any]) -> list[Part]:
    config = training(**case)
    return [memory._weights(config, False), memory._step(config, False)]


@pytest.mark.parametrize("sampling", ["strided", "blur", "preblur", "blur_late"])
@pytest.mark.parametrize("num_downs", [1, 5, 8])
def test_weights_are_counted(sampling: str, num_downs: int) -> None:
    import torch

    from steadypix import PatchDiscriminator, UNetGenerator

    shape = {"ngf": 8, "num_downs": num_downs, "sampling": sampling, "out_channels": 2}
    with torch.device("meta"):
        networks = (UNetGenerator(**shape), PatchDiscriminator(5, ndf=8, n_layers=2))
    counted = (
        cost.generator_weights(shape),
        cost.discriminator_weights({"kind": "patch", "ndf": 8, "n_layers": 2}, 5),
    )
    for network, found in zip(networks, counted, strict=True):
        true = sum(weight.numel() for weight in network.parameters())
        assert 0.95 * true <= found <= true  # biases and norms are left out


def test_a_training_is_asked_about_before_it_begins() -> None:
    budget.allow("2G")
    small = tiny_config()
    memory.require_training(small, on_gpu=False)
    wide = tiny_config(generator=GeneratorConfig(ngf=2000, num_downs=3))
    with pytest.raises(TooLargeError, match=r"generator\.ngf 2000"):
        memory.require_training(wide, on_gpu=False)
    cached = tiny_config(data=DataConfig(load_size=286, crop_size=32, synthetic_count=10**4))
    with pytest.raises(TooLargeError, match=r"data\.cache of 10000 pairs .* expected data\.cache false"):
        memory.require_training(cached, on_gpu=True)
    folder = tiny_config(data=DataConfig(root="there", load_size=286, crop_size=32))
    memory.require_training(folder, on_gpu=True)
    with pytest.raises(TooLargeError, match=r"data\.cache of 9999999 pairs"):
        memory.require_training(folder, n_pairs=9999999, on_gpu=True)
    batch = tiny_config(batch_size=10**6)
    with pytest.raises(TooLargeError, match=r"batch_size 1000000"):
        memory.require_training(batch, on_gpu=False)


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    budget.allow("2G")
    config = tiny_config(generator=GeneratorConfig(ngf=96, num_downs=3))
    memory.require_training(config, on_gpu=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100")
    with pytest.raises(TooLargeError):
        memory.require_training(config, on_gpu=False)


# ---- pictures ---------------------------------------------------------------------------------------------


def test_a_picture_is_asked_about_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bilevel.png"
    Image.fromarray(np.zeros((6000, 6000), bool)).save(path)
    assert path.stat().st_size < 10_000
    budget.allow("2G")
    assert read_image(path).shape == (6000, 6000, 3)
    budget.share_among(8)
    with pytest.raises(TooLargeError, match=r"bilevel\.png: 6000 x 6000 px, decoded by 8 processes at once"):
        read_image(path)
    deep = tmp_path / "deep.tif"
    import tifffile

    tifffile.imwrite(deep, np.zeros((6000, 6000), np.uint16), compression="zlib")
    with pytest.raises(TooLargeError, match=r"deep\.tif: 6000 x 6000 px"):
        read_image(deep, 1)


# ---- commands, as they are typed --------------------------------------------------------------------------

TRAIN = ["train_pix2pix", "--config", "demo", "--device", "cpu"]
EVALUATE = ["eval_stability", "facades-strided", "--data", "synthetic-facades", "--device", "cpu"]
HUGE = "1" + "0" * 20

AT_ONCE = {
    "train batch_size": ([*TRAIN, "--batch_size", HUGE], "batch_size"),
    "train ngf": ([*TRAIN, "--generator.ngf", "10000000"], "generator.ngf 10000000"),
    "train ndf": ([*TRAIN, "--discriminator.ndf", "10000000"], "discriminator.ndf 10000000"),
    "train load_size": ([*TRAIN, "--data.load_size", "1000000"], "data.load_size"),
    "train workers": ([*TRAIN, "--workers", "1000000"], "workers 1000000"),
    "train seed": ([*TRAIN, "--seed", str(2**60)], "seed"),
    "train epochs": ([*TRAIN, "--train.epochs", "1" + "0" * 30], "train.epochs"),
    "train synthetic_count": ([*TRAIN, "--data.synthetic_count", str(10**12)], "data.cache false"),
    "train num_downs": (
        [*TRAIN, "--generator.num_downs", "12", "--data.load_size", "16", "--data.crop_size", "16"],
        "generator.num_downs 12 of data.crop_size 16 px",
    ),
    "train n_layers": ([*TRAIN, "--discriminator.n_layers", "100000"], "discriminator.n_layers"),
    "synthetic size": (["steadypix_data", "synthetic", "facades", "--size", "1000000"], "--size 1000000"),
    "eval batch_size": ([*EVALUATE, "--batch_size", HUGE], "--batch_size"),
    "eval seed": ([*EVALUATE, "--seed", str(2**60)], "--seed"),
    "eval limit": ([*EVALUATE, "--limit", "1e9"], "--limit"),
    "eval canvas": ([*EVALUATE, "--canvas", "20000"], "--canvas"),
    "eval max_memory": ([*EVALUATE, "--max_memory", "much"], "expected a size such as 2G"),
}


# `python -m`, and what this process held at most: what the parent says of it is never less than its own.
RUN = """
import atexit, os, runpy, sys
def held(): os.write(2, open("/proc/self/status").read().partition("VmHWM:")[2].split()[0].encode() + b"\\n")
atexit.register(held)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def typed(argv: Sequence[str], cwd: Path, **environment: str) -> tuple[int, list[str], float, float]:
    """Run a command; return its exit code, what it says, the MB it held at most, and seconds of work."""
    name, *words = argv
    with open(cwd / "said", "w+b") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, MODULES[name], *words],
            cwd=cwd,
            env={**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY), **environment},
            stdout=said,
            stderr=said,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        *lines, held = said.read().decode(errors="backslashreplace").splitlines()
    return process.returncode, lines, int(held) / 1024, usage.ru_utime


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", AT_ONCE)
def test_beyond_sense_is_refused_at_once(name: str, tmp_path: Path) -> None:
    argv, culprit = AT_ONCE[name]
    code, lines, mb, seconds = typed([*argv, "--out", str(tmp_path / "out")], tmp_path)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert ": error: " in lines[0]
    assert culprit in lines[0]
    assert mb < 150, mb  # not even torch was imported
    assert seconds < 5
    assert not list((tmp_path).glob("out/*.yaml"))


@linux
@pytest.mark.slow
def test_what_needs_a_look_at_the_generator_is_refused_soon(tmp_path: Path) -> None:
    """Checkpoints whose metadata ask for memory, and options that are only too large with what they hold."""
    plain = str(write_checkpoint(tmp_path / "plain.safetensors", tiny_config()))
    wide = tiny_config(data=DataConfig(load_size=4200, crop_size=4096, synthetic_count=2))
    windows = str(write_checkpoint(tmp_path / "windows.safetensors", wide))
    tiny = tiny_config(
        generator=GeneratorConfig(ngf=2, num_downs=12), data=DataConfig(load_size=16, crop_size=16)
    )
    levels = str(write_checkpoint(tmp_path / "levels.safetensors", tiny))
    picture = tmp_path / "large.png"
    Image.fromarray(np.zeros((7000, 7000), bool)).save(picture)
    start = ["eval_stability", plain, "--device", "cpu", "--shifts", "0..1", "--out", str(tmp_path / "out")]
    memory = ["--max_memory", "3G"]
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((3000, 3000), bool)).save(small)
    generate = ["generate", plain, "--device", "cpu", "--out", str(tmp_path / "made")]
    frames = tmp_path / "frames"
    frames.mkdir()
    little = frames / "0.png"
    for number in range(10):
        Image.fromarray(np.zeros((48, 48), bool)).save(frames / f"{number}.png")
    large = tiny_config(
        sampling="strided", generator=GeneratorConfig(ngf=64, num_downs=5, sampling="strided")
    )
    strided = str(write_checkpoint(tmp_path / "strided.safetensors", large))
    retrofit = ["retrofit", strided, "--data", str(frames), "--window", "64", "--device", "cpu"]
    retrofit += ["--out", str(tmp_path / "retrofitted")]
    cases = {
        "limit": ([*start, "--limit", str(10**9)], "synthetic pairs"),
        "workers": ([*start, "--limit", "1", "--workers", str(10**6)], "read by 1000000 processes"),
        "frames": ([*start, "--pan", "1", "--pan-frames", str(10**9)], "a pan of 1000000000 frames"),
        "path": ([*start, "--pan", "1000", "--pan-frames", "4000"], "a pan of 4000 frames"),
        "map": ([*start, "--shifts", "0..999999", "--map"], "1000001000000 shifts"),
        "window": ([*start, *memory, "--window", "4096", "--canvas", "4200"], "windows of 4096 px"),
        "4096 px": (["eval_stability", windows, *start[2:], *memory], "windows.safetensors (num_downs 3)"),
        "12 levels": (["eval_stability", levels, *start[2:], *memory], "levels.safetensors (num_downs 12)"),
        "picture": ([*generate, str(picture), "--max_memory", "1G"], "large.png: 7000 x 7000 px"),
        "network": ([*generate, str(small), "--max_memory", "1G"], "picture, or --tile auto"),
        "context": ([*generate, str(little), "--context", "20000"], "less --context"),
        "sequence": ([*generate, str(frames), "--sequence", "--context", "20000"], "less --context"),
        "onnx": (
            ["export", plain, "--out", str(tmp_path / "a.onnx"), "--size", "99999"],
            "on 99999 x 99999 px",
        ),
        "pt2": (
            ["export", plain, "--out", str(tmp_path / "a.pt2"), "--size", "99999"],
            "on 99999 x 99999 px",
        ),
        "retrofit window": ([*retrofit, "--window", "99999"], "windows of 99999 px"),
        "retrofit canvas": ([*retrofit, "--canvas", "99999"], "pictures of 99999 px"),
        "retrofit batch": ([*retrofit, "--batch_size", "9", "--max_memory", "1G"], "--batch_size 9"),
        "statistics": (
            [
                "statistics",
                strided,
                str(small),
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "norms.safetensors"),
            ],
            "on 3000 x 3000 px",
        ),
        "features": (
            ["eval_features", windows, "--device", "cpu", "--out", str(tmp_path / "features")],
            "on 4096 x 4096 px",
        ),
        "threads": (["eval_classifiers", "--threads", "99999"], "whole number of 0 to 1024"),
    }
    warm = ["eval_stability", plain, "--limit", "1", "--device", "cpu", "--shifts", "0..1"]
    runs = [
        ["train_pix2pix", *TINY, "--out", str(tmp_path / "run")],
        [*warm, "--out", str(tmp_path / "warm")],
    ]
    outcomes = run_measured([*runs, *(argv for argv, _ in cases.values())], tmp_path)
    assert [outcome["code"] for outcome in outcomes[:2]] == [0, 0], outcomes[:2]
    for (name, (_, culprit)), outcome in zip(cases.items(), outcomes[2:], strict=True):
        lines = [line for line in outcome["err"].splitlines() if ": error: " in line]
        assert outcome["code"] == 2, (name, outcome)
        assert "Traceback" not in outcome["err"], (name, outcome)
        assert len(lines) == 1, (name, outcome)
        assert culprit in lines[0], (name, lines)
        assert outcome["seconds"] < 2 * SECONDS, (name, outcome)
        assert outcome["mb"] < 200, (name, outcome)  # of a picture that fits, its pixels are read


# ---- what is written is read back -------------------------------------------------------------------------


@linux
@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", ""])
def test_a_run_whose_name_no_reader_takes_is_refused_before_the_work(locale: str, tmp_path: Path) -> None:
    """Bytes that are no UTF-8, or letters that the locale has not: safetensors would not open them again."""
    name = os.fsdecode(b"r\xff") if not locale else "Zürich"
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0"} if locale else {"PYTHONUTF8": "1"}
    argv = ["train_pix2pix", *TINY, "--out"]
    code, lines, mb, _ = typed([*argv, str(tmp_path / name)], tmp_path, **environment)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert "--out" in lines[0]
    assert "no text that could be read back" in lines[0]
    assert mb < 150
    argv = ["train_pix2pix", *TINY, "--data.root", str(tmp_path / name), "--out", "run"]
    code, lines, _, _ = typed(argv, tmp_path, **environment)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert "data.root" in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("factor", ["1e17", "1e7"])
def test_outputs_that_no_result_holds_are_refused_before_the_work(
    factor: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, pair_folder: Path
) -> None:
    from steadypix.eval.eval_stability import main as eval_stability

    (tmp_path / f"far{factor[2:]}.py").write_text(f"def away(x):\n    return x * {factor}\n")
    monkeypatch.syspath_prepend(tmp_path)
    argv = [
        f"far{factor[2:]}:away",
        "--trust",
        "--data",
        str(pair_folder),
        "--window",
        "32",
        "--canvas",
        "40",
    ]
    assert eval_stability([*argv, "--shifts", "0..1", "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    line = one_error_line(capsys, ":away", "the network's output reaches", "--range")
    assert factor.replace("e", "e+").replace("+7", "+07") in line
    assert not list(tmp_path.glob("out/*.json*"))


def test_every_number_of_a_configuration_is_bounded() -> None:
    """By what its readers take, before anything is written with it."""
    from steadypix.configs.schema import RunConfig
    from steadypix.json_checks import LARGEST_NUMBER

    for section, values in asdict(RunConfig()).items():
        fields = values.items() if isinstance(values, dict) else [(section, values)]
        for name, value in fields:
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            build = type(getattr(RunConfig(), section)) if isinstance(values, dict) else RunConfig
            with pytest.raises(ValueError, match=name):
                build(**{name: type(value)(10 * LARGEST_NUMBER)})
