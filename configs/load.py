"""From a command line to a checked `RunConfig`: packaged recipe or file, then dotted overrides."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import jsonargparse
import yaml

from steadypix.command import did_you_mean, first_option
from steadypix.configs import peers
from steadypix.configs.schema import RunConfig
from steadypix.errors import NOT_KEPT, InputError

FOLDER = Path(__file__).parent

MAX_BYTES = 1 << 16  # every option written out takes less than two thousand
MAX_DEPTH = 8
# Options that went, and what does their work. Files of earlier runs name them; there `false` is passed over.
GONE = {"train.tensorboard": "--train.tracker tensorboard"}
MAX_MESSAGE = 400  # characters; a message quotes what was given, whatever its length
_KINDS: dict[str, Any] = {
    name: kind for name, kind in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(kind)
}
# Sections and the options of each; no option is called as what jsonargparse would import or read instead.
SECTIONS = {name: {field.name for field in dataclasses.fields(kind)} for name, kind in _KINDS.items()}
# Options that are numbers.
NUMBERS = {
    f"{prefix}{name}"
    for prefix, kind in (("", RunConfig), *((f"{section}.", kind) for section, kind in _KINDS.items()))
    for name, hint in get_type_hints(kind).items()
    if {int, float} & {hint, *get_args(hint)}
}

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)


class _Parser(jsonargparse.ArgumentParser):
    """Reports a usage error as one line, without the usage block."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(_shorten(message) + self._hint(message)) from None

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        """Parse a file's text without the options that went."""
        return super().parse_string(_without_gone(content), *args, **kwargs)

    def _hint(self, message: str) -> str:
        """Say what an unknown option may have meant: one of pytorch-CycleGAN-and-pix2pix, or a slip."""
        unknown = first_option(message)
        if unknown is None:
            return ""
        if unknown.removeprefix("--") in GONE:
            return f"; what it did is now done by: {GONE[unknown.removeprefix('--')]}"
        theirs = peers.answer(unknown)
        if theirs:
            return f"; {unknown} of pytorch-CycleGAN-and-pix2pix is here: {theirs}"
        return did_you_mean(unknown, self._option_string_actions) + " (see --help)"


def packaged() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_config(name: str) -> Path:
    """Return the file of a packaged recipe's name, or of a path that ends in .yaml.

    Raises:
        InputError: if there is no such recipe or file.
    """
    if name.endswith((".yaml", ".yml")):
        check_file(Path(name))
        return Path(name)
    if name not in packaged():
        raise InputError(f"--config {name}: expected one of {', '.join(packaged())} or a .yaml file")
    return FOLDER / f"{name}.yaml"


def check_file(path: Path) -> None:
    """Raise InputError, naming the file, unless it holds a YAML mapping of sections and plain options.

    The parser behind this would import the module that a `class_path` names, and read the file that stands
    for a section, so neither gets there. An alias (`*name`) can unfold to any size: there are none.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such config file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: has {path.stat().st_size} bytes; expected {MAX_BYTES} at most")
    try:
        text = path.read_text(encoding="utf-8")
        _check_events(path, text)
        content = yaml.safe_load(text)
    except InputError:
        raise
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: a date or number that cannot be
        raise InputError(f"{path}: is no YAML ({_shorten(str(error))})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of options, got {type(content).__name__}")
    for key, value in content.items():
        _check_option(path, key, value)


def _check_events(path: Path, text: str) -> None:
    """Refuse what grows or digs while it is put together, before it is."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(
                f"{path}: holds the alias *{_shorten(str(event.anchor))}; expected values written out"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise InputError(f"{path}: is nested too deep; expected sections of options")


def _check_option(path: Path, key: object, value: object) -> None:
    shown = _shorten(str(key))
    if key in SECTIONS:
        if not isinstance(value, dict):
            raise InputError(f"{path}: {key}: expected a mapping of options, got {type(value).__name__}")
        for inner, setting in value.items():
            if f"{key}.{inner}" in GONE:
                _check_gone(path, f"{key}.{inner}", setting)
            elif inner not in SECTIONS[str(key)]:
                known = ", ".join(sorted(SECTIONS[str(key)]))
                raise InputError(
                    f"{path}: {key}.{_shorten(str(inner))}: no such option; expected one of {known}"
                )
            _check_plain(path, f"{key}.{inner}", setting)
    elif key == "config" or not (isinstance(key, str) and key.isidentifier()):
        raise InputError(f"{path}: {shown}: no such option")
    else:  # of the run, or of the command, such as `out`: the parser knows
        _check_plain(path, shown, value)


