"""The notebooks: clean, of one skeleton, strict about parameters, and every one executed in the toy profile."""

import re

import nbformat
import pytest
import skeleton
from skeleton import read

from kdnb import paths
from kdnb.core import store
from kdnb.errors import NotebookFailed
from kdnb.report import notebooks, parameters
from kdnb.report.notebooks import Step, run_notebook, study_steps

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
STUDY = study_steps("toy")
OF_STUDY = [step for step in STUDY if step.notebook.startswith("2")]
GRIDS = [
    Step("21_grid_search", {"profile": "toy", "grid": grid})
    for grid in ("search", "temperature", "ladder", "deviations", "switching")
]
TRAINING = OF_STUDY + [step for step in GRIDS if step not in OF_STUDY]
READING = [step for step in STUDY if not step.notebook.startswith("2")]
READING += [
    Step(path.stem, {"profile": "toy"})
    for path in NOTEBOOKS
    if path.stem not in {step.notebook for step in STUDY} and not path.stem.startswith("2")
]
TRAINS = ("42_two_things_in_one_loss", "43_placebo_teachers", "62_born_again")  # runs of its own, at small profiles
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def output_path(step):
    return notebooks.notebook_path(step.notebook), step.output


def test_every_notebook_of_the_study_is_there():
    assert {step.notebook for step in STUDY} <= {path.stem for path in NOTEBOOKS}
    assert OF_STUDY
    assert STUDY[: len(OF_STUDY)] == OF_STUDY  # what trains comes first
    assert len({step.output for step in STUDY}) == len(STUDY)


@pytest.mark.slow
@each
@pytest.mark.parametrize("check", skeleton.CHECKS, ids=lambda check: check.__name__)
def test_a_notebook(path, check):
    check(path)


@each
def test_an_unknown_parameter_is_refused_with_the_nearest_name(path, tmp_path):
    with pytest.raises(ValueError, match=rf"^{path.stem}: unknown parameter 'profil'; did you mean 'profile'\?"):
        run_notebook(path, tmp_path / "out.ipynb", {"profil": "toy"})
    assert list(tmp_path.iterdir()) == []


@each
def test_a_parameter_of_another_type_is_refused(path):
    with pytest.raises(ValueError, match=rf"^{path.stem}: parameter profile must be text, got {{'a': 1}}"):
        parameters.check(path, {"profile": {"a": 1}})


def test_an_unknown_notebook_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown notebook '20_finetun'; did you mean '20_finetune'\?"):
        notebooks.notebook_path("20_finetun")
    assert notebooks.notebook_path("20_finetune.ipynb") == notebooks.notebook_path("20_finetune")
    for name in ("../conftest", "/etc/passwd", ""):
        with pytest.raises(ValueError, match="unknown notebook"):
            notebooks.notebook_path(name)


def test_executed_copies_lie_in_outputs_whatever_the_parameters():
    output = Step("20_finetune", {"task": "../../x; rm -rf", "profile": "toy"}).output
    assert output.parent == paths.EXECUTED
    assert re.fullmatch(r"20_finetune__\.\.\.\.xrmrf-toy-[0-9a-f]{8}\.ipynb", output.name)


# Execution


def outputs_of(path):
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            yield cell, output


def check_executed(path):
    """No error, no warning, nothing on stderr, and something to see."""
    shown = 0
    for cell, output in outputs_of(path):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", (cell.source, output.get("text"))
        told = output.get("text") or str(output.get("data", {}).get("text/plain", ""))
        assert not re.search(r"Warning:|Traceback", told), (cell.source, told)
        shown += 1
    assert shown >= 3
    assert read(path).metadata.kdnb.signature


@pytest.fixture(scope="session")
def trained(kernels):
    """The training steps, executed in order in the session's outputs; returns what a second study then says.

    The grids come after it: their runs are new to the study's notebooks of the same task.
    """
    said = []
    notebooks.run_steps(OF_STUDY, lambda line: None)
    notebooks.run_steps(OF_STUDY, said.append)
    notebooks.run_steps([step for step in TRAINING if step not in OF_STUDY], lambda line: None)
    return said


@pytest.mark.slow
@pytest.mark.parametrize("step", TRAINING, ids=lambda step: step.output.stem)
def test_a_training_notebook_runs_in_the_toy_profile(step, trained):
    check_executed(step.output)


