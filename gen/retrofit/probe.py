"""One pass of a network on a probe, watched: which steps it takes, what sizes they give, what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry, sdpa_flop
from torch.utils.weak import WeakTensorKeyDictionary

from steadypix.gen.retrofit.flow import LEAVES, Flow, Step

# Sides that are tried, in px: small, then what networks for fixed sizes want.
SIZES = (64, 224, 256, 32, 28, 128, 299, 384, 512)


@dataclass(frozen=True)
class Cost:
    """What a pass on the probe takes.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products, the blurs' included.
        map_bytes: bytes of all tensors that are computed on the way, each once.
    """

    macs: int
    map_bytes: int


@dataclass(frozen=True)
class Probe:
    """What a network is run on: positional and named arguments."""

    args: tuple[Any, ...]
    words: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first tensor, () if there is none."""
        tensors = [leaf for leaf in tree_leaves((self.args, self.words)) if isinstance(leaf, Tensor)]
        return tuple(tensors[0].shape) if tensors else ()


@dataclass(frozen=True)
class Seen:
    """What was seen of one pass.

    Attributes:
        flow: its steps.
        shapes: of all tensors in the network's output.
        sizes: output shapes of each module that gives one tensor, by name, in the order of first calls' ends.
        called: output shapes of all modules that were called, those without a name too, by `id`.
        ends: shapes in and out of each module that takes and gives a tensor, at its first call, by name.
        cost: of the whole pass.
    """

    flow: Flow
    shapes: list[tuple[int, ...]]
    sizes: dict[str, list[tuple[int, ...]]]
    called: dict[int, list[tuple[int, ...]]]
    ends: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    cost: Cost


class ProbeError(Exception):
    """The network raised on its probe.

    Args:
        module: the innermost module that was running.
        cause: what it raised.
    """

    def __init__(self, module: str, cause: Exception) -> None:
        super().__init__(f"{module or '(root)'}: {type(cause).__name__}: {cause}")
        self.module = module
        self.cause = cause


def given(example: Any) -> Probe:
    """Make a probe of an example: a tensor, positional arguments as a tuple or list, or named ones."""
    if isinstance(example, dict):
        return Probe((), example)
    return Probe(tuple(example) if isinstance(example, tuple | list) else (example,), {})


def derive(model: nn.Module) -> tuple[Probe, Seen] | str:
    """Find a picture that a network takes, and watch it; or say why there is none.

    Args:
        model: channels are the `in_channels` of the first module that has some, such as its first conv,
            or else 3 and 1; sizes are tried from `SIZES`.
    """
    stated = (getattr(module, "in_channels", None) for module in model.modules())
    first = next((channels for channels in stated if type(channels) is int), None)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    error = ""
    for channels in dict.fromkeys([first] if first else [3, 1]):
        for size in SIZES:
            generator = torch.Generator().manual_seed(0)
            x = torch.rand(1, channels, size, size, generator=generator).to(like.device, like.dtype)
            probe = Probe((x,), {})
            try:
                return probe, watch(model, probe)
            except ProbeError as problem:
                error = error or str(problem).splitlines()[0]
    return f"it takes no picture of the sizes that were tried ({error})"


