"""ONNX models that ask for more than there is, or never end: one line, and the process is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadypix.checkpoints.generate import main as generate
from steadypix.errors import InputError
from steadypix.eval.generators import onnx_process
from steadypix.eval.generators.onnx_process import OnnxModel
from tests.cli import Capture, one_error_line

onnx = pytest.importorskip("onnx", reason="onnx is not installed (the extra steadypix[onnx])")
pytestmark = pytest.mark.slow
SHAPE = [1, 3, 48, 96]


def save(path: Path, nodes: list[Any], constants: list[Any]) -> Path:
    pictures, output = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", SHAPE), ("y", None))
    )
    graph = onnx.helper.make_graph(nodes, "graph", [pictures], [output], constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def greedy(path: Path) -> Path:
    """A ConstantOfShape of 16 TB in a file of 200 bytes."""
    node = onnx.helper.make_node
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1 << 20, 1 << 22])
    nodes = [node("ConstantOfShape", ["shape"], ["zeros"]), node("ReduceSum", ["zeros"], ["sum"], keepdims=0)]
    return save(path, [*nodes, node("Add", ["x", "sum"], ["y"])], [shape])


def endless(path: Path) -> Path:
    """A Loop whose condition stays true."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    kinds = onnx.TensorProto
    inputs = [info("i", kinds.INT64, []), info("c", kinds.BOOL, []), info("v", kinds.FLOAT, SHAPE)]
    outputs = [info("c2", kinds.BOOL, []), info("v2", kinds.FLOAT, SHAPE)]
    steps = [node("Identity", ["c"], ["c2"]), node("Neg", ["v"], ["v2"])]
    body = onnx.helper.make_graph(steps, "body", inputs, outputs)
    true = onnx.helper.make_tensor("true", kinds.BOOL, [], [True])
    return save(path, [node("Loop", ["", "true", "x"], ["y"], body=body)], [true])


def test_memory_ends(tmp_path: Path, pair_folder: Path, capsys: Capture) -> None:
    path = greedy(tmp_path / "greedy.onnx")
    assert generate([str(path), str(pair_folder / "test"), "--out", str(tmp_path / "o")]) == 2
    one_error_line(capsys, "greedy.onnx", "cannot take pictures of shape (1, 3, 48, 96)")


def test_time_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = OnnxModel(endless(tmp_path / "endless.onnx"))
    monkeypatch.setattr(onnx_process, "LIMIT_S", 1.0)
    with pytest.raises(InputError, match="takes more than 1 s; ended"):
        model(np.zeros(SHAPE, np.float32))
    assert model._process.poll() is not None
    with pytest.raises(InputError, match="ends the process that runs it"):  # and stays gone
        model(np.zeros(SHAPE, np.float32))


def test_an_output_without_measure_is_not_taken(tmp_path: Path) -> None:
    times = onnx.helper.make_tensor("times", onnx.TensorProto.INT64, [4], [1, 1, 20, 20])
    path = save(tmp_path / "wide.onnx", [onnx.helper.make_node("Tile", ["x", "times"], ["y"])], [times])
    model = OnnxModel(path)
    with pytest.raises(InputError, match="makes 5529600 numbers of 13824; refused"):
        model(np.zeros(SHAPE, np.float32))
    # What it was about to say is nobody's answer, and nothing waits for it to be read.
    assert model._process.poll() is not None
    with pytest.raises(InputError, match="ends the process"):
        model(np.zeros(SHAPE, np.float32))


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = save(tmp_path / "neg.onnx", [onnx.helper.make_node("Neg", ["x"], ["y"])], [])
    path = path.rename(tmp_path / "neg\udcff.onnx")
    x = np.random.default_rng(0).random(SHAPE, np.float32)
    model = OnnxModel(path)
    np.testing.assert_array_equal(model(x), -x)
    assert (model.inputs, list(model.taken), model.dtype) == (1, SHAPE, "float32")
