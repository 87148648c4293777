"""The rules of the house that code can check, by folder: who imports whom, no circles, nothing heavy."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import steadypix
from tests.conftest import REPOSITORY

# From the ground up. A folder may import itself and what lies in lower rows, never a neighbour of its row.
LAYERS = (
    ("steadypix",),
    ("gen", "data", "configs"),
    ("eval",),
    ("checkpoints",),
    ("train_pix2pix",),
    ("reproduce", "benchmarks", "soak"),
)
ROW_OF = {folder: row for row, folders in enumerate(LAYERS) for folder in folders}
# These lie in the one package `steadypix` once they are installed, and are imported by that name only.
INSIDE = ("gen", "data", "eval", "configs", "checkpoints")
DRAWING = ("steadypix.eval.charts", "steadypix.eval.report")
MOST_FILES = 15
# These call commands as a user does, to time them or to feed them damaged files; nothing is built on them.
MAY_IMPORT_COMMANDS = ("benchmarks", "soak")


def sources(root: Path = REPOSITORY) -> list[Path]:
    """Every Python file but the tests; runs in checkpoints/ hold none."""
    files = [file for folder in ROW_OF for file in sorted((root / folder).rglob("*.py"))]
    return [*files, *root.glob("train_pix2pix.py")]


def module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return f"steadypix.{name}" if parts[0] in INSIDE else name


def folder_of(module: str) -> str:
    """The folder at the top level of the checkout: `gen` of `steadypix.gen.layers.filters`."""
    first, _, rest = module.partition(".")
    second = rest.partition(".")[0]
    return second if first == "steadypix" and second in INSIDE else first


@dataclass
class Module:
    """What a file imports, each as (module, name or "").

    Imports below `if TYPE_CHECKING` stand apart: they do not happen when the code runs.
    """

    file: Path
    at_once: list[tuple[str, str]] = field(default_factory=list)
    in_functions: list[tuple[str, str]] = field(default_factory=list)
    for_types: list[tuple[str, str]] = field(default_factory=list)
    is_command: bool = False

    @property
    def imports(self) -> list[tuple[str, str]]:
        return self.at_once + self.in_functions


def read_module(file: Path) -> Module:
    found = Module(file)

    def visit(node: ast.AST, into: list[tuple[str, str]]) -> None:
        if isinstance(node, ast.Import):
            into += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            into += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.FunctionDef) and node.name == "main":
            found.is_command |= any(
                isinstance(mark, ast.Call) and dotted(mark.func) == "command" for mark in node.decorator_list
            )
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, found.for_types)
            for child in node.orelse:
                visit(child, into)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            into = found.in_functions
        for inner in ast.iter_child_nodes(node):
            visit(inner, into)

    visit(ast.parse(file.read_text(encoding="utf-8")), found.at_once)
    stub = file.with_suffix(".pyi")
    if stub.exists():  # names that a package hands on, on first use
        found.for_types += handed_on(stub)
    return found


def handed_on(stub: Path) -> list[tuple[str, str]]:
    """The names that a package imports on first use, each as (module, name)."""
    imports = [
        node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)
    ]
    return [(f"{stub.parent.name}.{node.module}", alias.name) for node in imports for alias in node.names]


class House:
    """Every module of a source tree, and which other modules each of them imports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = {module_name(file, root): read_module(file) for file in sources(root)}
        self.edges = {name: self.ours(name, module.imports) for name, module in self.modules.items()}

    def home(self, module: str, name: str) -> str:
        """The module that `from module import name` is about, through packages that hand names on."""
        if f"{module}.{name}" in self.modules:
            return f"{module}.{name}"
        package = self.modules.get(module)
        if package is not None and package.file.name == "__init__.py":
            for home, handed_on in (*package.imports, *package.for_types):
                if handed_on == name and home != module:
                    return self.home(home, name)
        return module

    def ours(self, name: str, imports: Iterable[tuple[str, str]]) -> set[str]:
        """The modules of the tree among what `name` imports."""
        return {self.home(*imported) for imported in imports} & set(self.modules) - {name}

    def loaded_with(self, name: str) -> set[str]:
        """What is imported at once when `name` is, at whatever distance, with the packages around it."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            module = waiting.pop()
            if module in self.modules and module not in seen:
                seen.add(module)
                waiting += self.ours(module, self.modules[module].at_once)
                waiting.append(module.rpartition(".")[0])
        return seen


def layer_breaks(house: House) -> list[str]:
    """Imports that go up, or to a neighbour of the same row."""
    return [
        f"{name} -> {target}"
        for name, targets in house.edges.items()
        for target in sorted(targets)
        if folder_of(name) != folder_of(target) and ROW_OF[folder_of(name)] <= ROW_OF[folder_of(target)]
    ]


def imported_commands(house: House) -> list[str]:
    """Imports of a module whose `main` is a command. `steadypix.main` knows them by their names as text."""
    return [
        f"{name} -> {target}"
        for name, targets in house.edges.items()
        for target in sorted(targets)
        if house.modules[target].is_command
        and folder_of(name) not in MAY_IMPORT_COMMANDS
        and (name, target) != ("steadypix.__main__", "steadypix.main")
    ]


def circles(house: House) -> list[str]:
    """Groups of modules each of which reaches all others by imports, those inside of functions included.

    A package's own `__init__` counts where it is imported, not wherever a module below it is.
    """
    reach: dict[str, set[str]] = {}
    for name in house.edges:
        seen: set[str] = set()
        waiting = list(house.edges[name])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += house.edges[module]
        reach[name] = seen
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach[other]))
        for name in reach
        if name in reach[name]
    }
    return sorted(" <-> ".join(group) for group in groups)


def torch_in_drawings(house: House) -> list[str]:
    """Modules that draw and import torch themselves, or anything that is loaded together with torch."""
    found = []
    for name, module in house.modules.items():
        if not name.startswith(DRAWING):
            continue
        found += [f"{name} -> {imported}" for imported, _ in module.imports if is_heavy(imported)]
        found += [
            f"{name} -> {target} -> {imported}"
            for target in sorted(house.edges[name])
            for other in sorted(house.loaded_with(target))
            for imported, _ in house.modules[other].at_once
            if is_heavy(imported)
        ]
    return found


def is_heavy(imported: str) -> bool:
    return imported.partition(".")[0] in ("torch", "torchvision", "kornia")


def full_folders(house: House) -> list[str]:
    """Folders of more Python files than one can keep in mind."""
    counts: dict[Path, int] = {}
    for module in house.modules.values():
        counts[module.file.parent] = counts.get(module.file.parent, 0) + 1
    return [f"{f.relative_to(house.root)}: {n} files" for f, n in sorted(counts.items()) if n > MOST_FILES]


def bare_imports(house: House) -> list[str]:
    """Imports of `gen`, `data` and so on, which are other people's packages in an installation."""
    return [
        f"{name} -> {imported}"
        for name, module in house.modules.items()
        for imported, _ in (*module.imports, *module.for_types)
        if imported.partition(".")[0] in INSIDE
    ]


