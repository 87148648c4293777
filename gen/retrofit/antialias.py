"""Retrofit: make any network low-pass before it subsamples (Zhang 2019, section 3.2).

| layer | becomes | paper |
|---|---|---|
| max pool, stride s | the same window densely, then BlurPool | eq. 7 |
| conv, activation | the conv densely, the activation, then BlurPool | eq. 8 |
| average pool 2x2 | BlurPool | eq. 9 |
| transposed conv, upsampling, pixel shuffle | the same, then a blur | the mirror of that |
| slices with a step, pixel unshuffle | a blur, then the same | |
| levels of our own networks | as `sampling` would have built them | |

Nothing else changes: the modules stay the objects they were, with their weights and names, so a state dict
fits before and after, and an optimiser keeps its parameters. A blur is a child of the module it belongs to
(`print(model)` shows it), called by a forward hook.

The network runs on a probe before and after, which tells what follows each layer, finds changes of resolution
that are function calls, and proves that every blur takes part and every output keeps its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn

from steadypix.gen.layers.filters import binomial_taps
from steadypix.gen.layers.resample import PADDINGS
from steadypix.gen.networks.detail import Detail
from steadypix.gen.retrofit.blurs import AFTER, BEFORE, CALLS
from steadypix.gen.retrofit.calls import (
    SLICE,
    changes_size,
    factor_of,
    may_change,
    reason_to_leave_call,
    rewrite_calls,
    shield,
    unknown_change,
)
from steadypix.gen.retrofit.edits import Edits
from steadypix.gen.retrofit.flow import LEAVES, Flow, Step, trace
from steadypix.gen.retrofit.layers import (
    PATCH,
    Options,
    Rewriter,
    change_of,
    is_blurred,
    is_patch,
    reason_to_leave,
)
from steadypix.gen.retrofit.own import own_layers, rewrite_own
from steadypix.gen.retrofit.probe import Probe, ProbeError, Seen, derive, given, watch
from steadypix.gen.retrofit.result import Change, Left, Retrofit

SAMPLINGS = ("blur", "preblur")
PATCHES = ("keep", "half", "dense")
SHORTCUTS = ("before", "after")
ATTACHED = {BEFORE, AFTER, CALLS}
FUNCTION = "a function, not a module; with an example it can be changed"


def antialias(
    model: nn.Module,
    *,
    filter: str = "bin5",
    padding: str = "reflect",
    sampling: str = "blur",
    skip: Collection[str] = (),
    example: Any = None,
    patches: str = "keep",
    shortcut: str = "before",
    pool_window: int | None = None,
) -> Retrofit:
    """Rewrite whatever changes a network's resolution, in place; what was rewritten before stays.

    The network is run before and after, in evaluation mode. If a blur did not run, or an output has another
    shape, everything is taken back.

    Args:
        model: any network on maps (B, C, H, W). Weights, names and the shapes of all outputs are kept.
        filter: taps by name, see `steadypix.gen.layers.filters`.
        padding: of the blurs. Networks of this package blur with the padding they were built with.
        sampling: `blur`, the paper's; or `preblur`, which blurs before a conv that keeps its stride and so
            costs next to nothing, but leaves the activation's harmonics.
        skip: names of modules to leave alone, with all that is in them: `("conv1",)` keeps the first
            conv of a ResNet strided, as the paper does on ImageNet to save memory.
        example: what the network is run on: a tensor, a tuple of arguments, or a dict of named ones. None:
            a picture (1, C, n, n) with the channels of the first conv, of the first size n that works.
        patches: what happens to convs of stride 4 and more whose kernel covers every sample, such as patch
            embeddings: `keep`; `half`, which halves their stride and costs 4 times as much; or `dense`, which
            costs stride squared times as much.
        shortcut: whether the 1x1 conv of a residual block's shortcut is blurred `before` it, at the lower
            cost, or `after` it.
        pool_window: side of all max pools' windows, without padding; None keeps each one's own. 2 is what
            antialiased-cnns gives ResNets, instead of 3.

    Returns:
        What was changed, what was not and why, and what it costs; print it.

    Raises:
        ValueError: for an unknown word, a name in `skip` that the network lacks, or, naming the layer, where
            the rewritten network raises, a blur does not run or an output has another shape. The network is
            as before then.
    """
    options = Options(filter, padding, sampling, patches, shortcut, pool_window)
    _check(options)
    modules = dict(model.named_modules())
    for name in skip:
        if name not in modules:
            raise ValueError(f"skip: the network has no module {name!r}")
    probe, seen, unproven = _before(model, example)
    flow = seen.flow if seen else trace(model)
    device = next((parameter.device for parameter in model.parameters()), None)
    rewriter = Rewriter(
        options, flow, seen.sizes if seen else {}, Edits(), lambda blur: blur.to(device), modules
    )
    try:
        changes, left = _rewrite(model, modules, rewriter, skip, seen)
        after = _prove(model, probe, seen, rewriter) if probe and seen else None
    except BaseException:
        rewriter.edits.undo()
        raise
    return Retrofit(
        model,
        tuple(changes),
        tuple(left),
        probe=probe.shape if probe else (),
        unproven=unproven,
        before=seen.cost if seen else None,
        after=after.cost if after else None,
        _edits=rewriter.edits,
    )


def _check(options: Options) -> None:
    binomial_taps(options.filter)
    for word, known in (
        ("padding", PADDINGS),
        ("sampling", SAMPLINGS),
        ("patches", PATCHES),
        ("shortcut", SHORTCUTS),
    ):
        if getattr(options, word) not in known:
            raise ValueError(
                f"{word} {getattr(options, word)!r} is unknown; expected one of {', '.join(known)}"
            )
    window = options.pool_window
    if window is not None and (type(window) is not int or window < 1):
        raise ValueError(f"pool_window must be a whole number of at least 1, not {window!r}")


def _before(model: nn.Module, example: Any) -> tuple[Probe | None, Seen | None, str]:
    """Run the network as it is; return on what, what was seen, and why it was not run."""
    if example is not None:
        probe = given(example)
        try:
            return probe, watch(model, probe), ""
        except ProbeError as error:
            raise ValueError(f"example: the network raises on it, in {error}") from error.cause
    found = derive(model)
    if isinstance(found, str):
        return None, None, f"{found}; give an example"
    return *found, ""


def _rewrite(
    model: nn.Module,
    modules: dict[str, nn.Module],
    rewriter: Rewriter,
    skip: Collection[str],
    seen: Seen | None,
) -> tuple[list[Change], list[Left]]:
    changes: list[Change] = []
    left: list[Left] = []
    own = own_layers(model)
    tables = [name for name, module in modules.items() if isinstance(module, Detail)]  # noise, looked up

    def is_out(name: str) -> bool:
        return any(not kept or name == kept or name.startswith(f"{kept}.") for kept in skip)

    def is_theirs(name: str) -> bool:
        return (
            any(name.startswith(f"{level}.") or name == level for level in tables)
            or any(name.startswith(f"{level}.") for level in own)
            or not ATTACHED.isdisjoint(name.split("."))
        )

    for name, module in modules.items():
        if is_out(name) or is_theirs(name):
            continue
        if name in own:
            if not any(part == name or part.startswith(f"{name}.") for part in skip):
                done = rewrite_own(module, name, rewriter)
                changes += [done] if done else []
            continue
        calls = rewriter.flow.calls.get(name, [])
        factor = change_of(module, calls)
        if factor == (1, 1) or is_blurred(module) or _is_global(module, calls):
            continue
        stride, upward = _stride(factor)
        kind = type(module).__name__
        reason = _reason(module, factor, calls, rewriter, called=seen is None or id(module) in seen.called)
        if reason:
            left.append(Left(name, reason, kind, stride, upward))
        else:
            changes.append(Change(name, kind, stride, rewriter.layer(module, name, stride), upward))

    def is_done(name: str) -> bool:
        return is_out(name) or is_theirs(name) or name in own

    left += _unknown(modules, seen, is_done)  # before functions get children of their own
    _rewrite_functions(modules, rewriter, is_done, changes, left, seen)
    return changes, left


def _reason(
    module: nn.Module, factor: tuple[float, float], calls: list[Step], rewriter: Rewriter, *, called: bool
) -> str:
    """Return why a module stays as it is; empty where it does not."""
    reason = reason_to_leave(module, factor)
    if reason:
        return reason
    if not called:
        return "it was not called on the probe (its weights may be used by a function)"
    if not isinstance(module, nn.Conv2d):
        return ""
    stride = round(factor[0])
    return _patch_reason(stride, calls, rewriter.options) if is_patch(module, stride) else ""


def _patch_reason(stride: int, calls: list[Step], options: Options) -> str:
    if options.patches == "half" and stride % 2:
        return f"its stride {stride} has no half; patches='dense' makes it cost {stride**2} times as much"
    if options.patches != "keep":
        return ""
    macs = sum(step.macs for step in calls)
    cost = f" ({macs / 1e6:.3g} M -> {macs * stride**2 / 1e6:.3g} M MACs)" if macs else ""
    return f"it cuts patches; patches='dense' makes it cost {stride**2} times as much{cost}, 'half' 4 times"


def _is_global(module: nn.Module, calls: list[Step]) -> bool:
    """Whether an adaptive pool gives one sample a map, which no sampling is left in."""
    adaptive = isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    return adaptive and all(set(step.sizes[1][-2:]) == {1} for step in calls)


def _rewrite_functions(
    modules: dict[str, nn.Module],
    rewriter: Rewriter,
    is_out: Callable[[str], bool],
    changes: list[Change],
    left: list[Left],
    seen: Seen | None,
) -> None:
    """Rewrite calls of functions that change the resolution, by the module whose forward makes them."""
    found: dict[str, list[Step]] = {}
    if seen is None:
        _list_functions(rewriter.flow, left)
        return
    for step in rewriter.flow.steps:
        factor = factor_of(step)
        if factor == (1, 1) or is_out(step.owner):
            continue
        if step.name.startswith("adaptive") and set(step.sizes[1][-2:]) == {1}:
            continue
        reason = reason_to_leave_call(step, factor)
        if step.name == "conv2d" and not reason and factor[0] >= PATCH:
            reason = _patch_reason(int(factor[0]), [step], rewriter.options)
        if not reason and hasattr(modules[step.owner], CALLS):
            reason = "an earlier retrofit changed other calls of this module; undo that first"
        if reason:
            item = Left(step.owner, reason, _shown(step), *_stride(factor))
            left += [] if item in left else [item]
        else:
            found.setdefault(step.owner, []).append(step)
    for owner in [*found, *(owner for owner in rewriter.activated if owner not in found)]:
        steps = found.get(owner, [])
        for step, where in zip(steps, rewrite_calls(modules[owner], owner, steps, rewriter), strict=True):
            stride, upward = _stride(factor_of(step))
            change = Change(owner, _shown(step), stride, where, upward)
            changes += [] if change in changes else [change]
    for module in modules.values():
        if hasattr(module, CALLS):
            shield(module, rewriter.edits)


def _stride(factor: tuple[float, float]) -> tuple[int, bool]:
    """Return what is subsampled or upsampled by, and whether it is upsampled."""
    upward = factor[0] < 1
    return round(1 / factor[0] if upward else factor[0]), upward


def _shown(step: Step) -> str:
    return "slice with a step" if step.name in (SLICE, "getitem") else step.name


def _list_functions(flow: Flow, left: list[Left]) -> None:
    """List functions that may change the resolution of a network that could not be run."""
    for step in flow.steps:
        if may_change(step):
            left.append(Left(step.owner, FUNCTION, _shown(step)))
    left += [
        Left(name, "its code cannot be traced in full: functions may be in it; give an example", "?")
        for name in flow.untraced
    ]


def _unknown(modules: dict[str, nn.Module], seen: Seen | None, is_out: Callable[[str], bool]) -> list[Left]:
    """List what changes the resolution in a way that is not known here."""
    if seen is None:
        return []
    steps = [step for step in seen.flow.steps if step.module is None and not is_out(step.owner)]
    found = [Left(step.owner, why, step.name) for step in steps if (why := unknown_change(step))]
    explained = {step.owner for step in steps if factor_of(step) != (1, 1) or unknown_change(step)}
    for name, (before, after) in seen.ends.items():
        module = modules[name]
        known = isinstance(module, LEAVES) or name in explained or is_out(name)
        if not known and not list(module.children()) and changes_size(before, after):
            why = f"a module that is not known here, from {before[-2:]} to {after[-2:]}"
            found.append(Left(name, why, type(module).__name__))
    return list(dict.fromkeys(found))


def _prove(model: nn.Module, probe: Probe, seen: Seen, rewriter: Rewriter) -> Seen:
    """Run the rewritten network, and hold it against what was seen before."""
    try:
        after = watch(model, probe)
    except ProbeError as error:
        raise ValueError(f"the rewritten network raises, in {error}; it is as before") from error.cause
    for layer, module, sizes in rewriter.watched:
        given_sizes = after.called.get(id(module))
        if not given_sizes:
            raise ValueError(
                f"{layer or '(root)'}: its blur did not run; the network is as before. Add it to skip"
            )
        if sizes is not None and [shape[-2:] for shape in given_sizes] != sizes:
            raise ValueError(
                f"{layer or '(root)'}: its output of {sizes[0]} would become {given_sizes[0][-2:]}; "
                "the network is as before. Add it to skip"
            )
    if after.shapes != seen.shapes:
        moved = [name for name, shapes in seen.sizes.items() if after.sizes.get(name) != shapes]
        culprit = next((name for name in moved if name and list(rewriter.modules[name].children())), "")
        raise ValueError(
            f"{culprit or '(root)'}: the network's output of {seen.shapes} would become {after.shapes}; "
            "it is as before"
        )
    return after