@pytest.mark.slow
def test_the_training_notebooks_leave_the_runs_of_the_study(trained):
    from kdnb.catalog import PROFILES
    from kdnb.experiment.arms import ARMS
    from kdnb.experiment.tables import study

    rt, section = study("rt", "toy"), study("section", "toy")
    assert rt.seeds(*ARMS) == list(PROFILES["toy"].seeds)
    assert section.seeds("erm_large", "erm_small", "kd_standard") == [0]
    assert section.num_classes == 5


@pytest.mark.slow
def test_a_second_study_executes_nothing(trained):
    assert len(trained) == len(OF_STUDY)
    assert all(line.endswith(": current") for line in trained), trained


@pytest.mark.slow
@pytest.mark.parametrize("step", READING, ids=lambda step: step.notebook)
def test_a_reading_notebook_runs_in_the_toy_profile(step, trained):
    before = store.stored_ids()
    run_notebook(notebooks.notebook_path(step.notebook), step.output, step.parameters)
    check_executed(step.output)
    new = set(store.stored_ids()) - set(before)
    if step.notebook not in TRAINS:
        assert [run_id for run_id in new if not store.kind_of(run_id)] == []  # records it may make, it trains no run


@pytest.mark.slow
def test_a_changed_parameter_shows_in_the_saved_run_and_a_repeated_seed_runs_once(kernels, tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_OUTPUTS", str(tmp_path))
    parameters = {"task": "rt", "profile": "toy", "seeds": "5,5", "arms": "erm_small,ls_small"}
    run_notebook(notebooks.notebook_path("20_finetune"), tmp_path / "copy.ipynb", parameters)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    configs = [store.load(run_id).config for run_id in store.stored_ids()]
    assert {(config.method, config.seed, config.task) for config in configs} == {("erm", 5, "rt"), ("ls", 5, "rt")}


def made_notebook(path, *sources):
    kernel = {"name": "python3", "display_name": "", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    parameters = nbformat.v4.new_code_cell("profile: str = 'toy'\ntext: str = ''", metadata={"tags": ["parameters"]})
    notebook.cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_a_failing_cell_is_one_line_with_the_executed_copy(kernels, tmp_path):
    path = made_notebook(tmp_path / "broken.ipynb", "1 / 0")
    with pytest.raises(NotebookFailed, match=r"broken: cell .* raised ZeroDivisionError: division by zero") as failed:
        run_notebook(path, tmp_path / "out" / "copy.ipynb", {})
    assert str(tmp_path / "out" / "copy.ipynb") in str(failed.value)
    assert [copy.name for copy in (tmp_path / "out").iterdir()] == ["copy.ipynb"]  # whole, and no part beside it
    assert read(tmp_path / "out" / "copy.ipynb").metadata.papermill.output_path == str(tmp_path / "out" / "copy.ipynb")


@pytest.mark.slow
def test_a_cell_that_hangs_is_ended(kernels, tmp_path):
    path = made_notebook(tmp_path / "slow.ipynb", "import time; time.sleep(600)")
    with pytest.raises(NotebookFailed, match="slow: cell 1 took more than 2 s"):
        run_notebook(path, tmp_path / "copy.ipynb", {}, timeout=2)


@pytest.mark.slow
def test_a_kernel_that_dies_is_told(tmp_path):
    path = made_notebook(tmp_path / "dying.ipynb", "import os; os._exit(1)")
    with pytest.raises(NotebookFailed, match="dying: the kernel died in cell"):
        run_notebook(path, tmp_path / "copy.ipynb", {})


@pytest.mark.slow
def test_a_kernel_has_no_network(kernels, tmp_path):
    source = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=2)"
    with pytest.raises(NotebookFailed, match="NetworkBlocked"):
        run_notebook(made_notebook(tmp_path / "online.ipynb", source), tmp_path / "copy.ipynb", {})


@pytest.mark.slow
def test_a_parameter_reaches_the_cell(tmp_path):
    path = made_notebook(tmp_path / "told.ipynb", "print(text)")
    run_notebook(path, tmp_path / "copy.ipynb", {"text": 'it\'s "toy"\n'})
    assert [output.text for _, output in outputs_of(tmp_path / "copy.ipynb")] == ['it\'s "toy"\n\n']
