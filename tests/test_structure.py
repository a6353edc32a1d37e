"""The package's shape: who imports whom, how long things are, what is never used."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from kdnb import paths

ROOMS = [  # a room imports from itself and from those above it alone
    "__init__", "errors", "paths", "files", "plain", "catalog",
    "core", "data", "models", "experiment", "analysis", "sweeps", "studies", "report", "cli",
]  # fmt: skip
NEEDS_TORCH = {
    "core.device",
    "core.entropy",
    "core.loop",
    "core.losses",
    "core.optimizer",
    "core.predict",
    "core.theory",
    "data.pixels",
    "data.tokens",
    "models.classifiers",
    "experiment.surroundings",
    "experiment.training",
    "models.dropout",
    "models.exported",
    "models.finished",
    "models.whole",
    "models.encoder",
    "models.text",
    "models.vision",
    "studies.dark_knowledge.attention",
    "studies.dark_knowledge.features",
    "studies.dark_knowledge.little_trainings",
    "studies.dark_knowledge.networks",
    "studies.dark_knowledge.relations",
    "studies.dark_knowledge.synthesis",
    "studies.dark_knowledge.targets",
    "studies.dark_knowledge.temperature",
    "studies.deviations.constrained",
    "studies.deviations.constrained_toys",
    "studies.deviations.eigendirections",
    "studies.deviations.similar_classes",
    "studies.deviations.simulations",
    "studies.deviations.switched_toys",
    "studies.deviations.toys",
    "studies.deviations.trainers",
    "studies.deviations.zeroing",
    "studies.language_models.caching",
    "studies.language_models.cost_measured",
    "studies.language_models.distillkit",
    "studies.language_models.drafting",
    "studies.language_models.mixers",
    "studies.language_models.staging",
    "studies.language_models.checks",
    "studies.language_models.divergences",
    "studies.language_models.evaluation",
    "studies.language_models.export",
    "studies.language_models.fused",
    "studies.language_models.gguf_tokenizer",
    "studies.language_models.gguf_weights",
    "studies.language_models.losses",
    "studies.language_models.models",
    "studies.language_models.prefix_trainings",
    "studies.language_models.runs",
    "studies.language_models.sampling",
    "studies.language_models.sparse",
    "studies.language_models.sparse_trainings",
    "studies.language_models.target_cache",
    "studies.language_models.training",
}
SOURCES = sorted((paths.ROOT / "kdnb").rglob("*.py"))


def dotted(path):
    """core.losses of kdnb/core/losses.py; of a room's __init__.py the room."""
    parts = path.relative_to(paths.ROOT / "kdnb").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {dotted(path): path for path in SOURCES}


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def names(path):
    """Every kdnb module that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("kdnb.") for alias in node.names if alias.name.startswith("kdnb.")}
        elif isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(f"{dotted(path)}: relative import; kdnb spells its modules out")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kdnb":
            base = node.module.removeprefix("kdnb").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in MODULES else base)
    return found - {""}


def room(name):
    return name.split(".")[0]


def in_each_room(check):
    """A test a room out of a check a module: a test for each module costs pytest more than the check itself."""

    def test(where):
        for path in SOURCES:
            if room(dotted(path)) == where:
                try:
                    check(path)
                except AssertionError as error:
                    raise AssertionError(f"{dotted(path)}: {error}") from error

    test.__name__ = check.__name__
    return pytest.mark.parametrize("where", ROOMS)(test)


def test_every_room_has_its_place():
    assert {room(name) for name in MODULES} <= set(ROOMS), "a new room: put it into ROOMS, below what it imports"


@pytest.mark.slow
@in_each_room
def test_a_module_imports_only_from_rooms_above_it(path):
    name = dotted(path)
    lower = {other for other in names(MODULES[name]) if ROOMS.index(room(other)) > ROOMS.index(room(name))}
    assert not lower, f"{name} imports {lower}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("studies.")])
def test_studies_import_nothing_of_one_another(name):
    study = name.split(".")[1]
    others = {other for other in names(MODULES[name]) if room(other) == "studies" and other.split(".")[1] != study}
    assert not others, f"{name} imports {others}"


@pytest.mark.parametrize(
    "name", [name for name in MODULES if MODULES[name].name == "__init__.py" and name != "__init__"]
)
def test_a_room_opens_without_an_import(name):
    assert [type(node) for node in tree(MODULES[name]).body] == [ast.Expr], f"{name}: a docstring and nothing else"


@pytest.mark.slow
@in_each_room
def test_every_module_and_public_function_says_what_it_does(path):
    assert ast.get_docstring(tree(path))
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{dotted(path)}.{node.name}"


def crowded(node):
    """The lines of a docstring that tell of several arguments, attributes or errors."""
    names = {"[A-Z][A-Za-z]*Error"}
    if isinstance(node, ast.FunctionDef):
        names |= {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    elif isinstance(node, ast.ClassDef):
        names |= {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)}
    name = f"(?:{'|'.join(sorted(names))})"
    several = re.compile(rf"\s*{name}(?:, {name})+: |\s*{name}: .*[.;] {name}: ")
    return [line for line in (ast.get_docstring(node) or "").splitlines() if several.match(line)]


@pytest.mark.parametrize(
    ("docstring", "lines"),
    [
        ("Args:\n    a: the first. b: the second.", 1),
        ("Args:\n    a, b: both.", 1),
        ("Raises:\n    ValueError: no. FileNotFoundError: none.", 1),
        ("Args:\n    a: the first, as b: it is.\n    b: the second; a and b.\nRaises:\n    ValueError: no.", 0),
    ],
)
def test_lines_of_several_arguments_are_seen(docstring, lines):
    (function,) = ast.parse(f'def f(a, b):\n    """{docstring}"""').body
    assert len(crowded(function)) == lines


@pytest.mark.slow
@in_each_room
def test_a_docstring_tells_of_one_argument_a_line(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert not crowded(node), f"{dotted(path)}.{node.name}"


@pytest.mark.slow
@in_each_room
def test_nothing_that_runs_code_from_files_is_used(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "joblib", "cloudpickle"} & {name.split(".")[0] for name in modules}
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called not in ("torch.load", "torch.save", "eval", "exec", "np.save")
            assert keywords.get("trust_remote_code", "False") == "False"
            assert keywords.get("allow_pickle", "False") == "False"
            if called == "np.load":
                assert keywords["allow_pickle"] == "False"
            if called == "AutoModel.from_pretrained":
                assert keywords["use_safetensors"] == "True"


def test_the_hub_is_pinned_to_commits():
    from kdnb.catalog import SOURCES as MODELS
    from kdnb.data.glue import HUB_REVISION

    pins = [HUB_REVISION, *(source.revision for source in MODELS.values() if source.kind == "hub")]
    assert all(re.fullmatch(r"[0-9a-f]{40}", pin) for pin in pins)


@in_each_room
def test_only_paths_spells_a_path(path):
    if dotted(path) == "paths":
        return
    text = path.read_text(encoding="utf-8")
    assert "__file__" not in text or dotted(path) in (
        "studies.label_smoothing.paper",
        "report.report",
    )  # what lies beside the code
    for word in ("getcwd", "Path.cwd", "expanduser", 'KDNB_OUTPUTS"]', 'KDNB_DATA_CACHE"]'):
        assert word not in text


@pytest.mark.slow
def test_reading_runs_needs_no_torch():
    """Every module that can do without it, one after another in one interpreter."""
    names = sorted(set(MODULES) - NEEDS_TORCH - {"__init__"})
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module('kdnb.' + name)\n"
        "    if {'torch', 'transformers'} & set(sys.modules): sys.exit(f'{name} brings torch')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tables_end(tree):
    """The last lines of tables of data: literals that a module names, and decorators, a test's cases among them."""
    literals = (ast.List, ast.Dict, ast.Tuple, ast.Set)
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, literals):
            yield node.end_lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from (decorator.end_lineno for decorator in node.decorator_list)


