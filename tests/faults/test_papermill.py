"""Notebooks take parameters: no value becomes code, no copy lies elsewhere, and no kernel is waited for without end."""

import ast
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
import refusals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdnb import paths
from kdnb.errors import NotebookFailed
from kdnb.report import notebooks, parameters

pytestmark = pytest.mark.faults
EXAMPLES = int(os.environ.get("KDNB_FAULTS_EXAMPLES", "150"))
TOGETHER = 8
SOON = 60  # seconds, on a busy machine
PLAIN = st.recursive(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.booleans(), st.none())
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inside: st.lists(inside, max_size=3),
    max_leaves=6,
)
TRICKS = [
    "x;import os",
    "{__import__('os').system('touch MARK')}",
    "f'{1}'",
    *("\\", "\\\\", '"', "'", '"""', "'''", "\n", "\r", "\x00", "%%bash", "!touch MARK", "%run x", "\\N{X}"),
    '"; import os; os.system("touch MARK"); "',
    '\\"; import os #',
    "\u2028import os",
    "\x0cimport os",
    "$(touch MARK)",
    "`touch MARK`",
    "!!python/object/apply:os.system ['touch MARK']",
]


@pytest.fixture(autouse=True)
def row(request, record_property):
    with refusals.counting(request, record_property, "papermill", request.node.originalname[5:].replace("_", " ")):
        yield


def notebook(folder, *sources, name="made", cell="text: str = ''\nmany: list = []"):
    """A notebook with that parameters cell, and cells."""
    first = nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "", "language": "python"}
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": kernel}, cells=[first, *map(nbformat.v4.new_code_cell, sources)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@given(values=st.dictionaries(st.sampled_from(["text", "many", "other"]), PLAIN))
@settings(
    max_examples=2 * EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_values_stand_in_the_notebook_as_literals(values):
    """What papermill writes is assignments of literals, and those are the values."""
    from papermill.translators import papermill_translators

    code = papermill_translators.find_translator("python3", "python").codify(values)
    body = ast.parse(code).body
    assert all(isinstance(node, ast.Assign) for node in body)
    assert {node.targets[0].id: ast.literal_eval(node.value) for node in body} == values
    refusals.seen()


def test_tricks_are_text_in_a_kernel(tmp_path):
    """All at once in a list, and each is what was given; nothing was run."""
    report = "import json, os; print(json.dumps([text, many, sorted(os.listdir('.'))]))"
    path = notebook(tmp_path / "source", report)
    before = sorted(os.listdir(paths.NOTEBOOKS))
    values = {"text": TRICKS[1], "many": TRICKS}
    parameters.check(path, values)
    copy = notebooks.run_notebook(path, tmp_path / "copy.ipynb", values)
    (output,) = (o.text for cell in nbformat.read(copy, as_version=4).cells for o in cell.get("outputs", []))
    assert json.loads(output) == [TRICKS[1], TRICKS, before]
    refusals.seen(len(TRICKS))


@pytest.mark.parametrize(
    "value", ["half \udc80", ["a", ["\ud800"]], float("inf"), [float("nan")], {"a": 1}, [{"a": 1}], b"x", object()]
)
def test_a_value_that_is_no_literal(tmp_path, value):
    path = notebook(tmp_path, cell="anything = some()")
    with pytest.raises(ValueError, match="made: parameter anything must be a plain value, got "):
        parameters.check(path, {"anything": value})
    refusals.seen()


OUTPUTS = [
    "../x",
    "/etc/x",
    "a/b",
    "..",
    ".",
    "",
    "{task}",
    "s3://bucket/x",
    "http://host/x",
    "x\x00",
    "a\\b",
    "x\n",
    "x" * 300,
]


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_copy_cannot_lie_elsewhere(store, name):
    """The name of an executed copy, which is made of parameters' values; in braces it is taken as it stands."""
    output = notebooks.Step("made", {"text": name}).output
    assert output.parent == paths.EXECUTED
    assert "/" not in output.name
    if name != "{task}":
        with pytest.raises(ValueError, match="cannot name a file"):
            paths.inside(paths.EXECUTED, name)
    with pytest.raises(ValueError, match="unknown notebook"):
        notebooks.notebook_path(f"../{name}")
    refusals.seen(3)


@pytest.mark.parametrize("link", ["folder", "file"])
def test_a_link_that_leads_out_of_outputs(tmp_path, store, link):
    elsewhere, output = tmp_path / "elsewhere", notebooks.Step("made", {}).output
    elsewhere.mkdir()
    paths.OUTPUTS.mkdir(exist_ok=True)
    if link == "folder":
        paths.EXECUTED.symlink_to(elsewhere)
    else:
        paths.EXECUTED.mkdir()
        output.symlink_to(elsewhere / "x.ipynb")
    with pytest.raises((ValueError, OSError), match="link that leads out of"):
        _ = notebooks.Step("made", {}).output
    assert not list(elsewhere.iterdir())
    refusals.seen()


def test_braces_in_a_folders_name_are_no_parameters(tmp_path):
    path = notebook(tmp_path / "{text} {0}", "print(text)", name="made {many}")
    copy = notebooks.run_notebook(path, tmp_path / "{out}" / "copy.ipynb", {"text": "as it is"})
    assert copy == tmp_path / "{out}" / "copy.ipynb"
    assert "as it is" in copy.read_text()
    refusals.seen()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import time; time.sleep(600)", "made: cell 2 took more than 3 s and was ended"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "made: cell 2 took more than 3 s and was ended"),
        (
            "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
            "made: cell 2 took more",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "made: the kernel died in cell 2"),
        ("import os; os._exit(0)", "made: the kernel died in cell 2"),
        ("import ctypes; ctypes.string_at(0)", "made: the kernel died in cell 2"),
        ("raise SystemExit(3)", "made: cell 2 raised SystemExit: 3"),
    ],
)
def test_a_kernel_that_hangs_or_is_killed(tmp_path, source, told):
    """In bounded time, the notebook and its cell named; the copy shows how far it came; no kernel is left."""
    path, output = notebook(tmp_path, "print('before')", source), tmp_path / "copy.ipynb"
    started = time.monotonic()
    with pytest.raises(NotebookFailed) as failed:
        notebooks.run_notebook(path, output, {}, timeout=3)
    assert time.monotonic() - started < SOON
    assert str(failed.value).startswith(told)
    assert str(output) in str(failed.value)
    assert "before" in output.read_text()
    assert not [line for line in _processes() if "ipykernel" in line and str(os.getpid()) == line.split()[1]]
    refusals.seen()


