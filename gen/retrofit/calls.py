"""Functions that change the resolution inside of a module's own forward: blurred while it runs.

A module whose forward calls `F.interpolate`, `F.max_pool2d(x, 2)` or `x[..., ::2, ::2]` gets a child
`blur_calls` with what belongs to each such call. Hooks switch it on for the time of that forward, and off
again for the modules it calls, which are dealt with on their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steadypix.gen.retrofit.blurs import CALLS, pair
from steadypix.gen.retrofit.edits import Edits
from steadypix.gen.retrofit.flow import ACTIVATION_FUNCTIONS, Step
from steadypix.gen.retrofit.layers import PATCH, Rewriter

POOLS = ("max_pool2d", "avg_pool2d")
STRIDED = {"conv2d": 3, "conv_transpose2d": 3}  # where the stride lies among their arguments
SHUFFLES = ("pixel_shuffle", "pixel_unshuffle")
SLICE = "__getitem__"
# Found, and left as they are: why.
OTHERS = {
    "lp_pool2d": "it has no low-pass counterpart here",
    "adaptive_avg_pool2d": "its output has a fixed size, so its windows depend on the input's",
    "adaptive_max_pool2d": "its output has a fixed size, so its windows depend on the input's",
    "fractional_max_pool2d": "its places depend on chance",
    "max_pool2d_with_indices": "it returns indices",
    "max_unpool2d": "its places depend on the data",
    "grid_sample": "it samples where its grid says",
    "repeat_interleave": "it repeats samples; nn.Upsample(mode='nearest') is changed",
}
FOUND = frozenset({*POOLS, *STRIDED, *SHUFFLES, SLICE, "interpolate", *OTHERS})

# These give other sizes without sampling anything: parts, sums, borders, the same numbers in another order.
NO_SAMPLING = frozenset({
    SLICE, "pad", "view", "reshape", "permute", "transpose", "movedim", "flatten", "unflatten", "narrow",
    "split", "chunk", "unbind", "cat", "stack", "expand", "mean", "sum", "amax", "matmul", "__matmul__",
    "bmm", "einsum", "select", "index_select", "gather", "unfold", "fold", "linear", "repeat", "tile",
    "scaled_dot_product_attention",
})  # fmt: skip
REDUCTIONS = ("mean", "sum", "amax", "max", "amin", "median")


def factor_of(step: Step) -> tuple[float, float]:
    """Return by what a function changes height and width: 2 for half of it, 1/2 for double, 1 for none."""
    before, after = step.sizes
    if step.module is not None or step.name not in FOUND or len(before) < 3:
        return 1, 1
    if step.name == SLICE:
        index = step.words[0][1]
        steps = [item for item in _slice_steps(index) if item > 1]
        channels = len(before) == 4 and len(steps) == 1 and _slice_steps(index)[:2][-1] == steps[0]
        return (steps[0], steps[-1]) if steps and not (channels and Ellipsis not in _parts(index)) else (1, 1)
    if step.name in STRIDED:
        rows, columns = pair(_word(step.words, STRIDED[step.name], "stride", 1))
        return (1 / rows, 1 / columns) if step.name == "conv_transpose2d" else (rows, columns)
    if step.name in POOLS or step.name == "lp_pool2d":
        first = 2 if step.name == "lp_pool2d" else 1
        kernel = _word(step.words, first, "kernel_size", 1)
        stride = _word(step.words, first + 1, "stride", None) or kernel
        rows, columns = pair(stride)
        return rows, columns
    if len(before) != 4 or len(after) != 4 or 0 in (*before, *after) or set(before[-2:]) == {1}:
        return 1, 1  # a single sample that is repeated stays what it is
    return before[-2] / after[-2], before[-1] / after[-1]


def may_change(step: Step) -> bool:
    """Whether a function may change the resolution, as far as its code tells: without any sizes."""
    args = step.words[0]
    if step.module is not None:
        return False
    if step.name in (SLICE, "getitem"):
        return len(args) > 1 and any(isinstance(item, int) and item > 1 for item in _slice_steps(args[1]))
    if step.name in STRIDED:
        return _word(step.words, STRIDED[step.name], "stride", 1) not in (1, (1, 1), [1, 1])
    if step.name in POOLS or step.name == "lp_pool2d":
        first = 2 if step.name == "lp_pool2d" else 1
        kernel = _word(step.words, first, "kernel_size", None)
        return (_word(step.words, first + 1, "stride", None) or kernel) not in (1, (1, 1), [1, 1])
    return step.name in FOUND


def unknown_change(step: Step) -> str:
    """Return why a function unknown to `factor_of` seems to change the resolution; empty if it does not."""
    before, after = step.sizes
    if step.module is not None or step.name in FOUND or len(after) != 4 or set(after[-2:]) == {1}:
        return ""
    if len(before) == 6 and step.name in REDUCTIONS:
        return "it sums up blocks of a map that was reshaped"
    if step.name not in NO_SAMPLING and changes_size(before, after):
        return f"a function that is not known here, from {before[-2:]} to {after[-2:]}"
    return ""


def changes_size(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether two maps (B, C, H, W) differ in height and in width by a factor of about 2 or more."""
    if (
        len(before) != 4
        or len(after) != 4
        or 0 in (*before, *after)
        or {1} in (set(before[-2:]), set(after[-2:]))
    ):
        return False
    rows, columns = (a / b for a, b in zip(before[-2:], after[-2:], strict=True))
    # Windows that are cut out of a map change both by very different factors.
    return max(rows, 1 / rows) > 1.8 and 0.75 < rows / columns < 1.33