def _check_digits(where: str, name: str, value: object) -> None:
    """Refuse numbers in the digits of other alphabets, which Python reads and nobody expects."""
    if name in NUMBERS and isinstance(value, str) and not value.isascii():
        raise InputError(f"{where}{name}: expected a number in the digits 0 to 9, got {_shorten(value)!r}")


def _check_gone(path: Path, name: str, value: object) -> None:
    if value is not False:
        raise InputError(f"{path}: {name}: no such option; what it did is now done by {GONE[name]}")


def _without_gone(text: str) -> str:
    """Return a checked file's text without the options that went, and otherwise as it stands."""
    content = yaml.safe_load(text)
    named = [name.split(".") for name in GONE]
    found = [(key, inner) for key, inner in named if inner in content.get(key, {})]
    for key, inner in found:
        del content[key][inner]
    return yaml.safe_dump(content, sort_keys=False) if found else text


def _check_plain(path: Path, name: str, value: object) -> None:
    for part in value if isinstance(value, list) else [value]:
        _check_digits(f"{path}: ", name, part)
        finite = not isinstance(part, float) or math.isfinite(part)
        if not finite or not isinstance(part, str | int | float | None):
            raise InputError(f"{path}: {name}: expected a plain value, got {_shorten(str(part))}")


def build_parser(prog: str, description: str) -> jsonargparse.ArgumentParser:
    """Return a parser of every `RunConfig` field as a dotted option, and of --config."""
    parser = _Parser(prog=prog, description=description, default_env=False, allow_abbrev=False)
    parser.add_argument(
        "--config",
        metavar="NAME",
        action="config",
        help=f"{'|'.join(packaged())} or FILE.yaml; later options win",
    )
    parser.add_class_arguments(RunConfig)
    return parser


def parse(parser: jsonargparse.ArgumentParser, argv: Sequence[str]) -> tuple[RunConfig, Any]:
    """Parse a command line.

    Returns:
        The checked configuration, and the namespace with what else the parser knows.

    Raises:
        InputError: one line naming the key or value and what was expected.
    """
    try:
        namespace = parser.parse_args(_resolve_names(argv))
        built = parser.instantiate(namespace)
        fields = {f.name: built[f.name] for f in dataclasses.fields(RunConfig)}
        return RunConfig(**fields), built
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(_shorten(str(error))) from None


def to_yaml(config: RunConfig) -> str:
    """Return the configuration as YAML that `--config FILE` reads back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def check_written(path: Path, config: RunConfig) -> None:
    """Read a file that `to_yaml` was written to.

    Raises:
        InputError: if `--config` would refuse the file, or it does not hold this configuration.
    """
    check_file(path)
    if yaml.safe_load(path.read_text(encoding="utf-8")) != dataclasses.asdict(config):
        raise InputError(f"{path}: {NOT_KEPT}")


def _resolve_names(argv: Sequence[str]) -> list[str]:
    resolved = list(argv)
    for place, word in enumerate(resolved):
        option = word.partition("=")[0].removeprefix("--")
        if word.startswith("--") and (option in SECTIONS or option.endswith("class_path")):
            raise InputError(f"--{option}: is no option; expected one of its own, such as --generator.ngf")
        following = resolved[place + 1] if place + 1 < len(resolved) else ""
        _check_digits("--", option, word.partition("=")[2] if "=" in word else following)
        if word == "--config" and place + 1 < len(resolved):
            resolved[place + 1] = str(find_config(resolved[place + 1]))
        elif word.startswith("--config="):
            resolved[place] = f"--config={find_config(word.partition('=')[2])}"
    return resolved


def _shorten(message: str) -> str:
    """Turn the parser's message into one line in the words of its user."""
    line = " ".join(message.split())
    if len(line) > MAX_MESSAGE:
        line = f"{line[:MAX_MESSAGE]} ..."
    line = re.sub(r'Parser key "([^"]+)":', r"\1:", line)
    line = re.sub(r"Expected a (?:typing\.)?Literal\[([^\]]*)\]", r"expected one of \1", line)
    line = re.sub(r"Expected a <class '(\w+)'>", r"expected \1", line)
    return line.replace(". Got value:", ", got")
