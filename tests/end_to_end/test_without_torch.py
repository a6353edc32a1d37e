"""Where torch is not installed, runs are read all the same: notebooks, the report's tables, the commands that read."""

import ast
import json
import os
import subprocess
import sys

import nbformat
import pytest

from kdnb import paths

WITHOUT = """
import importlib.abc, importlib.metadata, sys
GONE = ("torch", "transformers", "datasets", "safetensors", "tokenizers")
class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
found = importlib.metadata.Distribution.from_name.__func__
def without(cls, name):
    if name in GONE:
        raise importlib.metadata.PackageNotFoundError(name)
    return found(cls, name)
importlib.metadata.Distribution.from_name = classmethod(without)
import matplotlib
matplotlib.use("Agg")
"""
TORCH = (
    "torch",
    "kdnb.core.entropy",
    "kdnb.core.losses",
    "kdnb.core.theory",
    "kdnb.core.device",
    "kdnb.experiment.training",
)


def code(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def imported(path):
    found = set()
    for node in ast.walk(ast.parse("\n".join(code(path)))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


READING = ("00", "30", "31", "33", "34", "40", "41", "42", "43")  # what else reads runs computes with torch besides
NOTEBOOKS = [path for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")) if path.stem[:2] in READING]


REFERENCE = paths.ROOT / "outputs" / "reference"
ONE_TASK = ("33",)  # what reads every task takes a minute, and imports no more than for one
ALONE = """
import contextlib, io, json
def display(*shown): pass
for name, source in json.loads(open({cells!r}, encoding="utf-8").read()).items():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(source, name, "exec"), {{"__name__": "__main__", "display": display}})
    assert "torch not installed" in said.getvalue(), name
    matplotlib.pyplot.close("all")
    print(name)
"""


def of_one_task(folder, task):
    """Three seeds of the committed runs of a task: what reads all takes a minute and imports no more."""
    (folder / "runs").mkdir(parents=True)
    for part in ("labels", "simulations"):
        (folder / part).symlink_to(REFERENCE / part)
    for run in (REFERENCE / "runs").glob(f"{task}-*-s[012]-*"):
        (folder / "runs" / run.name).symlink_to(run)
    return folder / "runs"


def run(source, tmp_path, reference=REFERENCE / "runs"):
    environment = {**os.environ, "KDNB_OUTPUTS": str(tmp_path), "KDNB_REFERENCE": str(reference)}
    script = tmp_path / "script.py"
    script.write_text(WITHOUT + source, encoding="utf-8")
    return subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_notebooks_that_read_runs_import_no_torch():
    assert len(NOTEBOOKS) == len(READING)
    for path in NOTEBOOKS:
        assert not imported(path) & set(TORCH), path.stem


@pytest.mark.slow
@pytest.mark.parametrize("of_one", [False, True], ids=["all tasks", "one task"])
def test_notebooks_that_read_runs_need_no_torch(of_one, tmp_path):
    """Each executed in one process, whose modules none of them may bring torch into."""
    asked = {path.stem: "\n".join(code(path)) for path in NOTEBOOKS if (path.stem[:2] in ONE_TASK) == of_one}
    cells = tmp_path / "cells.json"
    cells.write_text(json.dumps(asked), encoding="utf-8")
    reference = of_one_task(tmp_path / "reference", "rt") if of_one else REFERENCE / "runs"
    done = run(ALONE.format(cells=str(cells)), tmp_path, reference)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(asked)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["doctor"], ["runs", "list", "--task", "mrpc"]])
def test_a_command_that_reads_needs_no_torch(words, tmp_path):
    done = run(f"sys.argv = ['kdnb', *{words}]\nfrom kdnb.cli.main import main\nmain()\n", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "torch is not installed" in done.stdout or " runs\n" in done.stdout


@pytest.mark.slow
def test_training_without_torch_is_one_line(tmp_path):
    done = run(
        "sys.argv = ['kdnb', 'train', 'rt', '--profile', 'toy']\nfrom kdnb.cli.main import main\nmain()\n", tmp_path
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "kdnb: torch is not installed here: stored runs can be read, training needs `pip install torch`\n"
    )
