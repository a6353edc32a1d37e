"""Run All on a fresh clone: every notebook that reads runs does so with its defaults, and no section stays empty."""

import ast
import functools
import re

import nbformat
import papermill
import pytest

from kdnb import paths
from kdnb.experiment.arms import ARMS
from kdnb.report import notebooks
from kdnb.studies.label_smoothing import notebooks as of_study

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
READS = (
    "tables.study", "results.study", "tables.load_runs", "stored.study", "switching.study",
    "temperature.study", "missing.study", "born_again.study", "little_data.stored", "data_free.results",
    "prefixes.results", "sparse_targets.results", "drafts.results", "stages.results", "cost_records.results",
    "runs.evidence",
)  # fmt: skip
KNOWN = {
    "00", "30", "31", "32", "33", "34", "40", "41", "42", "43", "51", "55", "60", "61", "62",
    "63", "64", "70", "71", "72", "73", "74",
}  # fmt: skip
WITHOUT_TORCH = ("00", "30", "31", "33", "34", "40", "41", "42", "43", "55", "61", "72")
GAP = r"\bno runs\b|\bempty\b|is left out|runs are missing|there are none|\bUntil then\b"


def code(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


READING = [
    path
    for path in NOTEBOOKS
    if not path.stem.startswith("2") and any(word in source for source in code(path) for word in READS)
]


def defaults(path):
    return {name: ast.literal_eval(found["default"]) for name, found in papermill.inspect_notebook(str(path)).items()}


def draws(source):
    """Whether a cell saves a figure itself, not only in a function for later cells."""
    statements = [node for node in ast.parse(source).body if not isinstance(node, ast.FunctionDef)]
    return any("figures.save(" in ast.unparse(node) for node in statements)


def shown(cell):
    """What a cell says, tables in plain letters."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = output.get("text") or data.get("text/html") or data.get("text/plain", "")
        yield re.sub(r"<style.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL)


def test_the_notebooks_that_read_runs_are_known():
    assert {path.stem[:2] for path in READING} == KNOWN


def imported(statements):
    """The modules that some import statements name, or may."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


@functools.cache
def brings_torch(module):
    """Whether importing a module imports torch, by the statements that stand at the top of each of ours."""
    path = paths.ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not path.exists():
        return module.partition(".")[0] in ("torch", "transformers")
    return any(map(brings_torch, imported(ast.parse(path.read_text(encoding="utf-8")).body)))


@pytest.mark.slow
def test_whatever_reads_runs_and_imports_no_torch_is_executed_without_it():
    """What else reads runs computes besides: 51 fits toys, 74 has torch count a small model's operations."""
    trees = {path.stem[:2]: ast.walk(ast.parse("\n".join(code(path)))) for path in READING}
    assert {name for name, tree in trees.items() if not any(map(brings_torch, imported(tree)))} == set(WITHOUT_TORCH)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_reads_defaults_to_the_reference_runs_and_what_writes_to_demo(path):
    found = defaults(path)
    profile = found.get("stored", found["profile"])  # 51 trains toys at `profile` and reads runs of `stored`
    assert profile == ("cpu" if path in READING else "demo")


@pytest.mark.slow
@pytest.mark.parametrize("path", READING, ids=lambda path: path.stem)
def test_a_reading_notebook_is_whole_with_its_defaults_and_nothing_trained(path, kernels, tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("KDNB_REFERENCE", str(paths.ROOT / "outputs" / "reference" / "runs"))
    without = path.stem[:2] in WITHOUT_TORCH
    if without:
        monkeypatch.setenv("PYTHONPATH", str(paths.ROOT / "tests" / "without_torch"))
    notebooks.run_notebook(path, tmp_path / "copy.ipynb", {})
    assert not (tmp_path / "outputs" / "runs").exists()
    cells = nbformat.read(tmp_path / "copy.ipynb", as_version=4).cells
    assert without == any("torch not installed" in text for cell in cells for text in shown(cell))
    for cell in cells:
        if cell.cell_type != "code":
            continue
        for text in shown(cell):
            assert not re.search(GAP, text), (cell.source, text)
        if draws(cell.source):
            assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source


@pytest.mark.parametrize("profile", ["toy", "demo", "paper"])
def test_a_study_names_the_profile_and_task_of_every_notebook_that_reads_its_runs(profile):
    """The defaults may move; what `kdnb study` reads does not."""
    for step in notebooks.study_steps(profile):
        assert "profile" in step.parameters, step
        demo_reads = profile == "demo" and step.notebook in (of_study.REVERSE, "21_grid_search")
        if step.notebook in of_study.COMMITTED or demo_reads:
            assert step.parameters["profile"] == "cpu"
        elif step.notebook in of_study.READING or step.notebook == "55_stored_deviations":
            assert {"task", "profile"} <= set(step.parameters), step
            assert step.parameters["profile"] == profile
    (dark, *more) = [step.parameters for step in notebooks.study_steps(profile) if step.notebook.startswith("31")]
    assert {step["dark_task"] for step in [dark, *more]} == {"section"}
    (trained,) = [
        step.parameters for step in notebooks.study_steps(profile) if step.parameters.get("task") == "section"
    ]
    assert set(trained["arms"].split(",")) == {"erm_large", "erm_small", "kd_standard"} <= set(ARMS)
