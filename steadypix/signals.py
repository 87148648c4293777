"""SIGTERM and Ctrl-C while a command runs: raised where the program stands, and never lost."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
LAST = 3  # the signal that ends the process as it is
PROGRAMS: tuple[str, ...] = (
    "steadypix",
    "train_pix2pix",
    "train_pix2pix.py",
    "generate",
    "steadypix_data",
    "eval_stability",
)
PROGRAMS += ("eval_features", "eval_consistency", "eval_classifiers", "eval_sequence")
_END_S = 5.0  # until a killed process is gone
_AGAIN_S = 0.01


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that `finally` blocks and context managers run."""


class Signals:
    """What a command does with SIGTERM and Ctrl-C, as a context.

    The first one raises Terminated or KeyboardInterrupt. So does the second, where the program hangs in what
    the first made it do; the third ends the process as it is. Outside of the main thread nothing is changed.

    Args:
        last: the process ends with this command: a Ctrl-C behind it ends it without a traceback.

    Attributes:
        over: the command has said how it ended, and raises nothing any more.
    """

    def __init__(self, *, last: bool) -> None:
        self.over = False
        self._last = last
        self._count = 0
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> Signals:
        self._hook = sys.unraisablehook
        if threading.current_thread() is threading.main_thread():
            # A shell without job control has background commands ignore Ctrl-C; that stays.
            wanted = [signal.SIGTERM]
            if signal.getsignal(signal.SIGINT) in _DEFAULTS or _is_ours(signal.SIGINT):
                wanted.append(signal.SIGINT)
            self._previous = {number: signal.signal(number, self._handle) for number in wanted}
            sys.unraisablehook = self._ignored
        return self

    def __exit__(self, *exception: object) -> None:
        if self._previous:
            sys.unraisablehook = self._hook
        for number, handler in self._previous.items():
            ends = self._last and handler in _DEFAULTS
            signal.signal(number, signal.SIG_DFL if ends else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count >= LAST:
            os._exit(128 + number)
        if not self.over:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def _ignored(self, unraisable: Any) -> None:
        """Raise once more what came in a place, such as `__del__`, that lets no exception out."""
        kind = unraisable.exc_type
        if self.over or not issubclass(kind, KeyboardInterrupt | Terminated):
            self._hook(unraisable)
            return
        self._count -= 1
        number = signal.SIGINT if issubclass(kind, KeyboardInterrupt) else signal.SIGTERM
        threading.Timer(_AGAIN_S, self._send, [number]).start()

    def _send(self, number: int) -> None:
        """Send a signal to the main thread, out of whatever it waits for."""
        main = threading.main_thread().ident
        if self.over or main is None:
            return
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, number)
        else:  # Windows
            _thread.interrupt_main(signal.Signals(number))


def quiet_start() -> None:
    """Let a Ctrl-C end one of our commands without a traceback while its modules are imported.

    Called before anything else is imported. From `main` on Signals does that. Programs that only use the
    library are left alone.
    """
    if sys.argv[0] == "-m":  # a module of this package is on its way
        started = sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]
        ours = started.removeprefix("-m").partition(".")[0] == "steadypix"
    else:
        ours = _is_our_script(sys.argv[0])
    in_main = threading.current_thread() is threading.main_thread()
    if ours and in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _is_our_script(path: str) -> bool:
    """Whether a program is one of ours: another project may have a `generate` of its own."""
    name = os.path.basename(path)
    if name.removesuffix(".exe") not in PROGRAMS:
        return False
    try:
        with open(path, "rb") as script:
            begins = script.read(4096)
    except OSError:
        return False
    return name.endswith(".exe") or b"from steadypix." in begins or b"from train_pix2pix " in begins


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process as a command ends that is interrupted."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


_DEFAULTS: tuple[Handler, ...] = (signal.default_int_handler, _leave)


def _is_ours(number: int) -> bool:
    return isinstance(getattr(signal.getsignal(number), "__self__", None), Signals)


def workers() -> list[BaseProcess]:
    """Return the processes that this one has started by `multiprocessing` and that still run."""
    module: Any = sys.modules.get("multiprocessing")
    return module.active_children() if module else []


def end_workers(keep: Collection[BaseProcess] = ()) -> None:
    """End the processes that read pictures for this one, which leave SIGTERM and Ctrl-C to it.

    They are not asked: the queues that would tell them may be in any state when a signal has come. Nor would
    they end by being asked, so that one whose reader was given up is waited for without end.

    Args:
        keep: processes of others.
    """
    children = [child for child in workers() if child not in keep]
    if not children:
        return
    # torch raises of every worker that is killed; here it is meant.
    raising = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    in_main = threading.current_thread() is threading.main_thread()
    if raising is not None and in_main:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in children:
        child.kill()
    for child in children:
        child.join(_END_S)
    if raising is not None and in_main:
        signal.signal(signal.SIGCHLD, raising)
