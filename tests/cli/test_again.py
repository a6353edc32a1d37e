"""`kdnb train --config` takes a run's own config.json back."""

import json

import pytest
from command import last_json

from kdnb import files, paths
from kdnb.core import store as runs

TOY = ["--profile", "toy"]
ERM = ["train", "rt", *TOY, "--epochs", "1", "--json"]


@pytest.mark.slow
def test_a_runs_own_config_is_that_run(kdnb, tmp_path):
    first = last_json(kdnb(*ERM, "--method", "kd", "--teacher", "small", "--tau", "2")[1])
    folder = paths.RUNS / first["run_id"]
    copy = tmp_path / "copy.json"
    copy.write_bytes((folder / "config.json").read_bytes())
    for named in (folder, folder / "config.json", copy):
        code, out, err = kdnb("train", "--config", named, "--json")
        assert (code, err) == (0, "")
        assert "loaded" in out
        assert last_json(out) == first
    before = runs.load(first["run_id"]).logits["test"].tobytes()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert last_json(kdnb("train", "--config", copy, "--json")[1]) == first  # trained again, bit for bit
    assert runs.load(first["run_id"]).logits["test"].tobytes() == before
    changed = last_json(kdnb("train", "--config", copy, "--tau", "4", "--json")[1])
    assert (changed["tau"], changed["teacher"], changed["run_id"] == first["run_id"]) == (4.0, first["teacher"], False)


@pytest.fixture(scope="module")
def config(quick):
    return json.loads(quick("erm_small").to_json())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words", "told"),
    [
        ({}, ["rt"], "leave out task"),
        ({}, ["--seed", "0"], "leave out seed"),
        ({}, ["--method", "erm", "--profile", "toy"], "leave out method, profile"),
        ({"data": "0123456789abcdef"}, [], "used another cut of rt (--train-rows?)"),
        ({"alphq": 1}, [], "unknown config field 'alphq'"),
        ({"alpha": 0.5}, [], "alpha must be 0.0 for erm"),
        ({}, ["--epochs", "0"], "epochs must be >= 1"),
        ({"task": "own:mine"}, [], "where its texts are is not known here"),
        ({"kind": "lm"}, [], "got one of kind 'lm'"),
        (
            {"method": "kd", "alpha": 0.5, "teacher_run": "rt-erm-small-s0-000000000000"},
            [],
            "is not stored, train it first",
        ),
    ],
)
def test_what_contradicts_a_config_is_one_line(kdnb, tmp_path, config, change, words, told):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, **change}))
    code, _, err = kdnb("train", "--config", path, *words)
    assert code == 2
    assert told in err
    assert len(err.splitlines()) == 1
    assert not paths.RUNS.exists() or not [path for path in paths.RUNS.iterdir() if path.name[0] != "."]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "no JSON can be read"),
        ("[1]", "expected an object"),
        ("{}", "it lacks task, profile, data, method, student"),
        ('{"task": 5}', "it lacks profile, data, "),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(kdnb, tmp_path, content, told):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    code, _, err = kdnb("train", "--config", path)
    assert code == 2
    assert err.startswith(f"kdnb: {path}: ")
    assert told in err
    assert len(err.splitlines()) == 1


def test_no_task_and_no_config_is_one_line(kdnb):
    code, _, err = kdnb("train", *TOY)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "name a task" in err


@pytest.mark.parametrize(
    "noted",
    [
        {"rows": 3},
        {"rows": {"train": "x"}},
        {"rows": {"foo": 1}},
        {"more": 1},
        {"own": 5},
        {"own": {"path": 3}},
        {"own": {"path": "x", "columns": 5}},
        {"task": 7},
        {"profile": ["toy"]},
    ],
    ids=json.dumps,
)
def test_what_was_noted_of_data_and_harmed_is_one_line(kdnb, config, tmp_path, noted):
    files.write_json(paths.ORIGINS / f"{config['data']}.json", noted)
    files.write_json(tmp_path / "config.json", config)
    code, _, err = kdnb("train", "--config", tmp_path / "config.json")
    assert code == 2
    assert f"{config['data']}.json does not say where data came from" in err
    assert len(err.splitlines()) == 1
