"""Edits of a network that can be taken back: attributes set, modules added, hooks registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

_ABSENT = object()


@dataclass(frozen=True)
class _Set:
    module: nn.Module
    name: str
    before: Any
    value: Any

    def take_back(self) -> None:
        if self.before is _ABSENT:
            delattr(self.module, self.name)
        else:
            setattr(self.module, self.name, self.before)


class Edits:
    """What was done to a network, in order, so that `undo` brings back what was there before.

    Parameters and buffers are never edited, so training done in between is kept.
    """

    def __init__(self) -> None:
        self._done: list[Any] = []  # `_Set`, or the handle of a hook

    def set(self, module: nn.Module, name: str, value: Any) -> None:
        """Set an attribute, or put a module under a name."""
        self._done.append(_Set(module, name, getattr(module, name, _ABSENT), value))
        setattr(module, name, value)

    def hook_before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Register a hook that is called before a module's forward pass."""
        self._done.append(module.register_forward_pre_hook(hook))

    def hook_after(self, module: nn.Module, hook: Callable[..., Any], *, always: bool = False) -> None:
        """Register a hook that is called after a module's forward pass; `always`: also where that raises."""
        self._done.append(module.register_forward_hook(hook, always_call=always))

    def undo(self) -> None:
        """Take everything back, the last edit first; a second call does nothing.

        Raises:
            RuntimeError: if what was set has been changed since, such as by a later retrofit, which is to be
                taken back first. Nothing is taken back then.
        """
        latest = {(id(edit.module), edit.name): edit for edit in self._done if isinstance(edit, _Set)}
        for edit in latest.values():
            if getattr(edit.module, edit.name, _ABSENT) is not edit.value:
                kind = type(edit.module).__name__
                raise RuntimeError(
                    f"{edit.name} of a {kind} was changed since; undo the latest retrofit first"
                )
        while self._done:
            edit = self._done.pop()
            edit.take_back() if isinstance(edit, _Set) else edit.remove()
