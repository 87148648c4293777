"""The house rules that code can check: imports go one way, and a file's name says its job."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("configs", "data", "gen", "eval", "checkpoints")
# Who may import whom. Commands in eval and the trainer assemble; nothing imports the trainer.
ALLOWED = {
    "configs": {"configs"},
    "data": {"data"},
    "gen": {"gen"},
    "eval": {"eval", "data", "gen"},
    "checkpoints": {"checkpoints", "configs", "data", "gen"},
    "train_pix2pix": {"checkpoints", "configs", "data", "gen", "eval"},
}
OURS = {*PACKAGES, "train_pix2pix", "checkpoints"}


def sources() -> list[Path]:
    files = [file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")]
    return [*files, REPOSITORY / "train_pix2pix.py"]


def imported(file: Path) -> set[str]:
    """The top-level packages of ours that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add((node.module or "").partition(".")[0])
    return found & OURS


@pytest.mark.parametrize("file", sources(), ids=lambda f: str(f.relative_to(REPOSITORY)))
def test_imports_go_one_way(file: Path) -> None:
    package = file.relative_to(REPOSITORY).parts[0].removesuffix(".py")
    assert imported(file) <= ALLOWED[package]


@pytest.mark.parametrize(
    "name",
    [
        "results",
        "charts",
        "curve",
        "grid",
        "perturb_chart",
        "spectrum_chart",
        "pan_chart",
        "tradeoff",
        "frames",
        "verdict",
        "report",
        "classifier_charts",
        "page",
    ],
)
def test_reports_are_drawn_without_networks_or_data(name: str) -> None:
    """What is drawn comes from results.json and pixels: no torch, no generators."""
    text = (REPOSITORY / "eval" / f"{name}.py").read_text(encoding="utf-8")
    assert "torch" not in text
    assert "from gen" not in text


# What runs or unpickles whatever a file says: module or call -> the files that may, and why there.
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
MAY_IMPORT = {"gen/pickles.py": {"pickle"}}  # for the name of an error; test_hostile shows that nothing runs
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
FORBIDDEN_CALLS |= {
    "os.system",
    "os.popen",
    "torch.jit.load",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
}
MAY_CALL = {"eval/programs.py": {"torch.export.load"}}  # behind --trust
TRUSTED = {"torch.export.load"}


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
    return found


@pytest.mark.parametrize("file", sources(), ids=lambda f: str(f.relative_to(REPOSITORY)))
def test_nothing_that_a_file_says_is_run(file: Path) -> None:
    assert dangers(file.read_text(encoding="utf-8"), str(file.relative_to(REPOSITORY))) == []


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
    ],
)
def test_dangers_are_seen(code: str) -> None:
    assert dangers(code, "eval/other.py")


def test_a_pickle_is_read_in_one_place() -> None:
    """Behind the guard that reads its instructions first."""
    readers = [file for file in sources() if "torch.load(" in file.read_text(encoding="utf-8")]
    assert [str(file.relative_to(REPOSITORY)) for file in readers] == ["gen/pickles.py"]


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
        "eval.eval_stability",
        "eval.eval_features",
        "eval.eval_consistency",
        "eval.eval_classifiers",
        "eval.generate",
        "data.cli",
        "data.download",
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
    script = "import sys, gen, eval.evaluate, data.source\nassert 'torchvision' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)
