"""CONTRIBUTING.md does as it says: the code that stands in it is run here, and what it names exists."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import forked
import nbformat
import pytest
import skeleton
import torch
from batches import random_batch

import kdnb.studies
from kdnb import paths
from kdnb.catalog import SOURCES, TASKS, Source, Task
from kdnb.core.config import RunConfig, flat
from kdnb.core.methods import METHODS, Method, batch_loss, setting
from kdnb.data import splits
from kdnb.models import classifiers
from kdnb.studies import registry
from kdnb.sweeps import grids

PAGE = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
KINDS = ("A task", "A model", "A method", "A study", "A notebook")
ERM = RunConfig(task="rt", profile="toy", data="0" * 16, method="erm", student="small")


def code(kind):
    """The code of a section."""
    (block,) = re.findall(r"^```python\n(.*?)^```", SECTIONS[kind], re.MULTILINE | re.DOTALL)
    return block


@pytest.mark.parametrize("kind", KINDS)
def test_each_takes_five_lines(kind):
    assert re.findall(r"^(\d)\. ", SECTIONS[kind], re.MULTILINE) == list("12345")
    prose = re.sub(r"^```.*?^```", "", SECTIONS[kind], flags=re.MULTILINE | re.DOTALL)
    assert len(prose.strip().splitlines()) == 5


def test_a_task_is_added(monkeypatch):
    """Its toy split is there at once, in its shape and classes."""
    task = eval(code("A task"), {"Task": Task})
    assert task.name not in TASKS
    monkeypatch.setitem(TASKS, task.name, task)
    data = splits.load(task.name, "toy")
    assert [len(split) for split in data.splits.values()] == [64, 32, 32]
    assert set(data.splits["train"].labels) == set(range(task.num_classes))
    assert data.task is task
    assert data.fingerprint != splits.load("section", "toy").fingerprint  # other labels are other data


@pytest.mark.slow
def test_a_model_is_added(monkeypatch, toy):
    """Its entry in the catalog is all that names, commands and models need."""
    (name, source), *_ = eval(code("A model"), {"Source": Source}).items()
    program = (
        f"from kdnb.catalog import SOURCES, Source; SOURCES[{name!r}] = {source!r}; "
        "from kdnb.cli.train import SIZES; from kdnb.core.config import RunConfig; "
        f"assert {name!r} in SIZES; "
        f"print(RunConfig(task='rt', profile='toy', data='0' * 16, method='erm', student={name!r}).run_id())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"rt-erm-{name}-s0-"), done.stderr
    monkeypatch.setitem(SOURCES, name, source)
    depths = ("minilm-4", name, "minilm-6")
    models = [classifiers.build(SimpleNamespace(**{**vars(ERM), "student": size}), toy) for size in depths]
    shallow, added, deep = (sum(p.numel() for p in model.parameters()) for model in models)
    assert added - shallow == deep - added > 0  # a layer more, a layer less


@pytest.fixture
def focal():
    """The page's method, gone again afterwards."""
    names = {"dataclass": dataclass, "Method": Method, "setting": setting}
    exec(code("A method"), names)
    yield names["Focal"]
    del METHODS["focal"]


def test_a_method_is_added(focal):
    """Its loss, its checks, its name and an axis of its own, by the class alone."""
    logits, labels = random_batch(3)
    config = RunConfig.of({**flat(ERM), "method": "focal", "gamma": 0.0})
    torch.testing.assert_close(batch_loss(config, logits, labels), torch.nn.functional.cross_entropy(logits, labels))
    right = torch.eye(2)[[0, 1]].double() * 3
    hard = torch.tensor([1, 0])  # where the model is wrong, the focus weighs by its doubt of the label
    p = right.softmax(dim=1)[0, 1]
    torch.testing.assert_close(focal(gamma=2.0).loss(right, hard), -((1 - p) ** 2) * p.log())
    assert json.loads(config.to_json())["gamma"] == 0.0
    assert RunConfig.from_dict(json.loads(config.to_json())) == config
    with pytest.raises(ValueError, match="gamma must be >= 0, got -1"):
        config.changed(gamma=-1.0)
    assert focal.settings()["gamma"].axis
    points = [config.changed(gamma=value, seed=seed) for value in (0.5, 1.0, 3.0) for seed in (0, 1)]
    assert len({point.run_id() for point in points}) == 6
    assert {point.prefix() for point in points} == {"rt-focal-small-s0", "rt-focal-small-s1"}


