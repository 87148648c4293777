"""Checkpoints: what is written comes back, and nothing else is ever taken for a checkpoint."""

from __future__ import annotations

import contextlib
import errno
import json
import pickle
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from steadypix.files import write_whole
from steadypix.gen.networks.patchgan import PatchDiscriminator
from steadypix.gen.networks.unet import SAMPLINGS, UNetGenerator
from steadypix.gen.training.state import pack_state, unpack_state
from steadypix.gen.weights.generators import (
    FORMAT,
    GENERATOR_FILE,
    CheckpointError,
    load_generator,
    load_weights,
    save_generator,
)
from steadypix.gen.weights.tensors import read_tensors, write_tensors

pytestmark = pytest.mark.slow

SMALL = {"ngf": 2, "num_downs": 2, "norm": "batch"}


def build(seed: int = 0, **arguments: object) -> UNetGenerator:
    """A small generator whose running statistics are not the initial ones."""
    torch.manual_seed(seed)
    model = UNetGenerator(**{**SMALL, **arguments})
    model(torch.randn(2, 3, 16, 16))
    return model


def save(path: Path, seed: int = 0, **arguments: object) -> UNetGenerator:
    model = build(seed, **arguments)
    config = {"generator": {**SMALL, **arguments}, "data": {"name": "façades", "size_px": 256}}
    save_generator(path, model, config=config, provenance={"seed": seed, "epochs": [1, 2]})
    return model


def claim(path: Path, generator: object, tensors: dict[str, Tensor] | None = None) -> Path:
    """A file in our format whose metadata claims any configuration of the generator."""
    metadata = {"format": FORMAT, "config": {"generator": generator}, "provenance": {}}
    write_tensors(path, build().state_dict() if tensors is None else tensors, metadata)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.safetensors"


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Break off what takes longer: a hang must fail, not stop the run."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# --- round trips ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:a circular generator")
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_generator_comes_back(path: Path, sampling: str, norm: str) -> None:
    model = save(path, sampling=sampling, filter="tri3", padding="circular", norm=norm)
    loaded = load_generator(path)
    assert isinstance(loaded, UNetGenerator)
    assert not any(module.training for module in loaded.modules())
    state = loaded.state_dict()
    assert list(state) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name
        assert state[name].dtype == tensor.dtype
    x = torch.randn(1, 3, 13, 10)
    assert torch.equal(loaded(x), model.eval()(x))


def test_config_and_provenance_come_back(path: Path) -> None:
    save(path, seed=3)
    loaded = load_generator(str(path))
    assert loaded.config == {"generator": SMALL, "data": {"name": "façades", "size_px": 256}}
    assert loaded.provenance == {"seed": 3, "epochs": [1, 2]}
    save_generator(path, loaded, config=loaded.config)
    assert load_generator(path).provenance == {}


def test_saving_leaves_the_model_as_it_was(path: Path) -> None:
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_generator(path, model, config={"generator": SMALL}, dtype=torch.float16)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_half_precision_on_disk_is_single_precision_in_memory(path: Path) -> None:
    model = build(num_downs=4, ngf=8)
    config = {"generator": {**SMALL, "num_downs": 4, "ngf": 8}}
    save_generator(path, model, config=config)
    full_size = path.stat().st_size
    save_generator(path, model, config=config, dtype=torch.float16)
    assert path.stat().st_size < 0.6 * full_size
    stored, _ = read_tensors(path)
    assert stored["encoder.0.conv.weight"].dtype == torch.float16
    assert stored["encoder.1.norm.num_batches_tracked"].dtype == torch.int64
    for name, tensor in load_generator(path).state_dict().items():
        original = model.state_dict()[name]
        assert tensor.dtype == original.dtype
        expected = original.half().float() if original.is_floating_point() else original
        assert torch.equal(tensor, expected), name


def test_a_run_directory_stands_for_its_generator(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    save(run / GENERATOR_FILE)  # folders are made as needed
    assert load_generator(run).config["generator"] == SMALL
    other = build(seed=1)
    load_weights(other, str(run))
    assert torch.equal(other.encoder[0].conv.weight, load_generator(run).encoder[0].conv.weight)


def test_tensors_and_metadata_come_back(path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4, dtype=torch.float64).t(),  # not contiguous
        "b/c": torch.tensor(7),
        "d": torch.arange(4, dtype=torch.uint8).requires_grad_(False),
        "e": torch.randn(2, requires_grad=True),
        "f": torch.zeros(0),
    }
    metadata = {"steps": 12, "list": [1, None, "ü"], "nested": {"x": 0.1}, "text": "12"}
    write_tensors(path, tensors, metadata)
    read, read_metadata = read_tensors(path)
    assert read_metadata == metadata
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items())


