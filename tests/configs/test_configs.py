"""Configuration: recipes, overrides, and one line for what is wrong."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from steadypix.configs.load import build_parser, packaged, parse, to_yaml
from steadypix.configs.schema import Filter, GeneratorConfig, LossConfig, Norm, RunConfig
from steadypix.errors import InputError
from steadypix.gen.layers.filters import FILTERS
from steadypix.gen.layers.norms import NORMS
from steadypix.gen.layers.resample import PADDINGS
from steadypix.gen.networks.detail import TEXTURES
from steadypix.gen.networks.unet import SAMPLINGS, UNetGenerator
from steadypix.gen.training.losses import GAN_MODES


def read(*argv: str) -> RunConfig:
    return parse(build_parser("train_pix2pix", "test"), argv)[0]


def test_choices_are_those_of_the_networks() -> None:
    hints = get_type_hints(GeneratorConfig)
    assert get_args(hints["sampling"]) == SAMPLINGS
    assert get_args(hints["padding"]) == PADDINGS
    assert get_args(hints["texture"]) == TEXTURES
    assert get_args(Norm) == NORMS
    assert get_args(Filter) == tuple(FILTERS)
    assert get_args(get_type_hints(LossConfig)["gan"]) == GAN_MODES


def test_generator_fields_are_the_arguments_of_the_network() -> None:
    arguments = inspect.signature(UNetGenerator).parameters
    fields = {field.name: field.default for field in dataclasses.fields(GeneratorConfig)}
    assert fields == {name: argument.default for name, argument in arguments.items()}


@pytest.mark.parametrize("name", ["demo", "facades", "maps"])
@pytest.mark.parametrize("paper", [False, True])
def test_packaged_recipes_load(name: str, paper: bool) -> None:
    full = f"{name}-paper" if paper else name
    assert full in packaged()
    config = read("--config", full)
    network = config.generator
    steady = ("blur_late", "anchored", 16, "batch" if name == "demo" else "renorm")
    expected = ("blur", "none", 0, "instance") if paper else steady
    assert (network.sampling, network.texture, network.head, network.norm) == expected
    other = read("--config", name if paper else f"{name}-paper")
    assert (config.data, config.train) == (other.data, other.train)
    end = {"equivariance": 100, "equivariance_start": 0.875, "equivariance_perturb": True}
    steady_end = end if name == "facades" and not paper else {}
    assert config.loss == LossConfig(**steady_end)
    if name != "demo":
        # The paper's data and schedule.
        assert (config.data.load_size, config.data.crop_size) == (286, 256)
        assert (config.train.epochs, config.batch_size, config.generator.ngf) == (200, 1, 64)
        assert config.loss.lambda_l1 == 100
        assert (config.train.learning_rate, config.train.beta1, config.train.beta2) == (2e-4, 0.5, 0.999)


def test_later_options_win_over_the_recipe() -> None:
    config = read("--config=demo", "--generator.sampling", "strided", "--train.epochs=3")
    assert config.generator.sampling == "strided"
    assert config.train.epochs == 3
    assert config.data.crop_size == 128


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = read("--config", "demo", "--discriminator.filter", "tri3", "--data.root", "somewhere")
    (tmp_path / "own.yaml").write_text(to_yaml(config))
    assert read("--config", str(tmp_path / "own.yaml")) == config


@pytest.mark.parametrize(
    ("argv", "culprits"),
    [
        (["--config", "fasades"], ["fasades", "demo, demo-paper, facades"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "no such config"]),
        (["--generator.sampling", "blurr"], ["generator.sampling", "blurr", "'blur_late'"]),
        (["--generator.ngf", "many"], ["generator.ngf", "many", "int"]),
        (["--generator.ngf", "0"], ["ngf", "at least 1"]),
        (["--generator.nfg", "8"], ["generator.nfg"]),
        (["--generator.samplin", "blur"], ["generator.samplin"]),
        (["--data.load_size", "100"], ["load_size 100", "crop_size 256"]),
        (["--train.beta1", "1.5"], ["beta1", "1.5"]),
        (
            ["--config", "facades", "--generator.padding", "reflect"],
            ["padding reflect", "norm renorm", "1 x 1", "num_downs 7"],
        ),
        (["--train.decay_epochs", "300"], ["decay_epochs", "300"]),
        (["--device", "tpu"], ["device", "tpu"]),
        (["--train.capture", "true", "--train.accumulate", "2"], ["train.capture", "no train.accumulate"]),
        (["--train.capture", "true", "--loss.equivariance", "1"], ["train.capture", "no loss.equivariance"]),
        (
            ["--discriminator.kind", "pixel", "--discriminator.input_filter", "tri3"],
            ["discriminator.input_filter tri3", "needs discriminator.kind patch, not pixel"],
        ),
        (
            ["--discriminator.kind=pixel", "--discriminator.filter=bin5"],
            ["discriminator.filter bin5", "patch"],
        ),
        (
            ["--generator.ngf", "\u0663"],
            ["--generator.ngf: expected a number in the digits 0 to 9"],
        ),
        (["--train.beta1=0.\u0665"], ["--train.beta1: expected a number in the digits 0 to 9"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_options_name_the_key_and_the_value(argv: list[str], culprits: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read(*argv)
    message = str(caught.value)
    assert "\n" not in message
    for culprit in culprits:
        assert culprit in message


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("generator:\n  ngff: 3\n", "ngff"),
        ("generator:\n  ngf: wide\n", "wide"),
        ("generator: [\n", r"bad\.yaml: is no YAML"),
        ("- 1\n", r"bad\.yaml: expected a mapping"),
        ("train:\n  epochs: 2.5\n", "2.5"),
        ("train:\n  epochs: \u0663\n", r"bad\.yaml: train\.epochs: expected a number in the digits 0 to 9"),
    ],
)
def test_bad_files_name_the_key(tmp_path: Path, text: str, culprit: str) -> None:
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=culprit):
        read("--config", str(tmp_path / "bad.yaml"))


def test_every_field_has_a_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        build_parser("train_pix2pix", "test").parse_args(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "how a level changes resolution" in shown
    assert "px a side of the window a network sees" in shown


# ---- hostile files ----------------------------------------------------------------------------------

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("generator:\n  class_path: evil.Generator\n", "generator.class_path: no such option"),
        ("generator:\n  class_path: evil.Generator\n  init_args: {}\n", "class_path"),
        ("generator: evil.yaml", "generator: expected a mapping"),
        ("generator: null", "generator: expected a mapping"),
        ("generator: [1]", "generator: expected a mapping"),
        ("generator.class_path: evil.Generator", "no such option"),
        ("class_path: evil.Generator", "class_path"),
        ("seed: {class_path: evil.Generator}", "seed: expected a plain value"),
        ("seed: [[class_path]]", "seed: expected a plain value"),
        ("config: evil.yaml", "config: no such option"),
        ("seed: !!python/object/apply:evil.Generator []", "is no YAML"),
        (BOMB, r"holds the alias \*a0"),
        (MERGES, r"holds the alias \*a0"),
        ("a: &a [*a]", r"holds the alias \*a"),
        ("a: " + "[" * 60_000, "nested too deep"),
        ("a: " + "{a: " * 9 + "1" + "}" * 9, "nested too deep"),
        ("seed: 1 #" + "x" * 70_000, "bytes; expected"),
        ("seed: " + "9" * 5000, "is no YAML"),
        ("seed: 2001-99-99", "is no YAML"),
        ("seed: '\x00'", "is no YAML"),
        ("loss: {lambda_l1: .inf}", "loss.lambda_l1: expected a plain value"),
        ("1: 2", "no such option"),
        ("? [1]\n: 2", "is no YAML"),
    ],
    ids=lambda text: text[:40],
)
def test_hostile_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    """In one line that names the file, before anything is imported, read or unfolded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "evil.yaml").write_text("ngf: 3\nseed: 3\n")
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read("--config", str(tmp_path / "own.yaml"))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "words",
    [
        ["--generator", '{"class_path": "evil.Generator"}'],
        ["--generator=evil.yaml"],
        ["--generator.class_path", "evil.Generator"],
        ["--data.class_path=evil.Generator"],
    ],
)
def test_options_import_and_read_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "evil.yaml").write_text("ngf: 3\n")
    with pytest.raises(InputError, match="is no option"):
        read(*words)


def test_an_option_that_went_is_answered_and_old_files_load(tmp_path: Path) -> None:
    for argv in (["--train.tensorboard", "true"], ["--train.tensorboard=false"]):
        with pytest.raises(InputError, match=r"--train\.tensorboard.*done by: --train\.tracker tensorboard"):
            read(*argv)
    old = tmp_path / "config.yaml"
    text = to_yaml(RunConfig(seed=5)).replace("train:\n", "train:\n  tensorboard: false\n")
    old.write_text(text)
    assert read("--config", str(old)) == RunConfig(seed=5)
    old.write_text(text.replace("tensorboard: false", "tensorboard: true"))
    with pytest.raises(InputError, match=r"config\.yaml: train\.tensorboard: .*--train\.tracker tensorboard"):
        read("--config", str(old))