COMMANDS = """
import sys
from dataclasses import dataclass
from kdnb.core.methods import Method, setting
exec(sys.argv[1])
from kdnb.cli import commands, train
from kdnb.experiment import tables
from kdnb.studies import registry
from kdnb.sweeps import grids, only
from kdnb.sweeps.grids import Cell, Grid, points_without_curves

commands.app(["train", "--help"], standalone_mode=False)
cell = Cell("", "focal", "small", "", [*points_without_curves({"gamma": (0.5, 1.0, 3.0)}), {}])
grids.register("focal", Grid(title="gamma", fields=lambda *_: [], arms=(), pairs=lambda *_: [cell], search=False))
part = only.parse(["gamma=1..2"])
print(*(p.config.gamma for p in grids.stages("focal", "rt", "toy", "0" * 16, (0,), only=part).points))
commands.app(["train", "rt", "--profile", "toy", "--method", "focal", "--gamma", "1"], standalone_mode=False)
print(train.train(train.Training(task="rt", profile="toy", method="focal", student="small"))["run_id"])
print(sorted(tables.tidy(tables.load_runs()).gamma))
"""


@pytest.mark.slow
def test_a_method_in_the_core_reaches_commands_grids_and_tables(tmp_path):
    """A class that is there before the commands are imported, as one written into kdnb/core/methods.py is."""
    environment = {**os.environ, "KDNB_OUTPUTS": str(tmp_path), "KDNB_REFERENCE": str(tmp_path / "none")}
    done = forked.run([sys.executable, "-c", COMMANDS, code("A method")], env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"--gamma \S+ +focal: weight of hard examples", done.stdout)
    assert "\n1.0 2.0\n" in done.stdout  # the one of the grid, and the method's default
    assert done.stdout.endswith("[1.0, 2.0]\n")


def test_a_method_leaves_the_names_of_other_runs_alone(focal):
    others = [ERM, replace(ERM, method="ls", alpha=0.3)]
    names = [config.run_id() for config in others]
    assert [RunConfig.of(flat(config)).run_id() for config in others] == names
    assert not any("gamma" in config.to_json() for config in others)


@pytest.mark.slow
def test_a_study_is_added(tmp_path, monkeypatch):
    """Its folder and its name in STUDIES: the grid is known, planned by name, and gone with the name.

    Claims, simulations and notebooks of a study: tests/studies/test_registry.py.
    """
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "__init__.py").write_text('"""Two rates."""')
    (tmp_path / "rates" / "grids.py").write_text(code("A study"))
    monkeypatch.setattr(kdnb.studies, "__path__", [*kdnb.studies.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "STUDIES", (*registry.STUDIES, "rates"))
    monkeypatch.setattr(grids, "GRIDS", dict(grids.GRIDS))
    try:
        assert "rates" in registry.grids()
        points = grids.stages("rates", "rt", "toy", "0" * 16).points
        assert [point.config.lr for point in points] == [1e-4, 2e-4]
    finally:
        for module in [name for name in sys.modules if name.startswith("kdnb.studies.rates")]:
            del sys.modules[module]


@pytest.mark.parametrize(
    ("part", "name"), {"claims": "CHAPTER", "simulations": "SIMULATIONS", "notebooks": "steps"}.items()
)
def test_a_study_is_made_of_the_parts_that_the_page_names(part, name):
    assert f"`{part}.py`" in SECTIONS["A study"]
    files = list((paths.ROOT / "kdnb" / "studies").glob(f"*/{part}.py"))
    assert files
    for path in files:
        assert re.search(rf"^(?:def )?{name}\b", path.read_text(encoding="utf-8"), re.MULTILINE), path


def made_notebook(path, **changes):
    """A notebook as the list has it; changes: part -> another source."""
    parts = {
        "title": "# More than a skeleton?\n\n**The question.** As the title has it. Seconds on any CPU.",
        "parameters": code("A notebook").rstrip(),
        "predict": "## Predict first\n\nWrite down a guess.",
        "result": "print(task, profile)",
        "reading": "## Reading\n\nWhat it shows, what it does not.",
        "exercises": "## Try it yourself\n\n**Exercise 1.** Change the task.",
        "solution": "print('rt')",
    } | changes
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    for name, source in parts.items():
        new = (
            nbformat.v4.new_code_cell if name in ("parameters", "result", "solution") else nbformat.v4.new_markdown_cell
        )
        tags = {"tags": [name]} if name in ("parameters", "solution") else {}
        notebook.cells.append(new(source, metadata=tags))
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize("check", skeleton.CHECKS, ids=lambda check: check.__name__)
def test_a_notebook_is_added(check, tmp_path):
    check(made_notebook(tmp_path / "99_skeleton.ipynb"))


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (skeleton.has_one_cell_of_literal_parameters, {"parameters": "profile: str = 'c' + 'pu'"}),
        (skeleton.shows_papermill_its_parameters, {"parameters": "profile: str = 'cpu'  # or x = 1"}),
        (skeleton.keeps_the_skeleton, {"reading": "## Results"}),
        (skeleton.keeps_the_skeleton, {"title": "# Is it?\n\n**The question.** It is."}),
        (skeleton.has_short_cells, {"result": "\n".join(["1"] * 26)}),
        (skeleton.spells_no_path_and_fetches_nothing, {"result": "open('../x')"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_notebook_without_it_is_refused(check, changes, tmp_path):
    with pytest.raises((AssertionError, ValueError)):
        check(made_notebook(tmp_path / "99_skeleton.ipynb", **changes))
