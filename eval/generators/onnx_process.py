"""ONNX models, each run in a process of its own, which may take so much memory and time and no more.

A few hundred bytes can ask for terabytes (ConstantOfShape) or never end (Loop). Nothing in a file
tells that in advance, so the process that runs it is bounded: memory by the system (on Linux), the seconds of
a batch by the process that asks. What a model may do besides computing is nothing: no operator reads files.

The child runs this file as a script and imports neither torch nor steadypix. Both talk over pipes: a line of
JSON, and behind it the numbers of an array.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from steadypix.errors import InputError

REFERENCE_EVALUATOR = "onnx's reference evaluator"
METADATA = "steadypix.json"  # under this name a file of `steadypix export` says what it is
LONGEST_METADATA = 1 << 20  # characters
MISSING = "needs onnx or onnxruntime, and neither is installed; expected: pip install 'steadypix[onnx]'"
LIMIT_S = 600.0  # to load a model, and for one batch
SHARE = 0.75  # of the memory that is free when the model is loaded
MOST_TIMES = 256  # an output has at most so many times the numbers of its input
_LONGEST_LINE = 8 << 20
Dims = tuple[int | None, ...]


# ---- the process that asks --------------------------------------------------------------------------------


class OnnxModel:
    """An ONNX model in a process of its own.

    Args:
        path: the model's file.

    Attributes:
        runner: what runs it, in words.
        inputs: how many arrays it takes.
        taken, given: sizes of its first input and output; None where any will do.
        dtype: of its first input, as numpy names it.
        metadata: what `steadypix export` wrote into it.

    Raises:
        InputError: naming the file, if it cannot be loaded within the bounds.
    """

    def __init__(self, path: Path) -> None:
        from steadypix.budget import available_bytes

        self.path = path
        self.most_bytes = int(SHARE * available_bytes())
        # -P: what lies beside this file is not on the path.
        words = [sys.executable, "-P", __file__, str(path), str(self.most_bytes)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._end = weakref.finalize(self, _end, self._process)
        try:
            said, _ = self._answer(f"{path}: ")
            self.runner: str = said["runner"]
            self.inputs: int = said["inputs"]
            self.taken, self.given = (tuple(said[key]) for key in ("taken", "given"))
            self.dtype: str = said["dtype"]
            self.metadata: str = said["metadata"]
        except BaseException:
            self._end()
            raise

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Return the first output for one input.

        Raises:
            InputError: saying why there is none.
        """
        if not self._end.alive:
            raise self._gone("")
        head = json.dumps({"shape": array.shape, "dtype": str(array.dtype)}).encode() + b"\n"
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # of a process that has ended, which its silence tells, too
            stdin.write(head)
            stdin.write(array.tobytes())
            stdin.flush()
        said, made = self._answer("", most_numbers=MOST_TIMES * max(1, array.size))
        assert made is not None, said
        return made

    def __deepcopy__(self, memo: object) -> OnnxModel:
        """Return itself: there is nothing in it that changes."""
        return self

    def _gone(self, where: str) -> InputError:
        from steadypix.errors import InputError

        most = f"{self.most_bytes / 1e9:.1f} GB"
        return InputError(f"{where}ends the process that runs it, which may take {most}")

    def _answer(self, where: str, *, most_numbers: int = 0) -> tuple[dict[str, Any], np.ndarray | None]:
        """Read what the process says within its time."""
        import numpy as np

        from steadypix.errors import InputError

        late: list[bool] = []

        def end() -> None:
            late.append(True)
            self._process.kill()

        stdout = self._process.stdout
        assert stdout is not None
        clock = threading.Timer(LIMIT_S, end)
        clock.daemon = True
        clock.start()
        try:
            said = _read_line(stdout)
            data = b""
            if "shape" in said:
                count = math.prod(said["shape"])
                if count > most_numbers:
                    self._end()  # what it still has to say would be taken for its next answer
                    raise InputError(f"{where}makes {count} numbers of {most_numbers // MOST_TIMES}; refused")
                dtype = np.dtype(said["dtype"])
                data = _read_all(stdout, count * dtype.itemsize)
                return said, np.frombuffer(data, dtype).reshape(said["shape"]).copy()
        except EOFError:
            self._end()
            if late:
                raise InputError(f"{where}takes more than {LIMIT_S:g} s; ended") from None
            raise self._gone(where) from None
        finally:
            clock.cancel()
        if "error" in said:
            raise InputError(said["error"])
        return said, None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not written any more
                pipe.close()


