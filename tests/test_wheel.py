"""A wheel works alone: notebooks and runs come with it, and what is made goes to the user's folder."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import tomllib

import pytest
from command import KDNB

from kdnb import paths

SETUP = runpy.run_path(str(paths.ROOT / "setup.py"), run_name="read")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages with kdnb in it as a wheel leaves it, of a repository with two notebooks and a few runs."""
    folder = tmp_path_factory.mktemp("site")
    root = tmp_path_factory.mktemp("repository")
    for name in SETUP["SHIPPED"]:
        (root / name).mkdir(parents=True)
    for name in ("10_entropy_of_targets", "34_calibration"):
        shutil.copy(paths.ROOT / "notebooks" / f"{name}.ipynb", root / "notebooks")
    for name in SETUP["FILES"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.ROOT / name, root / name)
    reference = paths.ROOT / "outputs" / "reference"
    for run in (reference / "runs").glob("mrpc-*"):
        shutil.copytree(run, root / "outputs" / "reference" / "runs" / run.name)
    shutil.copytree(reference / "labels", root / "outputs" / "reference" / "labels", dirs_exist_ok=True)
    shutil.copytree(paths.ROOT / "kdnb", folder / "kdnb", ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    SETUP["ship"](root, folder / "kdnb" / "shipped")
    return folder


@pytest.fixture
def wheel(site, tmp_path):
    """wheel(*words): the installed command, from any folder, with a home and no variable of ours."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KDNB_")}
    search = os.pathsep.join([str(site), *os.environ["PYTHONPATH"].split(os.pathsep)[:1]])
    environment = {**kept, "HOME": str(tmp_path / "home"), "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"}

    def process(*command):
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)

    def call(*words):
        return process(*KDNB, *words)

    call.home, call.elsewhere, call.process = tmp_path / "home", elsewhere, process
    return call


def lying(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_the_command_reads_the_shipped_runs_from_any_folder(wheel, site):
    before = lying(site)
    done = wheel("run", "34_calibration", "-p", "task=mrpc")
    assert done.returncode == 0, done.stderr
    (executed,) = (wheel.home / "kdnb" / "outputs" / "executed").iterdir()
    assert executed.name.startswith("34_calibration__mrpc")
    assert done.stdout.endswith(f"executed: {executed}\n")
    assert lying(site) == before
    assert list(wheel.elsewhere.iterdir()) == []


@pytest.mark.slow
def test_the_committed_runs_come_along_and_are_whole(wheel, site):
    runs = list((site / "kdnb" / "shipped" / "outputs" / "reference" / "runs").iterdir())
    done = wheel("runs", "verify", "--json")
    assert done.returncode == 0, done.stderr
    assert f'"checked": {len(runs)}' in done.stdout


@pytest.mark.slow
def test_an_unknown_notebook_names_those_that_came_along(wheel):
    done = wheel("run", "10_entropy")
    assert done.returncode == 2
    assert "known: 10_entropy_of_targets, 34_calibration" in done.stderr


@pytest.mark.slow
def test_the_notebooks_are_copied_into_a_folder_of_ones_own(wheel, site):
    mine = wheel.elsewhere / "my notebooks"
    done = wheel("notebooks", "my notebooks")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 notebooks in my notebooks; open them with jupyter lab 'my notebooks'\n"
    shipped = site / "kdnb" / "shipped" / "notebooks"
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == {
        path.name: path.read_bytes() for path in shipped.iterdir()
    }
    assert not (wheel.home / "kdnb").exists()


EVENING = """
import sys
from pathlib import Path
from kdnb.cli.main import main

def kdnb(*words):
    sys.argv = ["kdnb", *words]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, words

data = ["--data", "mine.csv", "--text", "review", "--label", "mood"]
kdnb("compare", *data, "--profile", "toy", "--seeds", "0", "--epochs", "1", "--arms", "ls_small", "--keep-weights")
(run,) = Path.home().glob("kdnb/outputs/runs/own-mine-ls-small-*")
kdnb("export", run.name, "model")
kdnb("predict", "model", "new.csv", "--text", "review", "--out", "told.jsonl")
"""


@pytest.mark.slow
def test_ones_own_file_is_compared_and_its_student_taken_home(wheel, site):
    """In one process, which imports once; what is made lies in the folder of the user, or where they said."""
    rows = [
        f"the plot feels {'dull' if i % 2 else 'bright'} to viewer {i},{'sad' if i % 2 else 'happy'}" for i in range(48)
    ]
    (wheel.elsewhere / "mine.csv").write_text("\n".join(["review,mood", *rows]))
    (wheel.elsewhere / "new.csv").write_text("review\na dull plot\na bright one\n")
    before = lying(site)
    done = wheel.process(sys.executable, "-c", EVENING)
    assert done.returncode == 0, done.stderr
    assert lying(site) == before
    assert {path.name for path in wheel.elsewhere.iterdir()} == {"mine.csv", "new.csv", "model", "told.jsonl"}
    outputs = wheel.home / "kdnb" / "outputs"
    (page,) = (outputs / "reports").glob("own-mine-toy-*.html")
    assert f"report: {page}" in done.stdout
    assert "bit for bit" in (wheel.elsewhere / "model" / "README.md").read_text()
    told = [json.loads(line) for line in (wheel.elsewhere / "told.jsonl").read_text().splitlines()]
    assert [row["text"] for row in told] == ["a dull plot", "a bright one"]
    assert all(sum(row["posterior"].values()) == pytest.approx(1) for row in told)
    assert set(told[0]["posterior"]) == {"sad", "happy"}


def test_a_copy_overwrites_nothing_and_one_that_fails_leaves_nothing(tmp_path, monkeypatch):
    from kdnb.report import notebooks

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "30_kd_vs_ls.ipynb").write_text("changed")
    with pytest.raises(ValueError, match=r"mine: 30_kd_vs_ls\.ipynb would be overwritten; name another folder$"):
        notebooks.copy(mine)
    assert [path.read_text() for path in mine.iterdir()] == ["changed"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file: a file, expected a folder$"):
        notebooks.copy(tmp_path / "file")
    write = notebooks.files.write_atomically

    def full(path, content):
        if path.name.startswith("34"):
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(notebooks.files, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        notebooks.copy(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_wheel_takes_along_is_committed_and_its_data_are_named():
    for folder in SETUP["SHIPPED"]:
        assert any((paths.ROOT / folder).iterdir()), folder
    assert all((paths.ROOT / file).is_file() for file in SETUP["FILES"])
    data = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    for path in (paths.ROOT / "kdnb").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc") and paths.SHIPPED not in path.parents:
            package = ".".join(path.parent.relative_to(paths.ROOT).parts)
            assert any(path.match(pattern) for pattern in data[package]), path
    assert not paths.INSTALLED  # these tests read the repository itself


def test_a_wheels_shipped_runs_are_where_the_store_looks(site):
    names = ("NOTEBOOKS", "GLOSSARY", "EXPLORER", "REFERENCE", "SIMULATIONS_REFERENCE")
    code = f"from kdnb import paths; print(*(getattr(paths, name) for name in {names}))"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KDNB_")}
    environment = {**kept, "PYTHONPATH": str(site)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=site, env=environment, capture_output=True, text=True, check=True)
    shipped = site / "kdnb" / "shipped"
    reference = shipped / "outputs" / "reference"
    docs = [shipped / "docs" / name for name in ("glossary.md", "explorer.html")]
    wanted = [shipped / "notebooks", *docs, reference / "runs", reference / "simulations"]
    assert done.stdout.split() == [str(path) for path in wanted]
    assert all(path.exists() for path in wanted)
