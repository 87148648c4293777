"""What every command takes, read from its real parser: the page of options, and checks of command lines."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jsonargparse

from steadypix.main import COMMANDS, SHORT_NAMES

MODULES = {module: name for name, (module, _, _) in COMMANDS.items()}
# Ways to start a command other than by its name.
STARTERS = ("torchrun", "python", "python3", "srun", "nohup")


class _Stop(BaseException):
    """Leaves a command from inside of its parser, past every handler of the command's own."""

    def __init__(self, found: Any) -> None:
        self.found = found


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser that `steadypix NAME --help` would print, without running anything.

    Args:
        name: a short name, such as `eval`.
    """

    def stop(parser: argparse.ArgumentParser, file: object = None) -> None:
        raise _Stop(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", stop):
        return _run_until_stopped(name, ["--help"])


def parse(name: str, words: Sequence[str]) -> Any:
    """Return what the command's own parser makes of `words`; the command itself does not run.

    Raises:
        ValueError: if the parser refuses them, with its message.
    """
    with contextlib.ExitStack() as patches:
        for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
            for method in ("parse_args", "parse_intermixed_args"):
                patches.enter_context(mock.patch.object(parser, method, _stopping(parser, method)))
        return _run_until_stopped(name, words)


def _stopping(parser: Any, method: str) -> Any:
    original = getattr(parser, method)

    def parse_args(*args: Any, **options: Any) -> None:
        raise _Stop(original(*args, **options))

    return parse_args


def _run_until_stopped(name: str, words: Sequence[str]) -> Any:
    main = importlib.import_module(COMMANDS[name][0]).main
    # Undecorated: an error is wanted as it is, not as a line on stderr.
    try:
        main.__wrapped__(list(words))
    except _Stop as stop:
        return stop.found
    raise RuntimeError(f"steadypix {name}: ended without its parser")


def command_lines(text: str) -> Iterator[str]:
    """Yield the lines of a shell block, continued ones joined, comments and blank ones left out."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line.strip(), comments=True)
        if words:
            yield shlex.join(words)


def split_command(line: str) -> tuple[str, list[str]] | None:
    """Return the short name and the arguments of the command in a line; None if it calls none of ours.

    `eval_stability X`, `steadypix eval X`, `.venv/bin/eval_stability X`, `torchrun ... -m MODULE X`,
    `torchrun ... train_pix2pix.py X` and `VARIABLE=1 eval_stability X` are the same command. What stands for
    a repetition (`[RUN ...]`) is left out.
    """
    words = [word.removeprefix("[").removesuffix("]") for word in shlex.split(line)]
    words = [word for word in words if word != "..."]
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if not words:
        return None
    first = words[0].rpartition("/")[2]
    if first in STARTERS:
        for place, word in enumerate(words[1:], start=1):
            name = MODULES.get(word.rpartition("/")[2].removesuffix(".py"))
            if name is not None:
                return name, words[place + 1 :]
        return None
    if first == "steadypix" and len(words) > 1 and not words[1].startswith("-"):
        name = SHORT_NAMES.get(words[1], words[1])
        return (name, words[2:]) if name in COMMANDS else (words[1], words[2:])
    name = SHORT_NAMES.get(first)
    return None if name is None else (name, words[1:])


# ---- the page ----------------------------------------------------------------------------------------


def groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Yield the groups of options that a user may give: each title ("" for the first), and its options."""
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help != argparse.SUPPRESS
            and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
            and action.dest != "help"
        ]
        # Of jsonargparse the options that stand for a whole section, or print the configuration's help.
        actions = [action for action in actions if not type(action).__name__.startswith("_ActionConfigLoad")]
        if actions:
            plain = (group.title or "") in ("positional arguments", "options")
            yield "" if plain else str(group.title), actions


def verbs(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return the subcommands of a parser: by name their line of help, and their own parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (helps.get(name, ""), inner) for name, inner in action.choices.items()}
    return {}


def invocation(action: argparse.Action) -> str:
    """Return how an option is written: `--shifts SHIFTS`, `CHECKPOINT ...`."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        many = " ..." if action.nargs in ("*", "+") else ""
        return formatter._metavar_formatter(action, action.dest)(1)[0] + many
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    name = action.dest.rpartition(".")[2].upper()
    value = formatter._format_args(action, name).replace("\b", "")
    return ", ".join(action.option_strings) + ("" if value.startswith("[=") else " ") + value


def explanation(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return an option's line of help with its default, if it has one to name."""
    formatter = parser._get_formatter()
    text = " ".join(formatter._expand_help(action).split()) if action.help else ""
    text = re.sub(r"\s*\((?:type|required|default: null|default: \[\])[^()]*\)$", "", text)
    named = "default" in text or action.default in (None, False, argparse.SUPPRESS, [])
    if action.option_strings and action.nargs != 0 and not named:
        text += f" (default: {action.default})"
    return text.strip()


def setup(app: Any) -> None:
    """Give Sphinx the directive `command-options`, which writes a section for every command."""
    from docutils import nodes
    from docutils.parsers.rst import Directive

    def prose(text: str) -> list[nodes.Node]:
        text = re.sub(r"(?<![`\w-])(--[a-z][\w.-]*\w)", r"`\1`", text)
        parts = re.split(r"`([^`]*)`", text)
        return [nodes.literal(text=p) if n % 2 else nodes.Text(p) for n, p in enumerate(parts) if p]

    def options(parser: argparse.ArgumentParser) -> Iterator[nodes.Node]:
        for title, actions in groups(parser):
            if title:
                yield nodes.paragraph("", "", nodes.strong(text=title), classes=["option-group"])
            entries = nodes.definition_list(classes=["command-options"])
            for action in actions:
                term = nodes.term("", "", nodes.literal(text=invocation(action)))
                text = nodes.paragraph("", "", *prose(explanation(parser, action)))
                entries += nodes.definition_list_item("", term, nodes.definition("", text))
            yield entries

    def section(title: str, *content: nodes.Node) -> nodes.section:
        made = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
        made += nodes.title("", "", nodes.literal(text=title))
        made.extend(content)
        return made

    class CommandOptions(Directive):
        def run(self) -> list[nodes.Node]:
            made: list[nodes.Node] = []
            for name, (_, script, what) in COMMANDS.items():
                parser = parser_of(name)
                about = prose(what[0].upper() + what[1:] + ".")
                if script and script != name:
                    about += prose(f" The same: `{script}`.")
                of_command = section(f"steadypix {name}", nodes.paragraph("", "", *about), *options(parser))
                for verb, (line, inner) in verbs(parser).items():
                    paragraph = nodes.paragraph("", "", *prose(line[:1].upper() + line[1:] + "."))
                    of_command += section(f"steadypix {name} {verb}", paragraph, *options(inner))
                made.append(of_command)
            return made

    app.add_directive("command-options", CommandOptions)