def missing_modules(house: House) -> list[str]:
    """Imports of modules of ours that are not there; those inside of functions fail only when they run."""
    found = {
        f"{name} -> {imported}"
        for name, module in house.modules.items()
        for imported, what in (*module.imports, *module.for_types)
        if folder_of(imported) in ROW_OF and imported not in INSIDE
        if not {imported, f"{imported}.{what}"} & set(house.modules)
    }
    return sorted(found)


RULES: list[Callable[[House], list[str]]] = [
    layer_breaks,
    imported_commands,
    circles,
    torch_in_drawings,
    full_folders,
    bare_imports,
    missing_modules,
]


@functools.cache
def our_house() -> House:
    return House(REPOSITORY)


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(rule: Callable[[House], list[str]]) -> None:
    assert rule(our_house()) == []


def test_the_house_is_seen_whole() -> None:
    """The rules hold for what is found, so all must be found."""
    house = our_house()
    assert {folder_of(name) for name in house.modules} == set(ROW_OF)
    assert "steadypix.gen.networks.levels" in house.edges["steadypix.gen.networks.unet"]
    commands = {name for name, module in house.modules.items() if module.is_command}
    assert {"train_pix2pix", "steadypix.main", "steadypix.eval.eval_stability"} <= commands


PLANTED = {
    "up": (layer_breaks, "gen/layers/filters.py", "def f(): from steadypix.eval.shifts import offsets"),
    "aside": (layer_breaks, "gen/layers/filters.py", "import steadypix.data.pictures.listing"),
    "from the ground": (layer_breaks, "steadypix/files.py", "from steadypix.gen.layers import filters"),
    "through a package that hands on": (
        layer_breaks,
        "gen/layers/filters.py",
        "from steadypix import parse_shifts",
    ),
    "the trainer": (imported_commands, "eval/shifts/offsets.py", "from train_pix2pix import main"),
    "a command": (
        imported_commands,
        "eval/shifts/offsets.py",
        "def f(): import steadypix.eval.eval_stability",
    ),
    "a circle of two": (circles, "steadypix/errors.py", "from steadypix.files import write_text"),
    "a circle inside of functions": (
        circles,
        "eval/shifts/offsets.py",
        "def f(): from steadypix.eval.shifts.protocols import Crop",
    ),
    "a circle of three": (circles, "steadypix/errors.py", "def f(): import steadypix.main"),
    "torch in a chart": (torch_in_drawings, "eval/charts/style.py", "import torch"),
    "torch in a function": (torch_in_drawings, "eval/charts/style.py", "def f(): from torch import Tensor"),
    "torch behind a chart": (
        torch_in_drawings,
        "eval/charts/style.py",
        "def f(): from steadypix.gen.layers.resample import BlurPool2d",
    ),
    "a module that has moved": (
        missing_modules,
        "eval/shifts/offsets.py",
        "def f(): import steadypix.eval.shifts.gone",
    ),
    "gen alone": (bare_imports, "eval/shifts/offsets.py", "import gen.layers.filters"),
    "data for types": (
        bare_imports,
        "eval/shifts/offsets.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from data import Pairs",
    ),
}
COPIED = ("steadypix", "gen/layers", "data/pictures", "eval/shifts", "eval/charts")


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """A part of the sources to break rules in."""
    for folder in COPIED:
        for file in (REPOSITORY / folder).glob("*.py*"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / folder / file.name)
    for command in ("train_pix2pix.py", "eval/eval_stability.py"):
        (tmp_path / command).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / command, tmp_path / command)
    return tmp_path


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_break_is_found(name: str, small_house: Path) -> None:
    rule, path, code = PLANTED[name]
    before = set(rule(House(small_house)))
    file = small_house / path
    file.write_text(f"{file.read_text(encoding='utf-8')}\n{code}\n", encoding="utf-8")
    found = set(rule(House(small_house))) - before
    assert any(module_name(file, small_house) in line for line in found)