def watch(model: nn.Module, probe: Probe) -> Seen:
    """Run a network once, in evaluation mode, without gradients; leave it and all generators as they are.

    Raises:
        ProbeError: for whatever the network raises.
    """
    recorder = _Recorder(model)
    try:
        with _quietly(model, probe):
            args, words = tree_map(_copy, (probe.args, probe.words))
            with recorder.listening(), recorder, recorder.counter:
                output = model(*args, **words)
    except Exception as error:
        raise ProbeError(recorder.running, error) from error
    recorder.note_output(output)
    shapes = [tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    cost = Cost(recorder.counter.macs, recorder.counter.map_bytes)
    return Seen(Flow(recorder.steps), shapes, recorder.sizes, recorder.called, recorder.ends, cost)


def _copy(leaf: Any) -> Any:
    """Copy what the network may write into."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


@contextmanager
def _quietly(model: nn.Module, probe: Probe) -> Iterator[None]:
    tensors = [leaf for leaf in tree_leaves((probe.args, probe.words)) if isinstance(leaf, Tensor)]
    devices = sorted({leaf.device.index or 0 for leaf in tensors if leaf.device.type == "cuda"})
    training = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.no_grad())
        warnings.simplefilter("ignore")
        model.eval()
        try:
            yield
        finally:
            for module, flag in training.items():
                module.training = flag


class _Counter(TorchDispatchMode):
    """Count multiply-accumulates and bytes of what is computed.

    While it looks on, the layers of this package compute by torch's own convolutions, which it knows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0
        self.map_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.macs += flop_registry[packet](*args, **(kwargs or {}), out_val=out) // 2
        elif packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            self.macs += sdpa_flop(*args[:3], out_val=out) // 2
        known = {_place(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and _place(leaf) not in known:
                self.map_bytes += leaf.numel() * leaf.element_size()
        return out


def _place(x: Tensor) -> int:
    """Return what tells whether two tensors share their memory; a tensor without any is its own."""
    try:
        return x.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):
        return id(x)


class _Recorder(TorchFunctionMode):
    """Note every call of a module that is known for what it is, and every function outside of those."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.steps: list[Step] = []
        self.sizes: dict[str, list[tuple[int, ...]]] = {}
        self.called: dict[int, list[tuple[int, ...]]] = {}
        self.ends: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self.counter = _Counter()
        self._made_by: Any = WeakTensorKeyDictionary()
        self._stack: list[tuple[nn.Module, bool, list[int], int]] = []  # opaque, its sources, macs so far

    @property
    def running(self) -> str:
        """The innermost module that has a name in the network and is running, or was when an error came."""
        return next((self.names[m] for m, *_ in reversed(self._stack) if m in self.names), "")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be told of all modules' calls, the network's own and those it makes on the way."""
        handles = (
            torch_modules.register_module_forward_pre_hook(self._enter),
            torch_modules.register_module_forward_hook(self._leave),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.called.setdefault(id(module), [])
        hidden = bool(self._stack) and self._stack[-1][1]
        opaque = hidden or (isinstance(module, LEAVES) and module in self.names)
        self._stack.append((module, opaque, [] if hidden else self._sources(args), self.counter.macs))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        while self._stack and self._stack[-1][0] is not module:  # left by an error that the network caught
            self._stack.pop()
        if not self._stack:
            return
        _, opaque, sources, macs = self._stack.pop()
        first = next((leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)), None)
        if isinstance(output, Tensor):
            self.called[id(module)].append(tuple(output.shape))
            if module in self.names:
                name = self.names[module]
                self.sizes.setdefault(name, []).append(tuple(output.shape))
                if first is not None:
                    self.ends.setdefault(name, (tuple(first.shape), tuple(output.shape)))
        if opaque and not (self._stack and self._stack[-1][1]):
            step = Step(self.names[module], owner=self.running, module=module, macs=self.counter.macs - macs)
            self._add(step, sources, first, output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._stack and self._stack[-1][1]:
            return func(*args, **kwargs)
        sources, macs = self._sources((args, kwargs)), self.counter.macs
        first = next((leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)), None)
        size = first.shape if first is not None else ()
        words = tree_map(lambda leaf: None if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        output = func(*args, **kwargs)
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(output)):
            name = getattr(func, "__name__", str(func))
            step = Step(name, owner=self.running, words=words, macs=self.counter.macs - macs)
            self._add(step, sources, first, output, tuple(size))
        return output

    def _sources(self, inputs: Any) -> list[int]:
        """Return the steps that made the tensors among the inputs, the first input's in front; -1 if none."""
        tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        return [self._made_by.get(tensor, -1) for tensor in tensors]

    def _add(
        self, step: Step, sources: Sequence[int], first: Tensor | None, output: Any, size: Any = None
    ) -> None:
        step.source = sources[0] if sources else -1
        number = len(self.steps)
        self.steps.append(step)
        for source in dict.fromkeys(sources):
            if source >= 0:
                self.steps[source].users.append(number)
        made = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        for tensor in made:
            self._made_by[tensor] = number
        before = size if size is not None else tuple(first.shape) if first is not None else ()
        step.sizes = (before, tuple(made[0].shape) if made else ())

    def note_output(self, output: Any) -> None:
        """Note that the network's own output uses what made it."""
        for source in self._sources(output):
            if source >= 0:
                self.steps[source].users.append(-1)
