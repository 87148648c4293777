"""From a command line to a checked `RunConfig`: packaged recipe or file, then dotted overrides."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml

from configs.schema import RunConfig

FOLDER = Path(__file__).parent

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)


class ConfigError(ValueError):
    """A configuration that cannot be used: unknown key, wrong type, missing file, clash with a run."""

    exit_code = 2


class _Parser(jsonargparse.ArgumentParser):
    """Reports a usage error as one line, without the usage block."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(_shorten(message)) from None


def packaged() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_config(name: str) -> Path:
    """Return the file of a packaged recipe's name, or of a path that ends in .yaml.

    Raises:
        ConfigError: if there is no such recipe or file.
    """
    if name.endswith((".yaml", ".yml")):
        check_file(Path(name))
        return Path(name)
    if name not in packaged():
        raise ConfigError(f"--config {name}: expected one of {', '.join(packaged())} or a .yaml file")
    return FOLDER / f"{name}.yaml"


def check_file(path: Path) -> None:
    """Raise ConfigError, naming the file, unless it holds a YAML mapping."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is no YAML ({_shorten(str(error))})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of options, got {type(content).__name__}")


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
        ConfigError: one line naming the key or value and what was expected.
    """
    try:
        namespace = parser.parse_args(_resolve_names(argv))
        built = parser.instantiate(namespace)
        fields = {f.name: built[f.name] for f in dataclasses.fields(RunConfig)}
        return RunConfig(**fields), built
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(_shorten(str(error))) from None


def to_yaml(config: RunConfig) -> str:
    """Return the configuration as YAML that `--config FILE` reads back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def _resolve_names(argv: Sequence[str]) -> list[str]:
    resolved = list(argv)
    for place, word in enumerate(resolved):
        if word == "--config" and place + 1 < len(resolved):
            resolved[place + 1] = str(find_config(resolved[place + 1]))
        elif word.startswith("--config="):
            resolved[place] = f"--config={find_config(word.partition('=')[2])}"
    return resolved


def _shorten(message: str) -> str:
    """Turn the parser's message into one line in the words of its user."""
    line = " ".join(message.split())
    line = re.sub(r'Parser key "([^"]+)":', r"\1:", line)
    line = re.sub(r"Expected a (?:typing\.)?Literal\[([^\]]*)\]", r"expected one of \1", line)
    line = re.sub(r"Expected a <class '(\w+)'>", r"expected \1", line)
    return line.replace(". Got value:", ", got")
