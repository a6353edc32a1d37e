"""Parameters of notebooks: numbers as people type them, wrong types in one line, a file of its own for every set."""

import itertools
import json
import sys

import nbformat
import pytest

from kdnb import paths
from kdnb.report import notebooks, parameters
from kdnb.report.notebooks import Step

TARGETS = "10_entropy_of_targets"


@pytest.fixture
def cell(tmp_path):
    """cell(source): the path of a notebook with that parameters cell."""

    def write(source, *cells):
        made = [nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})]
        made += [nbformat.v4.new_code_cell(text) for text in cells]
        kernel = {"name": "python3", "display_name": "", "language": "python"}
        path = tmp_path / "made.ipynb"
        nbformat.write(nbformat.v4.new_notebook(metadata={"kernelspec": kernel}, cells=made), path)
        return path

    return write


ANNOTATED = "a: float = 1.0\nn: int = 1\nt: str = ''\nyes: bool = False\nl: list = []\nplain = 3\nloose = some()"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=.3", 0.3), ("a=3", 3.0), ("a=-1e-3", -0.001), ("n=-2", -2), ("t=0", "0"), ("t=0,1", "0,1"),
        ("t=a=b", "a=b"),
        ('t="rt"', "rt"), ("t=", ""), ("yes=true", True), ("yes=False", False), ("l=[1, 2]", [1, 2]), ("plain=4", 4),
        ("loose=x", "x"), ("loose=1", 1),
    ],
)  # fmt: skip
def test_a_value_is_read_by_the_type_of_its_parameter(cell, text, value):
    path = cell(ANNOTATED)
    (found,) = parameters.given(path, [text]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a=0,3", "a must be a number, got '0,3'"), ("a=nan", "a must be a number, got nan"),
        ("a=1e400", "a must be a number, got inf"), ("a=true", "a must be a number, got 'true'"),
        ("n=1.0", "n must be a whole number, got '1.0'"), ("n=", "n must be a whole number, got ''"),
        ("yes=1", "yes must be true or false, got 1"), ("l=1,2", "l must be a list, got '1,2'"),
        ("plain=x", "plain must be a whole number, got 'x'"), ("a", "'a' must be name=value"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(cell, text, told):
    with pytest.raises(ValueError, match=r"made|name=value") as refused:
        parameters.given(cell(ANNOTATED), [text])
    assert told in str(refused.value)


@pytest.mark.parametrize("values", [{"n": True}, {"n": 1.0}, {"a": "1"}, {"t": 0}, {"yes": 0}, {"n": None}])
def test_a_value_of_another_type_is_refused_from_python_as_well(cell, values):
    with pytest.raises(ValueError, match=f"made: parameter {next(iter(values))} must be "):
        parameters.check(cell(ANNOTATED), values)


def test_a_parameter_is_given_once(cell):
    with pytest.raises(ValueError, match=r"parameter a is given twice, 1\.0 and '2'"):
        parameters.given(cell(ANNOTATED), ["a=1", "a=2"])


@pytest.mark.parametrize(
    ("words", "told"), [(["alpha=0,3"], "alpha must be a number"), (["num_classes=1.0"], "must be a whole number")]
)
def test_a_wrong_type_is_one_line_before_a_kernel_starts(kdnb, monkeypatch, words, told):
    import papermill

    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    code, out, err = kdnb("run", TARGETS, *[word for text in words for word in ("-p", text)])
    assert (code, out) == (2, "")
    assert err.startswith(f"kdnb: {TARGETS}: ")
    assert told in err
    assert len(err.splitlines()) == 1
    assert not paths.EXECUTED.exists()


SETS = [
    {}, {"tau": 1.0}, {"alpha": 1.0}, {"tau": 1}, {"tau": "1"}, {"tau": True}, {"a": "x-y"}, {"a": "xy"}, {"a": "x y"},
    {"a": "x", "b": "y"}, {"a": "y", "b": "x"}, {"a": "ä"}, {"a": "ö"}, {"a": ""}, {"a": "default"}, {"a": "X"},
    {"a": "x"},
    {"a": "z" * 300}, {"a": "z" * 301}, {"a": ["1", "2"]}, {"a": "['1', '2']"}, {"a": "/"}, {"a": "\0"},
]  # fmt: skip


def test_two_sets_of_parameters_never_share_a_file():
    names = [Step(TARGETS, values).output.name.lower() for values in SETS]  # as a Mac compares them
    for (one, first), (other, second) in itertools.combinations(zip(SETS, names, strict=True), 2):
        assert first != second, (one, other)
    assert max(len(name.encode()) for name in names) < 255
    assert (
        Step(TARGETS, {"a": 1, "b": "x"}).output.name.split("-")[-1]
        == (Step(TARGETS, {"b": "x", "a": 1}).output.name.split("-")[-1])
    )


@pytest.mark.slow
def test_a_kernel_is_the_python_that_runs_kdnb(cell, tmp_path, monkeypatch):
    """A user's spec "python3" of an environment that is gone is not taken."""
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    gone = {"argv": ["/gone/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    (spec / "kernel.json").write_text(json.dumps({**gone, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = cell("a: float = 1.0", "import sys; print(sys.executable, a)")
    copy = notebooks.run_notebook(path, tmp_path / "copy.ipynb", {"a": 2.0})
    (printed,) = (o.text for c in nbformat.read(copy, as_version=4).cells for o in c.get("outputs", []))
    assert printed == f"{sys.executable} 2.0\n"
