"""ONNX models made at random: sound ones, some whose shapes lie, some that ask for memory or never end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Node = onnx.NodeProto
Parts = tuple[list[Node], list[onnx.TensorProto]]
SIZES = (0, 1, -1, 3, 7, 2**31 - 1, 2**31, 2**40, -(2**63), 2**63 - 1)
# Sizes of the picture that a model takes: the first are true.
LYING: tuple[list[str | int | None], ...] = (["batch", 3, "height", "width"], [1, 3, 32, 32], ["batch", 3])
LYING += ([0, 3, -1, 2**40], [])
SIMPLE = ("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Identity", "Softplus", "InstanceNormalization")


def make_graph(rng: random.Random, data: bytes) -> bytes:
    """Return a model of pictures; `data` is of no account."""
    nodes, constants = rng.choice(_KINDS)(rng)
    dims = rng.choice(LYING) if rng.random() < 0.3 else LYING[0]
    kind = rng.choice((TensorProto.FLOAT,) * 8 + (TensorProto.DOUBLE, TensorProto.STRING, TensorProto.INT64))
    taken = [helper.make_tensor_value_info("x", kind, dims)]
    if rng.random() < 0.05:
        taken.append(helper.make_tensor_value_info("second", kind, dims))
    given = [helper.make_tensor_value_info(nodes[-1].output[0] if nodes else "x", TensorProto.FLOAT, dims)]
    if rng.random() < 0.1:
        rng.shuffle(nodes)  # out of order, or with a circle
    graph = helper.make_graph(nodes, "g", taken, given, constants)
    version = rng.choice((17,) * 8 + (1, 6, 10**6))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    if rng.random() < 0.1:
        helper.set_model_props(model, {"steadypix.json": rng.choice(("{}", "[", "x" * 3_000_000, "null"))})
    return bytes(model.SerializeToString())


def _plain(rng: random.Random) -> Parts:
    """A chain of convolutions and functions, some of whose weights have shapes that do not fit."""
    nodes: list[Node] = []
    constants: list[onnx.TensorProto] = []
    name = "x"
    for place in range(rng.randint(1, 5)):
        after = f"y{place}"
        what = rng.choice((*SIMPLE, "Conv", "Conv", "ConvTranspose", "Nowhere"))
        inputs = [name]
        if what.startswith("Conv"):
            shape = [3, rng.choice((3, 3, 3, 2)), 3, 3]
            weight = np.random.default_rng(rng.randrange(2**31)).normal(0, 0.1, shape).astype(np.float32)
            tensor = numpy_helper.from_array(weight, f"w{place}")
            if rng.random() < 0.1:
                tensor.dims[rng.randrange(4)] = rng.choice(SIZES)
            if rng.random() < 0.05:  # numbers that lie in another file
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value=rng.choice(("../../etc/passwd", "w.bin", "/")))
            constants.append(tensor)
            inputs.append(f"w{place}")
        attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]} if what.startswith("Conv") else {}
        nodes.append(helper.make_node(what, inputs, [after], **attributes))
        name = after
    return nodes, constants


def _large(rng: random.Random) -> Parts:
    """A tensor of any size, of a model of a few bytes."""
    shape = [rng.choice((1, 3, 64, 2**16, 2**20, *SIZES)) for _ in range(rng.randint(1, 4))]
    value = numpy_helper.from_array(np.array(shape, np.int64), "shape")
    what = rng.choice(("ConstantOfShape", "Expand", "Tile", "Reshape"))
    inputs = ["shape"] if what == "ConstantOfShape" else ["x", "shape"]
    nodes = [helper.make_node(what, inputs, ["made"]), helper.make_node("ReduceSum", ["made"], ["sum"])]
    return [*nodes, helper.make_node("Add", ["x", "sum"], ["y"])], [value]


def _endless(rng: random.Random) -> Parts:
    """A loop of any length."""
    names = ("i", "go", "state")
    kinds = (TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node(rng.choice(("Sin", "Identity", "Abs")), ["state"], ["after"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, kinds, strict=True)],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, None),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    count = numpy_helper.from_array(np.array(rng.choice((0, 3, 1000, 10**9, 2**62)), np.int64), "count")
    go = numpy_helper.from_array(np.array(rng.random() < 0.9), "start")
    return [helper.make_node("Loop", ["count", "start", "x"], ["y"], body=body)], [count, go]


def _empty(rng: random.Random) -> Parts:
    return [], []


_KINDS: tuple[Callable[[random.Random], Parts], ...] = (_plain, _plain, _plain, _large, _endless, _empty)