def test_a_full_folder_is_found(small_house: Path) -> None:
    folder = small_house / "gen" / "layers"
    for number in range(MOST_FILES - len(list(folder.glob("*.py")))):
        (folder / f"layer_{number}.py").touch()
    assert full_folders(House(small_house)) == []
    (folder / "one_more.py").touch()
    assert full_folders(House(small_house)) == [f"gen/layers: {MOST_FILES + 1} files"]


def test_imports_for_types_alone_make_no_circle(small_house: Path) -> None:
    """They do not happen when the code runs, and a type may name what it is used by."""
    file = small_house / "steadypix" / "errors.py"
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from steadypix.files import write_text\n"
    file.write_text(file.read_text(encoding="utf-8") + code, encoding="utf-8")
    assert circles(House(small_house)) == []


# ---- what is packaged -------------------------------------------------------------------------------


def test_every_folder_with_code_is_packaged() -> None:
    """The list in pyproject.toml is written by hand, because the folders lie outside of their package."""
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {
        module_name(file, REPOSITORY)
        for folder in ("steadypix", *INSIDE)
        for file in (REPOSITORY / folder).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == packages
    assert len(setuptools["packages"]) == len(packages)
    for folder in ("steadypix", *INSIDE):
        for file in (REPOSITORY / folder).rglob("*.py"):
            assert (file.parent / "__init__.py").exists(), f"{file.parent} is no package"


def test_names_for_type_checkers_are_those_that_are_there() -> None:
    stub = REPOSITORY / "steadypix" / "__init__.pyi"
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    (promised,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert sorted(promised) == steadypix.__all__
    assert set(promised) == {name for _, name in handed_on(stub)}


def test_public_names_are_there_and_import_torch_only_when_they_are_used() -> None:
    script = """
import sys, steadypix
assert "torch" not in sys.modules
assert set(steadypix.__all__) <= set(dir(steadypix))
for name in steadypix.__all__:
    getattr(steadypix, name)
try:
    steadypix.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise AssertionError("found")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- what may not be done ---------------------------------------------------------------------------

# What runs or unpickles whatever a file says: module or call -> the files that may, and why there.
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
MAY_IMPORT = {
    "gen/weights/pickles.py": {"pickle"}
}  # for the name of an error; test_hostile shows that nothing runs
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
FORBIDDEN_CALLS |= {
    "os.system",
    "os.popen",
    "torch.jit.load",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
}
MAY_CALL = {"eval/generators/programs.py": {"torch.export.load"}}  # behind --trust
TRUSTED = {"torch.export.load"}


def installed() -> list[Path]:
    """What users run; the soak and the benchmarks build hostile files and peers."""
    return [file for file in sources() if folder_of(module_name(file, REPOSITORY)) not in LAYERS[-1]]


def dotted(node: ast.expr) -> str:
    """The name of what is called: `torch.load` of `torch.load(...)`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(code: str, file: str) -> list[str]:
    """What a file does that could run or unpickle what it reads."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = {module or ""} if module else {alias.name for alias in node.names}
            tops = {name.partition(".")[0] for name in names}
            found += sorted(tops & FORBIDDEN_IMPORTS - MAY_IMPORT.get(file, set()))
            if module == "PIL.Image":  # `open` would have no name to be known by
                found.append("from PIL.Image")
        if not isinstance(node, ast.Call):
            continue
        name, options = dotted(node.func), {word.arg: word.value for word in node.keywords}
        if name in FORBIDDEN_CALLS or (name in TRUSTED and name not in MAY_CALL.get(file, set())):
            found.append(name)
        if name == "torch.load" and ast.unparse(options.get("weights_only", node)) != "True":
            found.append("torch.load without weights_only=True")
        if name in ("np.load", "numpy.load") and ast.unparse(options.get("allow_pickle", node)) != "False":
            found.append("np.load without allow_pickle=False")
        if "shell" in options:
            found.append(f"{name} with a shell")
        if name.endswith("Image.open") and "formats" not in options:  # Pillow would try all it knows
            found.append("Image.open without formats")
    return found


def test_nothing_that_a_file_says_is_run() -> None:
    for file in installed():
        path = str(file.relative_to(REPOSITORY))
        assert dangers(file.read_text(encoding="utf-8"), path) == [], path


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import shelve as s",
        "import torch\ntorch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, map_location='cpu', weights_only=w)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "yaml.load(t, Loader=yaml.SafeLoader)",
        "eval('1')",
        "exec(t)",
        "torch.export.load(p)",
        "torch.jit.load(p)",
        "subprocess.run(t, shell=True)",
        "from PIL import Image\nImage.open(p)",
        "import PIL.Image\nPIL.Image.open(p, 'r')",
        "from PIL.Image import open",
    ],
)
def test_dangers_are_seen(code: str) -> None:
    assert dangers(code, "eval/other.py")


def test_pictures_are_opened_with_an_explicit_list_of_formats() -> None:
    """In the soak, the benchmarks and the studies too."""
    for file in sources():
        found = [danger for danger in dangers(file.read_text(encoding="utf-8"), "") if "Image" in danger]
        assert found == [], file


def test_a_pickle_is_read_in_one_place() -> None:
    """Behind the guard that reads its instructions first."""
    readers = [file for file in installed() if "torch.load(" in file.read_text(encoding="utf-8")]
    assert [str(file.relative_to(REPOSITORY)) for file in readers] == ["gen/weights/pickles.py"]


def test_no_file_is_a_drawer_for_everything() -> None:
    names = {file.stem for file in sources()}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_no_file_shadows_the_standard_library() -> None:
    """`python eval/x.py` puts its folder first on the path: a file of ours must not hide another's."""
    assert not {file.stem for file in sources() if file.stem != "__init__"} & sys.stdlib_module_names


@pytest.mark.parametrize(
    "command",
    [
        "train_pix2pix",
        "steadypix.main",
        "steadypix.eval.report.__main__",
        "steadypix.eval.eval_stability",
        "steadypix.eval.eval_features",
        "steadypix.eval.eval_consistency",
        "steadypix.eval.eval_classifiers",
        "steadypix.eval.eval_sequence",
        "steadypix.checkpoints.generate",
        "steadypix.checkpoints.export",
        "steadypix.data.cli",
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(command: str) -> None:
    """torch alone takes seconds; it is imported once work starts."""
    script = (
        f"import sys, contextlib\nfrom {command} import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "assert main(['--no_such_option']) == 2\n"
        "heavy = {'torch', 'torchvision', 'kornia', 'matplotlib', 'skimage', 'accelerate'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_torchvision_stays_off_the_path_of_networks_and_psnr() -> None:
    script = (
        "import sys, steadypix.gen.networks.unet, steadypix.eval.measure.measure\n"
        "import steadypix.data.pairs.opening\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)