def _processes():
    """pid, parent and command of every process."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if " Z" not in line[:30]]


def test_a_kernel_that_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "START", 1)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text("import time; time.sleep(30)")
    path, started = notebook(tmp_path, "print(1)"), time.monotonic()
    with pytest.raises(NotebookFailed, match="made: no kernel within 1 s, the machine may be busy"):
        notebooks.run_notebook(path, tmp_path / "copy.ipynb", {})
    assert time.monotonic() - started < SOON
    refusals.seen()


ONE = """
import sys
from pathlib import Path
from kdnb.report import notebooks
notebooks.run_notebook(Path(sys.argv[1]), Path(sys.argv[2]), {"text": sys.argv[3]})
"""


def test_eight_notebooks_at_once(tmp_path, share):
    """Processes of their own that start together: each copy is whole and its own; no port or file is shared."""
    path = notebook(tmp_path, "import time; time.sleep(0.5)\nprint('given', text)")

    def run(number):
        words = [sys.executable, "-c", textwrap.dedent(ONE), str(path), str(tmp_path / f"{number}.ipynb"), str(number)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)

    for around in range(share(20)):
        numbers = range(TOGETHER * around, TOGETHER * (around + 1))
        with ThreadPoolExecutor(TOGETHER) as pool:
            for done in pool.map(run, numbers):
                assert (done.returncode, done.stderr) == (0, "")
        for number in numbers:
            cells = nbformat.read(tmp_path / f"{number}.ipynb", as_version=4).cells
            assert [o.text for cell in cells for o in cell.get("outputs", [])] == [f"given {number}\n"]
            refusals.seen()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_killed_study_leaves_no_kernel(tmp_path):
    """The process that runs a notebook is asked to end: its kernel ends too."""
    path = notebook(tmp_path, f"open({str(tmp_path / 'mark')!r}, 'w').close()\nimport time; time.sleep(600)")
    words = [sys.executable, "-c", textwrap.dedent(ONE), str(path), str(tmp_path / "copy.ipynb"), "x"]
    running, started = subprocess.Popen(words), time.monotonic()
    while not (tmp_path / "mark").exists():
        assert time.monotonic() - started < 3 * SOON
        time.sleep(0.2)
    children = [line.split()[0] for line in _processes() if line.split()[1] == str(running.pid)]
    assert children
    running.send_signal(signal.SIGKILL)
    running.wait()
    while left := [pid for pid in children if os.path.exists(f"/proc/{pid}")]:
        assert time.monotonic() - started < 5 * SOON, left
        time.sleep(0.5)
    refusals.seen()