def test_only_tables_of_data_keep_their_own_lines():
    written = [path for folder in ("kdnb", "tests", "benchmarks") for path in (paths.ROOT / folder).rglob("*.py")]
    for path in written:
        text = path.read_text(encoding="utf-8")
        mark = "# fmt: " + "skip"
        marked = {number for number, line in enumerate(text.splitlines(), 1) if line.endswith(mark)}
        assert not marked or marked <= set(tables_end(ast.parse(text))), (path, marked)


def test_the_core_can_be_read_in_one_sitting():
    core = [path for path in SOURCES if path.parent.name == "core"]
    lines = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) for path in core}
    assert sum(lines.values()) <= 1900, lines
    for path in core:
        assert "fmt: " not in path.read_text(encoding="utf-8"), f"{path.stem}: no line is saved by cramming"


def test_the_exceptions_to_the_bounds_are_few_and_give_a_reason():
    marks = [m for path in SOURCES for m in re.findall(r"# noqa: (?:C901|PLR09\d\d)(.*)", path.read_text("utf-8"))]
    assert len(marks) <= 10
    assert all(len(reason.strip(" -()")) > 10 for reason in marks)


@pytest.mark.slow
def test_importing_kdnb_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import kdnb; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["kdnb"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_every_package_imported_is_declared():
    """What kdnb imports at all is a dependency by name, and torch and ray come in no other way."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=\[]", entry)[0].lower() for entry in project["dependencies"]}
    extras = [entry for name in ("cluster", "liger") for entry in project["optional-dependencies"][name]]
    declared |= {re.split(r"[<>=\[]", entry)[0].lower() for entry in extras}
    comes_with = {
        "sklearn": "scikit-learn",
        "click": "typer",
        "IPython": "ipykernel",
        "nbclient": "nbconvert",
        "markupsafe": "jinja2",
        "PIL": "matplotlib",
        "traitlets": "ipykernel",
        "jupyter_client": "ipykernel",
        "liger_kernel": "liger-kernel",
    }
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"kdnb"}:
                assert comes_with.get(name, name).lower() in declared, f"{dotted(path)} imports {name}"
