"""README and docs: commands take what is shown, links lead somewhere, code runs, the site is built."""

from __future__ import annotations

import argparse
import html.parser
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import steadypix
from docs.site.commands import command_lines, groups, invocation, parse, parser_of, split_command, verbs
from docs.site.notebooks import cells, to_markdown
from steadypix import load_generator
from steadypix.configs.load import SECTIONS
from steadypix.errors import InputError
from steadypix.eval.measure.options import read_options
from steadypix.main import COMMANDS
from tests.cli import TINY
from tests.conftest import REPOSITORY, tiny_config, write_checkpoint

DOCS = REPOSITORY / "docs"
NOTEBOOK = DOCS / "notebooks" / "measure-your-own-generator.ipynb"
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *DOCS.rglob("*.md"),
        REPOSITORY / "benchmarks" / "README.md",
        REPOSITORY / "checkpoints" / "MODEL_CARD.md",
    ]
)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FENCE = re.compile(
    r"^(?P<fence>```+|~~~+)[ ]*(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ ]*$", re.M | re.S
)
SHELL = ("", "sh", "bash", "shell", "console")
# Blocks of the changelog tell of earlier versions' commands.
TOLD = REPOSITORY / "CHANGELOG.md"


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page, each as (kind, text)."""
    return [(found["kind"], found["text"]) for found in FENCE.finditer(text)]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def calls(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The calls of our commands in lines of a shell, each as (short name, words)."""
    for line in lines:
        for part in re.split(r"\s(?:&&|\|\||;|\|)\s", line):
            found = split_command(part)
            if found is not None:
                yield found


def commands_of(page: Path) -> list[tuple[str, list[str]]]:
    """Every call in the blocks of a page."""
    found = blocks(page.read_text(encoding="utf-8"))
    return list(calls([line for kind, block in found if kind in SHELL for line in command_lines(block)]))


def mentions_of(page: Path) -> list[tuple[str, list[str]]]:
    """Every call with options in the text of a page; they may be cut short, as in `eval_stability --pan`."""
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page.read_text(encoding="utf-8")))
    return list(calls([" ".join(span.split()) for span in spans if " --" in span and "'" not in span]))


def options_of(name: str) -> set[str]:
    """Every option of a command and of its subcommands that its help tells of."""
    parser = parser_of(name)
    parsers = [parser, *(inner for _, inner in verbs(parser).values())]
    actions = [action for one in parsers for action in one._actions if action.help != argparse.SUPPRESS]
    return {option for action in actions for option in action.option_strings}


# ---- commands ------------------------------------------------------------------------------------------


def refusal(name: str, words: list[str]) -> str | None:
    """What a command has against its words; None if it takes them. Files are not there, and need not be."""
    if name not in COMMANDS:
        return "no such command"
    try:
        options = parse(name, words)
        if name == "eval":
            read_options(options)
    except InputError as error:
        return None if "no such file" in str(error) else str(error)
    except SystemExit as error:  # --help, --version
        return None if error.code == 0 else f"exit code {error.code}"
    return None


@pytest.mark.parametrize("document", [page for page in PAGES if page != TOLD], ids=name_of)
def test_every_command_line_is_taken_by_its_command(document: Path) -> None:
    found = {f"{name} {' '.join(words)}": refusal(name, words) for name, words in commands_of(document)}
    assert not {line: why for line, why in found.items() if why}
    for name, words in mentions_of(document):
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options_of(name), (name, words)


def test_the_checks_see_commands_and_refuse_wrong_ones() -> None:
    line = "eval_stability RUN [RUN ...] --shifts -4..4 --map  # a map"
    (words,) = command_lines(f"# nothing\n\n{line}\n")
    assert split_command(words) == ("eval", ["RUN", "RUN", "--shifts", "-4..4", "--map"])
    for other in ("steadypix eval X", ".venv/bin/eval_stability X", "N=1 eval_stability X"):
        assert split_command(other) == ("eval", ["X"])
    assert split_command("torchrun --nproc_per_node=4 -m steadypix.eval.eval_stability X") == ("eval", ["X"])
    assert split_command("torchrun --standalone train_pix2pix.py --config demo")[0] == "train"
    assert split_command("pip install .") is None
    (joined,) = command_lines("generate A B \\\n    --out C\n")
    assert split_command(joined) == ("generate", ["A", "B", "--out", "C"])
    for name, words in (
        ("eval", ["--shfits", "1"]),
        ("train", ["--generator.nfg", "3"]),
        ("generate", ["A"]),
    ):
        with pytest.raises(InputError):
            parse(name, words)
    assert parse("train", ["--config", "demo", "--generator.ngf", "3"]).generator.ngf == 3
    assert sum(1 for page in PAGES if page != TOLD for _ in commands_of(page)) > 60