def reason_to_leave_call(step: Step, factor: tuple[float, float]) -> str:
    """Return why a call that changes the resolution cannot be changed; empty if it can."""
    words = step.words
    if step.name in OTHERS:
        return OTHERS[step.name]
    if len(step.sizes[0]) != 4:
        return "it works on no map (B, C, H, W)"
    if factor[0] != factor[1]:
        return f"its factors along height and width differ ({step.sizes[0][-2:]} to {step.sizes[1][-2:]})"
    ceil_mode = 4 if step.name == "avg_pool2d" else 5
    axes_known = step.name != SLICE or _sliced_axes(words[0][1], 4) is not None
    cases: tuple[tuple[Collection[str], bool, str], ...] = (
        ((SLICE,), not axes_known, "its axes are no height and width"),
        (("conv2d",), isinstance(_word(words, 4, "padding", 0), str), "its padding is a word"),
        (POOLS, _word(words, ceil_mode, "ceil_mode", False) is True, "a pooling function with ceil_mode"),
        (("interpolate",), factor[0] > 1 and bool(_word(words, 6, "antialias", False)), "a low-pass already"),
        (("interpolate",), factor[0] > 2, "it makes the map smaller by more than 2; give it antialias=True"),
    )
    return next((why for names, holds, why in cases if step.name in names and holds), "")


def rewrite_calls(owner: nn.Module, name: str, steps: list[Step], rewriter: Rewriter) -> list[str]:
    """Let calls of functions in a module's own forward blur; return where, one word for each step."""
    calls = _Calls()
    said: dict[Any, str] = {}
    where = []
    for step in steps:
        key = _key(step.name, step.words)
        octaves = _octaves(*(shape[-2] for shape in step.sizes)) if step.name == "interpolate" else 0
        if (key, octaves) not in said:
            said[key, octaves], part = _part(step, name, rewriter)
            calls.add(key, part, octaves)
        where.append(said[key, octaves])
    for step, blur in rewriter.activated.get(name, []):
        calls.add(_key(step.name, step.words), _Activated(None, blur))
    rewriter.edits.set(owner, CALLS, calls)
    rewriter.edits.hook_before(owner, _switch_on)
    rewriter.edits.hook_after(owner, _switch_off, always=True)
    return where


def shield(owner: nn.Module, edits: Edits) -> None:
    """Switch a module's blurs of calls off for all modules inside; done last, for blurs are inside, too."""
    for module in owner.modules():
        # A module with blurs of its own calls puts those in front by itself.
        if hasattr(module, CALLS) or _leave in module._forward_hooks.values():
            continue
        edits.hook_before(module, _enter)
        edits.hook_after(module, _leave, always=True)


