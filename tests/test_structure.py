"""The package's shape: who imports whom, how long things are, what is never used."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from kdnb import paths

# A module imports only from those before it (STYLE.md, 1). A new module takes its place here.
ORDER = [
    "__init__",
    "paths",
    "small_files",
    "failures",
    "hub",
    "checkpoints",
    "profiles",
    "config",
    "tasks",
    "arms",
    "running",
    "entropy",
    "losses",
    "theory",
    "schedule",
    "spectral",
    "toys",
    "alignment",
    "zeroing",
    "small_models",
    "constrained",
    "curves",
    "assets",
    "options",
    "where",
    "embedded",
    "glue",
    "hub_texts",
    "images",
    "own",
    "data",
    "download",
    "fetch",
    "tokens",
    "pixels",
    "dropout",
    "encoder",
    "vision",
    "models",
    "objective",
    "optimizer",
    "predict",
    "gpu",
    "history",
    "cost",
    "metrics",
    "statistics",
    "effects",
    "deviations",
    "beyond",
    "run_files",
    "runs",
    "studies",
    "train",
    "published",
    "printed",
    "claims",
    "truth",
    "results",
    "table_html",
    "figures",
    "sweep",
    "workers",
    "axes",
    "cells",
    "grids",
    "select",
    "evidence",
    "probe",
    "sweeps",
    "switching",
    "switched_toys",
    "constrained_toys",
    "simulations",
    "engines",
    "on_ray",
    "sweeping",
    "status",
    "plan",
    "deviation_claims",
    "deviating",
    "deviation_verdicts",
    "verdicts",
    "kernels",
    "runner",
    "ledger_text",
    "report",
    "doctor",
    "commands",
    "notebook_commands",
    "store_commands",
    "runs_cli",
    "grid_commands",
    "grid_cli",
    "sweep_commands",
    "sweep_cli",
    "cli",
]
SOURCES = sorted((paths.ROOT / "kdnb").glob("*.py"))
NO_TORCH = [
    "config",
    "data",
    "runs",
    "metrics",
    "deviations",
    "beyond",
    "deviating",
    "switching",
    "printed",
    "results",
    "figures",
    "sweep",
    "grids",
    "select",
    "plan",
    "grid_commands",
    "status",
    "sweeping",
    "evidence",
    "verdicts",
    "runner",
    "report",
    "cli",
]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def names(path):
    """Every kdnb module that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("kdnb.") for alias in node.names if alias.name.startswith("kdnb.")}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "kdnb":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("kdnb."):
            found.add(node.module.removeprefix("kdnb."))
        elif isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(f"{path.name}: relative import; kdnb spells its modules out")
    return found - {"__version__"}


def test_every_module_has_its_place():
    assert {path.stem for path in SOURCES} <= set(ORDER), "a new module: put it into ORDER, after what it imports"
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_those_before_it(path):
    later = {name for name in names(path) if ORDER.index(name) >= ORDER.index(path.stem)}
    assert not later, f"{path.stem} imports {later}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_modules_and_functions_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 200
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 40, f"{path.stem}.{node.name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_module_and_public_function_says_what_it_does(path):
    assert ast.get_docstring(tree(path))
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.stem}.{node.name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_that_runs_code_from_files_is_used(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "joblib", "cloudpickle"} & {name.split(".")[0] for name in modules}
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called not in ("torch.load", "torch.save", "eval", "exec", "np.save")
            assert "trust_remote_code" not in keywords
            assert keywords.get("allow_pickle", "False") == "False"
            if called == "np.load":
                assert keywords["allow_pickle"] == "False"
            if called == "AutoModel.from_pretrained":
                assert keywords["use_safetensors"] == "True"


def test_the_hub_is_pinned_to_commits():
    from kdnb.checkpoints import SOURCES as MODELS
    from kdnb.glue import HUB_REVISION

    pins = [HUB_REVISION, *(source.revision for source in MODELS.values() if source.kind == "hub")]
    assert all(re.fullmatch(r"[0-9a-f]{40}", pin) for pin in pins)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_paths_spells_a_path(path):
    if path.stem == "paths":
        return
    text = path.read_text(encoding="utf-8")
    assert "__file__" not in text or path.stem in ("published", "runner", "report")  # what lies beside the code
    for word in ("getcwd", "Path.cwd", "expanduser", 'KDNB_OUTPUTS"]', 'KDNB_DATA_CACHE"]'):
        assert word not in text


@pytest.mark.parametrize("module", NO_TORCH)
def test_reading_runs_needs_no_torch(module):
    code = f"import sys, kdnb.{module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_kdnb_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import kdnb; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["kdnb"]


def test_paths_follow_the_environment_and_not_the_working_directory(tmp_path):
    code = "from kdnb import paths; print(paths.DATA_CACHE, paths.RUNS, paths.NOTEBOOKS)"
    import os

    kept = {name: value for name, value in os.environ.items() if not name.startswith("KDNB_")}

    def told(**more):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**kept, **more}, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    root = str(paths.ROOT)
    assert told() == [f"{root}/data_cache", f"{root}/outputs/runs", f"{root}/notebooks"]
    assert told(KDNB_DATA_CACHE="/a", KDNB_OUTPUTS="/b") == ["/a", "/b/runs", f"{root}/notebooks"]


def test_conda_and_pip_ask_for_the_same_packages():
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda = yaml.safe_load((paths.ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == "kdnb"
    plain = [entry for entry in conda["dependencies"] if isinstance(entry, str)]
    assert {re.split(r"[<>=! ]", entry)[0] for entry in plain} == {"python", "pip"}
    python = next(entry for entry in plain if entry.startswith("python"))
    assert python.replace("python", "").strip() == project["requires-python"]
    (from_pip,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    wanted = {entry for entry in from_pip if not entry.startswith(("-e", ".", "-c", "--"))}
    extras = {entry for group in project["optional-dependencies"].values() for entry in group}
    assert set(project["dependencies"]) <= wanted <= set(project["dependencies"]) | extras


def test_every_package_imported_is_declared():
    """What kdnb imports at all is a dependency by name, and torch and ray come in no other way."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=\[]", entry)[0].lower() for entry in project["dependencies"]}
    declared |= {re.split(r"[<>=\[]", entry)[0].lower() for entry in project["optional-dependencies"]["cluster"]}
    comes_with = {
        "jupyter_client": "ipykernel",
        "sklearn": "scikit-learn", "click": "typer", "IPython": "ipykernel", "nbclient": "nbconvert",
        "markupsafe": "jinja2", "PIL": "matplotlib",
    }  # fmt: skip
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"kdnb"}:
                assert comes_with.get(name, name).lower() in declared, f"{path.stem} imports {name}"