def test_the_page_of_options_has_every_option_of_every_command() -> None:
    for name in COMMANDS:
        parser = parser_of(name)
        parsers = [parser, *(inner for _, inner in verbs(parser).values())]
        written = [invocation(a) for one in parsers for _, actions in groups(one) for a in actions]
        shown = {word.rstrip(",").partition("[")[0] for line in written for word in line.split()}
        known = {option for option in options_of(name) if option.startswith("--")} - {"--help"}
        missing = {option for option in known if option not in shown and not option.endswith(".help")}
        # Of train_pix2pix the sections, which stand for all of their options.
        assert missing <= {f"--{section}" for section in SECTIONS}, (name, missing)


# ---- links -----------------------------------------------------------------------------------------------


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    found: dict[str, int] = {}
    every = set()
    for title in re.findall(r"^#{1,6}[ ]+(.+?)[ ]*#*$", prose(page.read_text(encoding="utf-8")), re.M):
        name = anchor(title)
        number = found.get(name, 0)
        found[name] = number + 1
        every.add(f"{name}-{number}" if number else name)
    return every


def links(text: str) -> list[str]:
    """Where the links and pictures of a page lead, code left out."""
    plain = re.sub(r"`[^`]*`", "", prose(text))
    inline = re.findall(r"\]\(<?([^()\s>]+(?:\([^()]*\))?)>?(?:\s+\"[^\"]*\")?\)", plain)
    listed = re.findall(r"^\[[^\]]+\]:\s+(\S+)", plain, re.M)
    tags = re.findall(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"([^\"\s]+)", plain)
    return inline + listed + tags


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere, or out of the checkout."""
    wrong = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(REPOSITORY)
        if not there or (place and target.suffix == ".md" and place not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("document", [*PAGES, NOTEBOOK], ids=name_of)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not broken(document, to_markdown(text) if document == NOTEBOOK else text)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    text = "[a](start.md) ![b](no.png) [c](training.md#on-a-gpu) [d](training.md#no)\n`[e](no.md)`"
    assert broken(DOCS / "index.md", text) == ["no.png", "training.md#no"]
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three!\n\n## Again\n\n```\n# no heading\n```\n\n## Again\n")
    assert anchors(page) == {"one-two-three", "again", "again-1"}


def test_every_picture_of_results_is_in_the_gallery() -> None:
    shown = {(DOCS / link).resolve() for link in links((DOCS / "gallery.md").read_text(encoding="utf-8"))}
    assert set((DOCS / "results").rglob("*.png")) <= shown


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"::\s+steadypix\.(\w+)", text)) == sorted(steadypix.__all__)


def test_citation_and_project_say_the_same() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    text = (DOCS / "citing.md").read_text(encoding="utf-8")
    assert citation["version"] == PROJECT["version"]
    assert f"version = {{{PROJECT['version']}}}" in text
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "title", "message", "authors"} <= set(citation)
    for reference in citation["references"]:
        assert reference["title"] in text
        assert str(reference["year"]) in text
        for person in reference["authors"]:
            assert f"{person['family-names']}, {person['given-names']}" in text


# ---- code that runs --------------------------------------------------------------------------------------

RUNNING = [
    DOCS / "measuring.md",
    DOCS / "tutorials" / "own-network.md",
    DOCS / "tutorials" / "retrofit-and-fine-tune.md",
]


@pytest.mark.slow
@pytest.mark.parametrize("document", [*RUNNING, NOTEBOOK], ids=name_of)
def test_python_of_a_page_runs_in_order(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if document == NOTEBOOK:
        code = [source for kind, source in cells(document) if kind == "code"]
    else:
        code = [block for kind, block in blocks(document.read_text(encoding="utf-8")) if kind == "python"]
    assert code
    names: dict[str, object] = {"__name__": "page"}
    for source in code:
        exec(compile(source, name_of(document), "exec"), names)
    out = capsys.readouterr().out
    if document == NOTEBOOK:
        stability, detail = names["stability"], names["detail"]
        assert isinstance(stability, dict)
        assert isinstance(detail, dict)
        assert stability["facades-steady"] > stability["facades-strided"] + 10
        assert detail["facades-blur"] < 0.8 < detail["facades-steady"]
        assert "all blurs ran" in out
    else:
        assert out


def test_the_notebook_is_committed_without_outputs() -> None:
    import json

    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")


LITTLE_TRAINING = [
    *TINY,
    "--discriminator.ndf=4",
    "--discriminator.n_layers=1",
    "--generator.head=0",
    "--train.epochs=1",
    "--train.val_every=0",
    "--train.sample_every=0",
    "--device=cpu",
]
LITTLE_EVALUATION = ["--device", "cpu", "--limit", "1", "--margins", "0", "--shifts", "0..1"]


@pytest.mark.slow
def test_the_tutorial_on_own_pictures_command_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is written, with less of everything at the end of each line."""
    monkeypatch.chdir(tmp_path)
    less = {"data": [], "train": LITTLE_TRAINING, "eval": LITTLE_EVALUATION, "generate": ["--device", "cpu"]}
    text = (DOCS / "tutorials" / "own-pictures.md").read_text(encoding="utf-8")
    ran = []
    for line in (line for kind, block in blocks(text) if kind == "" for line in command_lines(block)):
        name, words = split_command(line) or ("", [])
        if name == "export":  # takes ten seconds; tests/eval/generators has it
            continue
        if words[:1] == ["synthetic"]:
            words += ["--train", "2", "--test", "1", "--size", "48"]
        if name == "generate":  # the page's pictures lie in the other layout
            with Image.open(next(Path("pairs/test").iterdir())) as pair:
                right = np.asarray(pair)[:, pair.width // 2 :]
            Path("pairs/testB").mkdir()
            Image.fromarray(right).save("pairs/testB/1.png")
        module = importlib.import_module(COMMANDS[name][0])
        assert module.main([*words, *less[name]]) == 0, (line, capsys.readouterr().err)
        ran.append(name)
    assert ran == ["data", "data", "train", "train", "eval", "generate"]
    assert (tmp_path / "made" / "1.png").is_file()
    assert (tmp_path / "results" / "report.html").is_file()


@pytest.mark.slow
def test_the_tutorial_on_retrofitting_command_by_command(
    pair_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pair_folder.parent)  # the folder is called pairs
    Path("checkpoints/plain").mkdir(parents=True)
    write_checkpoint(
        Path("checkpoints/plain/generator.safetensors"), tiny_config(Path("pairs"), sampling="strided")
    )
    little = ["--device", "cpu", "--limit", "1", "--steps", "2"]
    less = {"retrofit": little, "eval": LITTLE_EVALUATION, "train": LITTLE_TRAINING}
    text = (DOCS / "tutorials" / "retrofit-and-fine-tune.md").read_text(encoding="utf-8")
    ran = []
    for line in (line for kind, block in blocks(text) if kind == "" for line in command_lines(block)):
        name, words = split_command(line) or ("", [])
        module = importlib.import_module(COMMANDS[name][0])
        assert module.main([*words, *less[name]]) == 0, (line, capsys.readouterr().err)
        ran.append(name)
    assert ran == ["retrofit", "eval", "train"]
    found = load_generator("checkpoints/steadier").config["generator"]
    assert (found["sampling"], found["texture"]) == ("blur_late", "anchored")
    assert load_generator("checkpoints/blurred").config["generator"]["sampling"] == "blur"


# ---- the site --------------------------------------------------------------------------------------------


class Loaded(html.parser.HTMLParser):
    """What a page loads by itself: scripts, styles, pictures, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found += [values[name] or "" for name in ("src", "srcset") if name in values]
        elif tag == "link" and values.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.found.append(values.get("href") or "")


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for module in ("sphinx", "furo", "myst_parser"):
        if importlib.util.find_spec(module) is None:
            pytest.skip("needs the extra `docs` (pip install -e '.[docs]'); `make docs` brings it")
    site = tmp_path / "site"
    words = ["-q", "-W", "--keep-going", "-c", "docs", "-d", str(tmp_path / "doctrees"), ".", str(site)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = sorted(site.rglob("*.html"))
    assert site / "docs" / "notebooks" / "measure-your-own-generator.html" in pages
    for page in pages:
        reader = Loaded()
        reader.feed(page.read_text(encoding="utf-8"))
        for source in reader.found:
            assert not re.match(r"(https?:)?//", source), (page, source)
            if not source.startswith("data:"):
                assert (page.parent / source.partition("?")[0]).is_file(), (page, source)
    for style in site.rglob("*.css"):
        outside = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", style.read_text("utf-8"))
        assert not outside, (style, outside)
    options = (site / "docs" / "reference" / "commands.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f'id="steadypix-{name}"' in options
    assert "--generator.sampling" in options


def test_badges_say_what_the_project_file_says() -> None:
    whole = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (torch_least,) = [each.split(">=")[1] for each in PROJECT["dependencies"] if each.startswith("torch>=")]
    said = {
        "python": PROJECT["requires-python"].removeprefix(">=") + "+",
        "torch": f"{torch_least}+",
        "license": PROJECT["license"],
        "types": "mypy" if whole["tool"]["mypy"]["disallow_untyped_defs"] else "unchecked",
    }
    assert {path.stem for path in (DOCS / "badges").iterdir()} == set(said)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name, value in said.items():
        badge = (DOCS / "badges" / f"{name}.svg").read_text(encoding="utf-8")
        assert f"<title>{name}: {value}</title>" in badge
        assert re.findall(r"<text [^>]*>([^<]*)</text>", badge) == [name, value]
        assert f"docs/badges/{name}.svg" in readme
