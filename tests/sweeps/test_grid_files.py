"""A grid from a file: planned, swept and taken up again like any other; what is none is one line."""

import json

import pytest
from command import last_json

from kdnb import paths
from kdnb.sweeps import grid_files, grids

TOML = """
title = "two rates"
arms = ["erm_small", "ls_small", "kd_standard"]
schedule = "linear"

[axes]
lr = [1e-2, 2e-2]
epochs = 1

[axes.ls_small]
alpha = [0.1, 0.3, 0.3]
"""
WHERE = ["--task", "rt", "--profile", "toy", "--seeds", "0"]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "my rates.toml"
    file.write_text(TOML)
    return file


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """As a new process has it."""
    monkeypatch.setattr(grid_files, "_CONTENT", {})
    known = dict(grids.GRIDS)
    yield
    grids.GRIDS.clear()
    grids.GRIDS.update(known)


def test_a_file_names_a_grid(kdnb, path):
    code, out, err = kdnb("plan", path, *WHERE, "--no-probe", "--json")
    assert (code, err) == (0, "")
    found = last_json(out)
    assert found["grid"].startswith("my-rates-")
    assert found["runs"] == 2 + 4 + 2  # ERM, LS, KD
    assert found["teachers"]["runs"] == 2  # of the large model
    assert "two rates" in out
    assert not paths.SWEEPS.exists()


def test_another_content_is_another_grid(path, tmp_path):
    first = grid_files.named(path)
    assert grid_files.named(path) == first
    path.write_text(TOML.replace("two", "three"))
    assert grid_files.named(path) != first
    same = tmp_path / "my rates.json"
    same.write_text(json.dumps({"arms": ["erm_small"], "axes": {"lr": [1e-4]}}))
    (cell,) = grids.cells(grid_files.named(same), "rt", "toy")
    assert cell.changes == [{"lr": 1e-4, "history_points": 0}]


@pytest.mark.slow
def test_a_sweep_of_a_file_goes_on_without_it(kdnb, path):
    words = ["--arms", "erm_small,ls_small", *WHERE, "--threads", "1"]
    code, _, err = kdnb("sweep", path, *words)
    assert code == 0, err
    path.unlink()
    (name,) = (file.stem for file in paths.SWEEPS.glob("*.json"))
    (kept,) = paths.GRIDS.iterdir()
    grids.GRIDS.pop(kept.stem)
    found = last_json(kdnb("status", name, "--json")[1])
    assert (found["done"], found["left"]) == (6, 0)
    assert last_json(kdnb("select", kept.stem, *words[:-2], "--json")[1])["selected"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("arms = [", "no grid can be read"),
        ("title = 'x'", "arms must name one or more of"),
        ("arms = ['erm_smal']", "did you mean 'erm_small'?"),
        ("arms = 'erm_small'", "arms must be a list, got 'erm_small'"),
        ("arms = ['erm_small']\naxis = 1", "did you mean 'axes'?"),
        ("arms = ['erm_small']\n[axes]\nlrs = [1]", "did you mean 'lr'?"),
        ("arms = ['erm_small']\n[axes]\nlr = ['fast']", "axis lr must have values of type float, got 'fast'"),
        ("arms = ['erm_small']\n[axes]\nepochs = [1.5]", "axis epochs must have values of type int, got 1.5"),
        ("arms = ['erm_small']\n[axes]\nepochs = []", "got none"),
        ("arms = ['erm_small']\n[axes]\nlr = [2.0]", "lr must be in (0, 1), got 2.0"),
        ("arms = ['erm_small']\n[axes]\nalpha = [0.5]", "alpha must be 0.0 for erm"),
        ("arms = ['erm_small']\nschedule = 'cosine'", "schedule must be one of linear, constant"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_grid_is_one_line(kdnb, tmp_path, content, told):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_text(content)
    code, out, err = kdnb("plan", path, *WHERE)
    assert (code, out) == (2, "")
    assert err.startswith(f"kdnb: {path}: ")
    assert told in err
    assert len(err.splitlines()) == 1


def test_control_characters_of_a_title_are_spelled_out(kdnb, path):
    path.write_text(TOML.replace("two rates", "two\\u001b]0;x\\u0007rates"))
    code, out, _ = kdnb("plan", path, *WHERE, "--no-probe")
    assert code == 0
    assert "two\\x1b]0;x\\x07rates" in out
    assert "\x1b" not in out
