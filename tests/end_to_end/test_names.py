"""Names that users type never become files elsewhere: one function makes paths, and unknown tasks are refused."""

import os
import re
import sys

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from kdnb import paths
from kdnb.analysis import figures
from kdnb.experiment import tables
from kdnb.report import notebooks, parameters
from kdnb.report.notebooks import run
from kdnb.sweeps import progress, record

ELSEWHERE = "x/../../../../../../../../elsewhere/z"
NAMED_FOLDERS = "FIGURES|EXECUTED|SWEEPS|GRIDS|RUNNING|FAILED|SIMULATIONS|SIMULATIONS_REFERENCE"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "/a", "a\\b", "a\0b", "a\nb", "\x1b]0;t\x07", "a:b", "a*b"]
)
def test_a_name_that_is_not_one_component_of_safe_characters_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a file") as refused:
        paths.inside(tmp_path, name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["a.json", ".a.lock", "digits@0.2__x.png", "größe (1), b=c.csv", "..a", "a" * 255])
def test_a_fair_name_is_kept_as_it_is(tmp_path, name):
    assert paths.inside(tmp_path, name) == tmp_path / name


def test_a_long_name_is_refused_in_a_short_line(tmp_path):
    with pytest.raises(ValueError, match="100,000 bytes, at most 255") as refused:
        paths.inside(tmp_path, "a" * 100_000)
    assert len(str(refused.value)) < 200


def test_a_link_that_leads_elsewhere_is_refused(tmp_path):
    folder, outside = tmp_path / "figures", tmp_path / "outside.png"
    folder.mkdir()
    (folder / "out.png").symlink_to(outside)
    (folder / "in.png").symlink_to(folder / "other.png")
    with pytest.raises(ValueError, match="leads out of"):
        paths.inside(folder, "out.png")
    assert paths.inside(folder, "in.png").name == "in.png"


@pytest.mark.parametrize("path", sorted((paths.ROOT / "kdnb").rglob("*.py")), ids=lambda path: path.stem)
def test_no_other_module_joins_a_name_to_these_folders(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(rf"paths\.({NAMED_FOLDERS})\b\s*/", text)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_figure_is_saved_below_figures_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "a" / "b" / "figures")
    paths.FIGURES.mkdir(parents=True)
    for notebook in ("32_temperature__../../../../z", "32_temperature__x/../../../z", str(tmp_path / "z")):
        with pytest.raises(ValueError, match="cannot name a file"):
            figures.save(plt.figure(), notebook, "limits", pd.DataFrame(), "seen")
    assert everything(tmp_path) == ["a", "a/b", "a/b/figures"]
    figures.save(plt.figure(), "30_kd_vs_ls__own:what? a|b*", "entropy", pd.DataFrame({"a": [1]}), "seen")
    assert everything(paths.FIGURES) == [f"30_kd_vs_ls__own-what- a-b-__entropy.{kind}" for kind in ("csv", "png")]
    plt.close("all")


@pytest.mark.parametrize("name", ["FAILED", "SWEEPS"])
def test_records_lie_in_their_folders(store, tmp_path, name):
    if name == "FAILED":
        with pytest.raises(ValueError, match="cannot name a file"):
            progress.record_failure(["../../z"], "an error", 1)
    assert record.read("../../z") is None
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        (f"task={ELSEWHERE}", "unknown task 'x/"),
        ("task=rtt", "unknown task 'rtt'; did you mean 'rt'?"),
        ("task=5", "unknown task '5'"),
        ("task=rt@2", "label noise must be a share"),
        (
            "profile=tоy",
            "unknown profile 'tоy'; 'о' in it is CYRILLIC SMALL LETTER O, did you mean 'toy'?",
        ),
    ],
)
def test_kdnb_run_refuses_an_unknown_task_or_profile_before_anything_is_written(parameter, said, store, tmp_path):
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        run("32_temperature", [parameter])
    assert "\n" not in str(refused.value)
    assert everything(tmp_path) == []


@pytest.mark.slow
def test_the_command_line_says_so_in_one_line_with_exit_code_2(tmp_path):
    import subprocess

    command = [sys.executable, "-c", "from kdnb.cli.main import main; main()"]
    command += ["run", "32_temperature", "-p", "profile=toy", "-p", f"task={ELSEWHERE}"]
    env = {**os.environ, "KDNB_OUTPUTS": str(tmp_path / "a" / "outputs")}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("kdnb: ")
    assert done.stderr.count("\n") == 1
    assert everything(tmp_path) == []


@pytest.mark.parametrize("notebook", ["20_finetune", "21_grid_search"])
def test_a_notebook_that_trains_takes_no_task_of_your_own_before_a_command_was_given_its_file(kdnb, notebook):
    code, _, err = kdnb("run", notebook, "-p", "task=own:my reviews", "-p", "profile=toy")
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("kdnb: own:my reviews: no command was given such a file here; kdnb compare --data FILE")


def test_your_own_task_is_no_unknown_task():
    path = notebooks.notebook_path("30_kd_vs_ls")
    parameters.check(path, {"task": "own:my reviews"})
    with pytest.raises(tables.NoRuns):
        tables.study("own:my reviews", "toy")


@pytest.mark.parametrize("look_up", [tables.study, tables.stored_configs])
def test_runs_of_an_unknown_task_are_no_gap_but_a_mistake(look_up, store):
    with pytest.raises(ValueError, match="unknown task 'rtt'; did you mean 'rt'"):
        look_up("rtt", "toy")