class _Part(nn.Module):
    """What belongs to one kind of call: it is handed the call, and makes it."""

    def __init__(self, layer: nn.Module | None, blur: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.blur = blur


class _After(_Part):
    """The call, then a blur; nothing where the call changes nothing, as at a size that fits already."""

    def forward(self, func: Callable[..., Any], args: Any, words: dict[str, Any]) -> Any:
        output = func(*args, **words)
        x = args[0] if args else words["input"]
        return output if output.shape[-2:] == x.shape[-2:] else self.blur(output)


class _Activated(_Part):
    """An activation, then the blur of the convolution before it."""

    def forward(self, func: Callable[..., Any], args: Any, words: dict[str, Any]) -> Any:
        return self.blur(func(*args, **words))


class _Before(_Part):
    """A blur of the map, then the call; of a slice along other axes than the last two, of those."""

    def forward(self, func: Callable[..., Any], args: Any, words: dict[str, Any]) -> Any:
        axes = _sliced_axes(args[1], args[0].ndim) if func is Tensor.__getitem__ else (-2, -1)
        if not args:
            words = dict(words)
            args = (words.pop("input"),)
        x = args[0]
        if axes is None or x.ndim != 4 or not x.is_floating_point():
            return func(*args, **words)
        blurred = self.blur(x.movedim(axes, (-2, -1))).movedim((-2, -1), axes)
        return func(blurred, *args[1:], **words)


class _Dense(_Part):
    """A strided convolution made dense (or denser), then a blur that subsamples."""

    def __init__(self, kept: int, blur: nn.Module) -> None:
        super().__init__(None, blur)
        self.kept = kept

    def forward(self, func: Callable[..., Any], args: Any, words: dict[str, Any]) -> Any:
        args, words = list(args), dict(words)
        if len(args) > STRIDED["conv2d"]:
            args[STRIDED["conv2d"]] = self.kept
        else:
            words["stride"] = self.kept
        return self.blur(func(*args, **words))


class _Pool(_Part):
    """A pool as a module, dense, then its blur."""

    def forward(self, func: Callable[..., Any], args: Any, words: dict[str, Any]) -> Any:
        if self.layer is None:
            raise AssertionError("a pool without its layer")
        return self.blur(self.layer(args[0] if args else words["input"]))


def _part(step: Step, name: str, rewriter: Rewriter) -> tuple[str, nn.Module]:
    """Return what to say of a call, and the part that makes it from now on."""
    factor = factor_of(step)[0]
    part: _Part
    if step.name in POOLS:
        pool = _as_module(step)
        where, blur = rewriter.pool_blur(pool, int(factor))
        part = _Pool(pool, blur)
    elif step.name == "conv2d" and rewriter.options.sampling == "blur":
        kept = int(factor) // 2 if rewriter.options.patches == "half" and factor >= PATCH else 1
        where = "blurred after itself: a function"
        part = _Dense(kept, rewriter.down(None, int(factor) // kept))
    elif factor > 1:
        where, part = "blurred before", _Before(None, rewriter.dense(None, factor, upward=False))
    else:
        where, part = "blurred after", _After(None, rewriter.dense(None, 1 / factor, upward=True))
    rewriter.watch(name, part.blur, resizes=False)
    return where, part


def _as_module(step: Step) -> Any:
    words = step.words
    names: tuple[str, ...] = ("kernel_size", "stride", "padding")
    names += ("dilation", "ceil_mode") if step.name == "max_pool2d" else ("ceil_mode", "count_include_pad")
    given = {name: _word(words, place, name, None) for place, name in enumerate(names, start=1)}
    if step.name == "avg_pool2d":
        given["divisor_override"] = _word(words, 6, "divisor_override", None)
    kind = nn.MaxPool2d if step.name == "max_pool2d" else nn.AvgPool2d
    return kind(**{name: value for name, value in given.items() if value is not None})


class _Calls(nn.Module):
    """The parts of a module's own calls, by what is called with which arguments.

    Several parts of one key are for calls of `interpolate` to different sizes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Any] = []
        self.octaves: list[int] = []
        self.parts = nn.ModuleList()

    def add(self, key: Any, part: nn.Module, octaves: int = 0) -> None:
        self.keys.append(key)
        self.octaves.append(octaves)
        self.parts.append(part)

    def part_of(self, name: str, args: Any, words: dict[str, Any]) -> nn.Module | None:
        """Return the part that belongs to a call; None for a call that changes nothing, or was never seen."""
        if not any(key[0] == name for key in self.keys):
            return None
        key = _key(name, (args, words))
        places = [place for place, known in enumerate(self.keys) if known == key]
        if len(places) > 1:
            octaves = _octaves(*_heights(args, words))
            places.sort(key=lambda place: abs(self.octaves[place] - octaves))
            places = places if octaves else []
        return self.parts[places[0]] if places else None


def _heights(args: Any, words: dict[str, Any]) -> tuple[float, float]:
    """Return the heights of what `interpolate` is given and makes; or 1 and the factor between them."""
    size, scale = _word((args, words), 1, "size", None), _word((args, words), 2, "scale_factor", None)
    if size is None:
        return 1, scale if isinstance(scale, int | float) else scale[0]
    x = args[0] if args else words["input"]
    return x.shape[-2], size[0] if isinstance(size, tuple | list) else size


def _octaves(before: float, after: float) -> int:
    """Return over how many octaves `dense_blur_of` blurs a change, below 0 on the way up, 0 where none is.

    Heights are compared and not divided: an exporter knows that 2 h is more than h, whatever h is.
    """
    if before == after:
        return 0
    if before < after:
        return -_octaves(after, before)
    octaves = 1
    while 2 * before >= (2 ** (octaves + 2) - 1) * after:  # the factor rounds to the next power of 2 or more
        octaves += 1
    return octaves


def _key(name: str, words: tuple[Any, Any]) -> tuple[Any, ...]:
    """Return what tells calls of a function apart; of `interpolate` but for the size, see `_Calls`."""
    if name == "interpolate":
        return name, _word(words, 3, "mode", "nearest")
    if name == SLICE:
        return (name, *_slice_steps(words[0][1]))
    if name in STRIDED:
        return name, pair(_word(words, STRIDED[name], "stride", 1))
    if name in ACTIVATION_FUNCTIONS:
        return (name,)
    # Tensors were noted as None, so the map is left out, also where it is given by name.
    named = {word: value for word, value in words[1].items() if not isinstance(value, Tensor | None)}
    return name, repr(list(words[0][1:])), repr(sorted(named.items()))


def _parts(index: Any) -> list[Any]:
    return list(index) if isinstance(index, tuple) else [index]


def _slice_steps(index: Any) -> tuple[int, ...]:
    return tuple(part.step or 1 if isinstance(part, slice) else 1 for part in _parts(index))


def _sliced_axes(index: Any, ndim: int) -> tuple[int, int] | None:
    """Return the two neighbouring axes that are sliced with a step, counted from the last; None if others."""
    parts = _parts(index)
    if any(part is None or isinstance(part, Tensor | list | int) for part in parts):
        return None
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (ndim - len(parts) + 1)
    parts += [slice(None)] * (ndim - len(parts))
    axes = [axis - ndim for axis, part in enumerate(parts) if (part.step or 1) > 1]
    return (axes[0], axes[1]) if len(axes) == 2 and axes[1] == axes[0] + 1 and axes[0] > -ndim else None


def _word(words: tuple[Any, Any], place: int, name: str, default: Any) -> Any:
    args, named = words
    return args[place] if len(args) > place else named.get(name, default)


class _Running(threading.local):
    """Whose forward runs in this thread, the innermost last; None for one without blurs of its own."""

    def __init__(self) -> None:
        self.stack: list[tuple[_Calls | None, _Mode | None]] = []


_running = _Running()


class _Mode(TorchFunctionMode):
    """Hands the calls of one forward to its parts."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self.calls = calls

    @torch._disable_dynamo
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        words = kwargs or {}
        if _running.stack and _running.stack[-1][0] is self.calls:
            part = self.calls.part_of(getattr(func, "__name__", ""), args, words)
            if part is not None:
                return part(func, args, words)
        return func(*args, **words)


# A compiler would keep the mode for itself, and leave the blurs out; it breaks its graph here instead.
@torch._disable_dynamo
def _switch_on(module: Any, args: Any) -> None:
    mode = _Mode(module.blur_calls)
    _running.stack.append((module.blur_calls, mode))
    mode.__enter__()


@torch._disable_dynamo
def _switch_off(module: Any, args: Any, output: Any) -> None:
    if _running.stack and _running.stack[-1][0] is module.blur_calls:
        _, mode = _running.stack.pop()
        if mode is not None:
            mode.__exit__(None, None, None)


def _enter(module: Any, args: Any) -> None:
    _running.stack.append((None, None))


def _leave(module: Any, args: Any, output: Any) -> None:
    if _running.stack and _running.stack[-1][0] is None:
        _running.stack.pop()