def test_metadata_of_other_programs_is_read_as_text(path: Path) -> None:
    save_file({"a": torch.ones(1)}, path, metadata={"format": "pt", "note": "{not json"})
    assert read_tensors(path)[1] == {"format": "pt", "note": "{not json"}


@pytest.mark.parametrize(
    "length",
    [pytest.param(0x0880, id="like a pickle"), pytest.param(0x4B50, id="like a zip archive")],
)
def test_a_header_whose_length_looks_like_another_format_is_read(path: Path, length: int) -> None:
    """A safetensors file begins with its header's length, whose bytes can be those of any format.

    One length in 32 ends in the byte a pickle begins with, so the first bytes alone prove nothing.
    """
    model = build()

    def write(filler: int) -> int:
        provenance = {"note": "x" * filler}
        save_generator(path, model, config={"generator": SMALL}, provenance=provenance)
        return struct.unpack("<Q", path.read_bytes()[:8])[0]

    filler = length - write(0)
    assert filler > 0
    found = next(size for size in map(write, range(filler - 8, filler + 9)) if size == length)
    assert path.read_bytes()[:8] == struct.pack("<Q", found)
    assert load_generator(path).config == {"generator": SMALL}


# --- retrofit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_strided_weights_load_into_every_sampling(path: Path, sampling: str) -> None:
    strided = save(path, sampling="strided")
    model = build(seed=1, sampling=sampling, padding="replicate", filter="bin7")
    load_weights(model, path)
    for name, tensor in strided.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert model.training  # only the weights are touched
    x = torch.randn(1, 3, 16, 16)
    assert not torch.equal(model.eval()(x), strided.eval()(x))


def test_weights_that_do_not_fit_change_nothing(path: Path) -> None:
    model = build(seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = dict(build().state_dict())
    tensors["encoder.1.conv.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"encoder\.1\.conv\.weight"):
        load_weights(model, claim(path, SMALL, tensors))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# --- atomic writing ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(path: Path, error: BaseException) -> None:
    path.write_bytes(b"old")

    def write(temporary: Path) -> None:
        assert temporary.parent == path.parent  # a rename across file systems is not atomic
        temporary.write_bytes(b"half of the new")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, write)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_complete(path: Path) -> None:
    path.write_bytes(b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"

    write_whole(path, write)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_rename_that_fails_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path)
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "not allowed")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(PermissionError):
        save(path, seed=1)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_an_os_error_that_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"one\.safetensors") as caught:
        save(path, seed=1)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_files_are_the_librarys_own_to_the_byte(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(3, 5, generator=generator)
    types = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]
    types += [torch.int16, torch.int8, torch.uint8, torch.bool]
    tensors = {f"{kind}"[6:]: (10 * numbers).to(kind) for kind in types}
    tensors |= {"one": torch.tensor(2.0), "none": torch.zeros(0, 3), "turned": numbers.t(), "ü": numbers[:1]}
    metadata = {"k": {"ü": [1, '"\n\u2028']}}
    write_tensors(path, tensors, metadata)
    plain = {key: tensor.contiguous() for key, tensor in tensors.items()}
    assert path.read_bytes() == safetensors.torch.save(plain, {"k": json.dumps(metadata["k"])})
    write_tensors(path, {}, {})
    assert path.read_bytes() == safetensors.torch.save({})


def test_equal_contents_make_equal_files(path: Path) -> None:
    metadata = {f"key {number}": number for number in range(20)}
    written = []
    for _ in range(2):
        write_tensors(path, {"a": torch.ones(2), "b": torch.zeros(1)}, metadata)
        written.append(path.read_bytes())
    assert written[0] == written[1]


# --- refusals ------------------------------------------------------------------------------------

READERS: dict[str, Callable[[Path], object]] = {
    "load_generator": load_generator,
    "load_weights": lambda path: load_weights(build(), path),
    "read_tensors": read_tensors,
}


