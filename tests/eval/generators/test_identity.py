"""Generators known by content: the files beside an ONNX model, the code of what a callable builds."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from steadypix.errors import InputError
from steadypix.eval.eval_stability import heading
from steadypix.eval.eval_stability import main as eval_stability
from steadypix.eval.generators import identity
from steadypix.eval.generators.identity import external_files
from steadypix.eval.generators.models import digest, load_models
from steadypix.eval.generators.models import identity as identity_of

# ---- ONNX ---------------------------------------------------------------------------------------------


def onnx_model(path: Path, *names: str, nested: str | None = None) -> Path:
    """A model whose convolutions lie in files of their own, and a weight within a branch in one more."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (the extra steadypix[onnx])")
    helper = onnx.helper
    weights = [onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32)[..., None, None], n) for n in names]
    nodes = [helper.make_node("Conv", [f"x{i}", name], [f"x{i + 1}"]) for i, name in enumerate(names)]
    nodes[0].input[0], last = "x", f"x{len(names)}"
    if nested:
        shift = onnx.numpy_helper.from_array(np.float32([0.5]), nested)
        branch = helper.make_graph(
            [helper.make_node("Add", [last, nested], ["z"])], "b", [], [value(onnx, "z")]
        )
        branch.initializer.append(shift)
        weights.append(shift)
        nodes.append(helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("t", 9, [], [True])))
        nodes.append(helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch))
        last = "y"
    graph = helper.make_graph(nodes, "g", [value(onnx, "x")], [value(onnx, last)])
    graph.initializer.extend(weights[: len(names)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for tensor in onnx.external_data_helper._get_all_tensors(model):
        if tensor.name in (*names, nested):
            onnx.external_data_helper.set_external_data(tensor, f"{tensor.name}.bin")
            (path.parent / f"{tensor.name}.bin").write_bytes(tensor.raw_data)
            tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return path


def value(onnx: object, name: str) -> object:
    return onnx.helper.make_tensor_value_info(name, 1, ["b", 3, "h", "w"])  # type: ignore[attr-defined]


def test_all_files_beside_a_model_are_found(tmp_path: Path) -> None:
    path = onnx_model(tmp_path / "net.onnx", "v", "w", nested="shift")
    assert [file.name for file in external_files(path)] == ["shift.bin", "v.bin", "w.bin"]
    whole = b"".join((tmp_path / name).read_bytes() for name in ("net.onnx", "shift.bin", "v.bin", "w.bin"))
    assert digest(path, nn.Identity()) == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("name", ["v.bin", "w.bin", "shift.bin"])
def test_any_of_them_makes_another_model(tmp_path: Path, name: str) -> None:
    path = onnx_model(tmp_path / "net.onnx", "v", "w", nested="shift")
    (before,) = load_models([path])
    x = torch.rand(1, 3, 8, 8)
    y = before.module(x)
    file = tmp_path / name
    file.write_bytes((np.frombuffer(file.read_bytes(), np.float32) * 2).tobytes())
    (after,) = load_models([path])
    assert not torch.equal(y, after.module(x))
    assert before.sha256 != after.sha256


def test_files_elsewhere_are_not_opened(tmp_path: Path) -> None:
    """A name may lead anywhere: to /dev/zero, whose end never comes."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (the extra steadypix[onnx])")
    (tmp_path / "in").mkdir()
    (tmp_path / "out.bin").write_bytes(b"x")
    tensors = [onnx.numpy_helper.from_array(np.ones(2, np.float32), f"t{n}") for n in range(4)]
    for tensor, name in zip(tensors, ("../out.bin", "/dev/zero", "gone.bin", "."), strict=True):
        onnx.external_data_helper.set_external_data(tensor, name)
    graph = onnx.helper.make_graph([], "g", [], [], initializer=tensors)
    path = tmp_path / "in" / "net.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    assert external_files(path) == []


def test_a_model_without_them_is_its_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (the extra steadypix[onnx])")
    graph = onnx.helper.make_graph([], "g", [], [])
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    assert digest(path, nn.Identity()) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "damage", [b"\x3a\xff\x01", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x07"]
)
def test_what_is_no_model_is_said(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(damage)
    with pytest.raises(InputError, match=r"net\.onnx: is damaged or no ONNX model"):
        external_files(tmp_path / "net.onnx")


def test_graphs_in_graphs_end(tmp_path: Path) -> None:
    data = b""
    for _ in range(40):  # an attribute with a graph, in a node, in a graph
        for number in (6, 5, 1):
            data = bytes([number << 3 | 2]) + length(len(data)) + data
    (tmp_path / "net.onnx").write_bytes(b"\x3a" + length(len(data)) + data)
    with pytest.raises(InputError, match=r"net\.onnx: is damaged"):
        external_files(tmp_path / "net.onnx")


def length(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


# ---- Python callables -----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A callable, a package of its own that it takes parts from, and a module that it does not need."""
    files = {
        "nets_here.py": "import torch\nfrom parts_here import deep\nfrom parts_here.deep import Block\n"
        "def net(): return Block(1.0)\ndef plain(): return deep.double\n",
        "parts_here/__init__.py": "",
        "parts_here/deep.py": "import torch\nfrom parts_here import scale\n"
        "class Block(torch.nn.Module):\n"
        "    def __init__(self, start):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.tensor(start))\n"
        "    def forward(self, x): return x * self.weight * scale.FACTOR\n"
        "def double(x): return 2 * x\n",
        "parts_here/scale.py": "FACTOR = 0.5\n",
        "unrelated_here.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget()


def forget() -> None:
    """As if a new process began."""
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0].endswith("_here")]:
        del sys.modules[name]


def loaded(spec: str = "nets_here:net") -> tuple[str, str | None]:
    forget()
    (model,) = load_models([spec], trust=True)
    return model.sha256, model.code_sha256


@pytest.mark.parametrize("spec", ["nets_here:net", "nets_here:plain"])
@pytest.mark.parametrize("name", ["nets_here.py", "parts_here/deep.py", "parts_here/scale.py"])
@pytest.mark.usefixtures("project")
def test_code_that_a_callable_takes_part_in_counts(spec: str, name: str) -> None:
    weights, code = loaded(spec)
    assert loaded(spec) == (weights, code)
    Path(name).write_text(Path(name).read_text() + "# changed\n")
    assert loaded(spec)[0] == weights
    assert loaded(spec)[1] not in (code, None)


@pytest.mark.usefixtures("project")
def test_a_picture_that_generate_goes_on_with_is_of_the_same_code() -> None:
    path, before = Path("nets_here:net"), []
    for _ in range(2):
        forget()
        (model,) = load_models([path], trust=True)
        before.append(identity_of(path, "callable", model.module))
        Path("nets_here.py").write_text(Path("nets_here.py").read_text() + "# changed\n")
    assert before[0] != before[1]
    assert all(each.startswith(model.sha256) for each in before)


@pytest.mark.usefixtures("project")
def test_code_that_has_no_part_does_not() -> None:
    before = loaded()
    Path("unrelated_here.py").write_text("CHANGED = True\n")
    assert loaded() == before
    text = Path("nets_here.py").read_text()
    Path("nets_here.py").write_text(text.replace("1.0", "2.0"))
    assert loaded()[0] != before[0]  # its weights


@pytest.mark.usefixtures("project")
def test_of_installed_code_only_the_networks_own_classes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_installed", lambda path: path.parent.name == "parts_here")
    before = loaded()
    Path("parts_here/scale.py").write_text("FACTOR = 0.5  # changed\n")
    assert loaded() == before
    Path("parts_here/deep.py").write_text(Path("parts_here/deep.py").read_text() + "# changed\n")
    assert loaded()[1] != before[1]


def test_what_is_installed_is_known() -> None:
    assert identity._installed(Path(np.__file__))
    assert identity._installed(Path(hashlib.__file__))
    assert not identity._installed(Path(__file__))


def test_results_and_partial_results_name_the_code(
    project: Path, pair_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from steadypix.eval import eval_stability as command

    seen = []
    monkeypatch.setattr(command, "heading", lambda *args: seen.append(heading(*args)) or seen[-1])
    argv = ["nets_here:net", "--trust", "--data", str(pair_folder), "--window", "32", "--canvas", "40"]
    argv += ["--shifts", "0..1", "--margins", "0", "--limit", "1", "--device", "cpu", "--out", "o"]
    forget()
    assert eval_stability(argv) == 0
    (model,) = json.loads((project / "o" / "results.json").read_text())["models"]
    assert (model["sha256"], model["code_sha256"]) == loaded()
    assert seen[0]["code"] == [model["code_sha256"]]