def _read_line(stream: IO[bytes]) -> dict[str, Any]:
    line = stream.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    found: dict[str, Any] = json.loads(line)
    return found


def _read_all(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


# ---- the process that runs the model ----------------------------------------------------------------------


class Session(NamedTuple):
    """A loaded model; see `OnnxModel` for the rest."""

    runner: str
    inputs: int
    taken: Dims
    given: Dims
    dtype: str
    metadata: str
    run: Callable[[Any], Any]


def open_session(path: str) -> Session:
    """Load a model: through onnxruntime where it is installed, else onnx's reference evaluator.

    Raises:
        ImportError: if neither is installed.
        Exception: whatever they raise of a damaged file.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read on import: it would write files otherwise
    try:
        import onnxruntime
    except ImportError:
        return _reference_session(path)
    try:
        path.encode()
        source: str | bytes = path
    except UnicodeEncodeError:  # the library takes no name that is no text
        source = Path(path).read_bytes()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    taken, given = (
        tuple(size if isinstance(size, int) else None for size in value.shape)
        for value in (inputs[0], outputs[0])
    )
    kinds = {"tensor(float16)": "float16", "tensor(double)": "float64"}
    metadata = session.get_modelmeta().custom_metadata_map.get(METADATA, "")
    return Session(
        "onnxruntime",
        len(inputs),
        taken,
        given,
        kinds.get(inputs[0].type, "float32"),
        metadata,
        lambda array: session.run(None, {inputs[0].name: array})[0],
    )


def _reference_session(path: str) -> Session:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    evaluator: Any = ReferenceEvaluator(model)  # its stated return type is wider than what it returns
    taken, given = (
        tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (inputs[0], model.graph.output[0])
    )
    kinds = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.DOUBLE: "float64"}
    return Session(
        REFERENCE_EVALUATOR,
        len(inputs),
        taken,
        given,
        kinds.get(inputs[0].type.tensor_type.elem_type, "float32"),
        next((entry.value for entry in model.metadata_props if entry.key == METADATA), ""),
        lambda array: evaluator.run(None, {inputs[0].name: array})[0],
    )


def serve(path: str, most_bytes: int) -> None:
    """Load a model and run it on what stdin holds, until that ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))

    def say(what: dict[str, Any], data: bytes = b"") -> None:
        answers.write(json.dumps(what).encode() + b"\n")
        answers.write(data)
        answers.flush()

    try:
        session = open_session(path)
        if len(session.metadata) > LONGEST_METADATA:
            raise ValueError(f"{METADATA} is too long")
    except ImportError:
        say({"error": f"{path}: {MISSING}"})
        return
    except Exception as error:  # protobuf, checker and runtime errors share no base class
        say({"error": f"{path}: is damaged or no ONNX model ({_reason(error)})"})
        return
    say({key: value for key, value in session._asdict().items() if key != "run"})
    import numpy as np

    while line := sys.stdin.buffer.readline():
        head = json.loads(line)
        dtype, shape = np.dtype(head["dtype"]), head["shape"]
        data = sys.stdin.buffer.read(math.prod(shape) * dtype.itemsize)
        try:
            made = np.asarray(session.run(np.frombuffer(data, dtype).reshape(shape)))
            if made.dtype.kind not in "fiub":
                raise ValueError(f"gives {made.dtype}")
            content = made.tobytes()
        except Exception as error:
            say({"error": f"cannot take pictures of shape {tuple(shape)} ({_reason(error)})"})
            continue
        say({"shape": made.shape, "dtype": str(made.dtype)}, content)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _follow(parent: int) -> None:
    """End with the process that asked, even if that is killed while a model never ends."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