def sound() -> bytes:
    """The bytes of a sound file."""
    return safetensors.torch.save(build().state_dict(), metadata={"format": json.dumps(FORMAT)})


def with_header(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(**changes: object) -> bytes:
    """A header with one tensor."""
    described = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return json.dumps({"a": described}).encode()


DAMAGED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"{",
    "eight bytes": lambda: struct.pack("<Q", 0),
    "no header": lambda: struct.pack("<Q", 0) + b"{",
    "zeros": lambda: bytes(1000),
    "cut in half": lambda: sound()[: len(sound()) // 2],
    "cut in the header": lambda: sound()[:100],
    "cut by one byte": lambda: sound()[:-1],
    "longer by one byte": lambda: sound() + b"\0",
    "text": lambda: b"this is no checkpoint\n" * 20,
    "json": lambda: b'{"weights": [1, 2, 3], "name": "nothing"}',
    "picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "absurd header length": lambda: with_header(entry(), bytes(8), 2**63),
    "largest header length": lambda: with_header(entry(), bytes(8), 2**64 - 1),
    "header past the end": lambda: with_header(entry(), bytes(8), len(entry()) + 9),
    "header is no json": lambda: with_header(b"{not json at all}", bytes(8)),
    "header is a list": lambda: with_header(b"[1, 2, 3, 4, 5, 6]", bytes(8)),
    "header is no utf-8": lambda: with_header(b'{"\xff\xfe": 1}', bytes(8)),
    "unknown dtype": lambda: with_header(entry(dtype="F31"), bytes(8)),
    "offsets past the end": lambda: with_header(entry(data_offsets=[0, 80]), bytes(8)),
    "offsets backwards": lambda: with_header(entry(data_offsets=[8, 0]), bytes(8)),
    "shape unlike its bytes": lambda: with_header(entry(shape=[3]), bytes(8)),
    "negative shape": lambda: with_header(entry(shape=[-2]), bytes(8)),
    "shape that overflows": lambda: with_header(entry(shape=[2**62, 2**62]), bytes(8)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_and_foreign_files_are_refused(path: Path, damage: str, reader: str) -> None:
    path.write_bytes(DAMAGED[damage]())
    with at_most(5), pytest.raises(CheckpointError) as caught:
        READERS[reader](path)
    message = str(caught.value)
    assert message.startswith(f"{path}: is ")
    assert "\n" not in message


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.marker,)


PICKLES: dict[str, Callable[[object, Path], None]] = {
    "torch.save": torch.save,
    "legacy torch.save": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    **{
        f"protocol {number}": lambda value, path, number=number: path.write_bytes(
            pickle.dumps(value, protocol=number)
        )
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_are_refused_and_never_run(tmp_path: Path, path: Path, kind: str, reader: str) -> None:
    marker = tmp_path / "it ran"
    PICKLES[kind]({"weights": torch.zeros(3).tolist(), "trap": _Trap(marker)}, path)
    with pytest.raises(CheckpointError, match=r"is (a pickle|damaged|no safetensors)"):
        READERS[reader](path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["torch.save", "legacy torch.save", "protocol 2", "protocol 5"])
def test_a_pickle_is_called_one(path: Path, kind: str) -> None:
    PICKLES[kind](build().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"pickle \(torch\.save\).*expected safetensors"):
        load_generator(path)


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_named(tmp_path: Path, reader: str) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such checkpoint"):
        READERS[reader](tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("reader", READERS)
def test_a_path_through_a_file_is_refused(path: Path, reader: str) -> None:
    save(path)
    with pytest.raises(CheckpointError, match=r"inner\.safetensors"):
        READERS[reader](path / "inner.safetensors")


@pytest.mark.parametrize("reader", ["load_generator", "load_weights"])
def test_a_directory_without_a_generator_is_refused(tmp_path: Path, reader: str) -> None:
    with pytest.raises(CheckpointError, match=GENERATOR_FILE):
        READERS[reader](tmp_path)
    (tmp_path / GENERATOR_FILE).mkdir()
    with pytest.raises(CheckpointError, match="is a directory"):
        READERS[reader](tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": json.dumps(FORMAT)}])
def test_safetensors_of_other_programs_are_refused(path: Path, metadata: dict[str, str] | None) -> None:
    save_file(build().state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError, match="is no steadypix generator"):
        load_generator(path)
    save_file({"conv1.weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(build(), path)


def test_a_file_without_tensors_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks decoder\.0\.conv\.weight"):
        load_generator(claim(path, SMALL, {}))


def spoil(tensors: dict[str, Tensor], how: str) -> str:
    """Spoil one tensor; return what the message has to say."""
    key = "decoder.1.conv.weight"
    if how == "missing":
        del tensors[key]
        return rf"lacks {key}; it is of another architecture"
    if how == "extra":
        tensors["decoder.9.conv.weight"] = torch.zeros(1)
        return r"holds decoder\.9\.conv\.weight, unknown here"
    if how == "renamed":
        tensors["decoder.1.conv.weights"] = tensors.pop(key)
        return "another architecture"
    if how == "shape":
        tensors[key] = tensors[key][:, :-1]
        return rf"{key} is \(4, 2, 4, 4\), expected \(4, 3, 4, 4\)"
    tensors[key] = tensors[key].clone()
    tensors[key][0, 0, 0, 0] = float(how)
    return rf"{key} holds values that are not finite"


@pytest.mark.parametrize("reader", ["load_generator", "load_weights"])
@pytest.mark.parametrize("how", ["missing", "extra", "renamed", "shape", "nan", "inf", "-inf"])
def test_other_weights_than_claimed_are_refused(path: Path, how: str, reader: str) -> None:
    tensors = dict(build().state_dict())
    message = spoil(tensors, how)
    with pytest.raises(CheckpointError, match=message) as caught:
        READERS[reader](claim(path, SMALL, tensors))
    assert str(caught.value).startswith(f"{path}: ")


def test_another_architecture_than_claimed_is_refused(path: Path) -> None:
    for change in ({"ngf": 3}, {"num_downs": 3}, {"in_channels": 1}, {"norm": "instance"}):
        with pytest.raises(CheckpointError, match=r"another architecture|expected \("):
            load_generator(claim(path, {**SMALL, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"ngf": 10**6},
        {"ngf": 10**9},
        {"ngf": 10**30},
        {"in_channels": 10**12},
        {"num_downs": 20_000},
        {"num_downs": 10**9},
        {"num_downs": 10**30},
    ],
    ids=str,
)
def test_a_hostile_size_is_refused_at_once(path: Path, change: dict[str, int]) -> None:
    """Neither memory nor time is spent on a network that the weights cannot fill."""
    claim(path, {**SMALL, **change})
    with at_most(1), pytest.raises(CheckpointError) as caught:
        load_generator(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"ngf": "2"},
        {"ngf": 2.5},
        {"ngf": None},
        {"ngf": [2]},
        {"ngf": True},
        {"ngf": 0},
        {"num_downs": -1},
        {"num_downs": 2.0},
        {"num_downs": {}},
        {"sampling": 3},
        {"sampling": None},
        {"sampling": "polar"},
        {"filter": ["bin5"]},
        {"filter": "bin99"},
        {"padding": {}},
        {"padding": "mirror"},
        {"norm": 7},
        {"norm": ["batch"]},
        {"dropout": "no"},
        {"in_channels": 3.0},
        {"nonsense": 1},
        {"self": 1},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(path: Path, change: dict[str, object]) -> None:
    claim(path, {**SMALL, **change})
    with pytest.raises(CheckpointError, match="configuration cannot be built") as caught:
        load_generator(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize("generator", [None, [], "unet", 3, [["ngf", 2]]], ids=str)
def test_a_configuration_of_another_kind_is_refused(path: Path, generator: object) -> None:
    with pytest.raises(CheckpointError, match="holds no generator configuration"):
        load_generator(claim(path, generator))


@pytest.mark.parametrize("config", ["3", "null", "[]", "not json", '"text"', "", "[" * 100_000])
def test_metadata_that_is_no_configuration_is_refused(path: Path, config: str) -> None:
    """The last one is nested deeper than a parser can follow."""
    metadata = {"format": json.dumps(FORMAT), "config": config}
    save_file(build().state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError, match="is no steadypix generator"):
        load_generator(path)


def test_another_format_version_is_refused(path: Path) -> None:
    metadata = {"format": "steadypix.generator.v999", "config": {"generator": SMALL}}
    write_tensors(path, build().state_dict(), metadata)
    with pytest.raises(CheckpointError, match=f"no {FORMAT} metadata"):
        load_generator(path)


def test_the_error_is_one_of_bad_input() -> None:
    assert issubclass(CheckpointError, ValueError)
    assert CheckpointError.exit_code == 2


# --- the state of a training run -----------------------------------------------------------------

Nets = dict[str, nn.Module]
Optimizers = dict[str, torch.optim.Optimizer]


def new_run(seed: int) -> tuple[Nets, Optimizers]:
    torch.manual_seed(seed)
    models: Nets = {
        "generator": UNetGenerator(**SMALL, dropout=False),
        "discriminator": PatchDiscriminator(ndf=2, n_layers=1, norm="batch"),
    }
    optimizers: Optimizers = {
        "generator_optimizer": torch.optim.Adam(
            models["generator"].parameters(), lr=2e-3, betas=(0.5, 0.999)
        ),
        "discriminator_optimizer": torch.optim.Adam(models["discriminator"].parameters(), lr=1e-3),
    }
    return models, optimizers


def train(models: Nets, optimizers: Optimizers, steps: range) -> None:
    for step in steps:
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        logits = models["discriminator"](torch.cat([x, models["generator"](x)], dim=1))
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        logits.square().mean().backward()
        for optimizer in optimizers.values():
            optimizer.step()


def test_a_run_goes_on_to_the_bit(path: Path) -> None:
    """Six steps equal three, written and read into new objects, and three more."""
    whole = new_run(0)
    train(*whole, range(6))
    first = new_run(0)
    train(*first, range(3))
    write_tensors(path, pack_state(*first), {})
    second = new_run(99)
    unpack_state(read_tensors(path)[0], *second)
    train(*second, range(3, 6))
    expected, result = pack_state(*whole), pack_state(*second)
    assert result.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(result[key], tensor), key


def test_state_is_named_by_its_owner(path: Path) -> None:
    models, optimizers = new_run(0)
    assert "generator/encoder.0.conv.weight" in pack_state(models, optimizers)
    assert not [key for key in pack_state(models, optimizers) if "optimizer" in key]
    train(models, optimizers, range(1))
    packed = pack_state(models, optimizers)
    assert packed["generator_optimizer/0/step"].item() == 1
    shape = models["generator"].encoder[0].conv.weight.shape
    assert packed["generator_optimizer/0/exp_avg"].shape == shape


def test_a_run_that_has_not_begun_comes_back(path: Path) -> None:
    first, second = new_run(0), new_run(1)
    unpack_state(pack_state(*first), *second)
    train(*first, range(2))
    train(*second, range(2))
    for key, tensor in pack_state(*first).items():
        assert torch.equal(pack_state(*second)[key], tensor), key


def test_learning_rates_are_the_new_runs(path: Path) -> None:
    """Only tensors are kept: hyperparameters come from the configuration."""
    models, optimizers = new_run(0)
    train(models, optimizers, range(1))
    packed = pack_state(models, optimizers)
    again, again_optimizers = new_run(1)
    for optimizer in again_optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.5
    unpack_state(packed, again, again_optimizers)
    assert all(o.param_groups[0]["lr"] == 0.5 for o in again_optimizers.values())


def test_state_that_lacks_weights_is_refused() -> None:
    models, optimizers = new_run(0)
    packed = pack_state(models, optimizers)
    del packed["generator/encoder.0.conv.weight"]
    with pytest.raises(ValueError, match=r"encoder\.0\.conv\.weight"):
        unpack_state(packed, models, optimizers)
    packed["generator/encoder.0.conv.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"encoder\.0\.conv\.weight"):
        unpack_state(packed, models, optimizers)


def test_a_file_from_before_late_levels_has_all_of_them_late(tmp_path: Path) -> None:
    arguments = {"ngf": 4, "num_downs": 4, "sampling": "blur_late"}
    torch.manual_seed(0)
    model = UNetGenerator(**arguments, late_levels=None).eval()
    save_generator(tmp_path / "old.safetensors", model, config={"generator": arguments})
    x = torch.randn(1, 3, 16, 16)
    found = load_generator(tmp_path / "old.safetensors")
    assert torch.equal(found(x), model(x))
    assert not torch.equal(UNetGenerator(**arguments).eval()(x), model(x))
