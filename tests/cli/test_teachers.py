"""Teachers from the command line: tables, ensembles, what is told of them, and what is refused."""

import json
import shlex

import fakes
import numpy as np
import pandas as pd
import pytest
from command import last_json

from kdnb import paths
from kdnb.core import store as runs
from kdnb.data import splits

TOY = ["--profile", "toy"]
QUICK = [*TOY, "--epochs", "1", "--json"]


def write_table(path, missing=0.3, unknown=0.05, sure=0.8, seed=0):
    """Probabilities for generated rows as a language model would give them, some missing, some of unknown ids."""
    data = splits.load("rt", "toy")
    rng, labels = np.random.default_rng(seed), data.splits["train"].labels
    kept = np.sort(rng.permutation(len(labels))[: round((1 - missing) * len(labels))])
    strangers = round(unknown * len(kept))
    right = np.where(np.eye(2)[labels[kept]] == 1, sure, 1 - sure)
    table = pd.DataFrame(np.vstack([right, np.full((strangers, 2), 0.5)]), columns=data.task.labels)
    table.insert(0, "id", [*(f"train:{row}" for row in kept), *(f"gone-{row}" for row in range(strangers))])
    table.to_csv(path, index=False)
    return len(labels) - len(kept), strangers


@pytest.mark.slow
def test_a_table_with_gaps_and_unknown_ids_trains_and_says_both_numbers(kdnb, tmp_path):
    missing, unknown = write_table(tmp_path / "answers.csv")
    words = ["train", "rt", *QUICK, "--method", "kd"]
    code, out, err = kdnb(*words, "--teacher-table", tmp_path / "answers.csv")
    assert (code, err) == (0, "")
    assert f"{unknown} (4.3 %) of its rows name no row of rt" in out
    assert f"{missing} (29.7 %) of 64 train rows are missing: there the label alone is trained on" in out
    assert "entropy 0.500 nats, accuracy 100.0 %" in out
    assert out.index("entropy 0.500") < out.index("trained in")
    found = last_json(out)
    assert found["arm"] == "kd_small_from_table"
    assert runs.load(found["run_id"]).config.teacher_run == found["teacher"]
    again = kdnb(*words, "--teacher-table", tmp_path / "answers.csv")[1]
    assert "loaded" in again
    assert last_json(again) == found
    by_name = last_json(kdnb(*words, "--teacher", found["teacher"])[1])
    assert by_name["run_id"] == found["run_id"]
    write_table(tmp_path / "answers.csv", sure=0.9)
    other = last_json(kdnb(*words, "--teacher-table", tmp_path / "answers.csv")[1])
    assert other["run_id"] != found["run_id"]
    listed = last_json(kdnb("teachers", "list", "--json")[1])["teachers"]
    assert {one["teacher"] for one in listed} == {found["teacher"], other["teacher"]}
    assert {one["train"]["known"] for one in listed} == {64 - missing}
    assert "0 damaged" in kdnb("runs", "verify")[1]


@pytest.mark.slow
def test_an_ensemble_of_stored_runs_teaches(kdnb):
    names = [last_json(kdnb("train", "rt", *QUICK, "--seed", seed)[1])["run_id"] for seed in (0, 1)]
    code, out, _ = kdnb("teachers", "average", *names, "--json")
    assert code == 0
    ensemble = last_json(out)["teacher"]
    assert "64 train rows: entropy" in out
    code, _, err = kdnb("compare", "rt", *QUICK, "--teacher-table", f"{ensemble[:-1]}x")
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.endswith(f"; did you mean {ensemble!r}? (known: {ensemble})\n")
    student = last_json(kdnb("train", "rt", *QUICK, "--method", "kd", "--teacher", ensemble)[1])
    assert (student["arm"], student["teacher"]) == ("kd_small_from_average", ensemble)
    words = ["compare", "rt", *QUICK, "--seeds", "0", "--arms", "ls_small", "--teacher-table", ensemble]
    compared = last_json(kdnb(*words)[1])
    assert [one["arm"] for one in compared["arms"]] == ["ls_small", "kd_small_from_average"]
    assert compared["arms"][1]["teacher"] == ensemble


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False])
def test_the_command_that_an_ensemble_is_told_with_is_taught_by_it(kdnb, tmp_path, own):
    path = tmp_path / "mine.csv"
    path.write_text("text,label\n" + "".join(f"word{i} sign{i % 2},{i % 2}\n" for i in range(40)))
    data = ["--data", str(path), "--text", "text", "--label", "label"] if own else ["rt"]
    words = [*data, *QUICK, "--arms", "erm_small", "--seeds", "0,1"]
    names = [one["run_id"] for one in last_json(kdnb("compare", *words)[1])["arms"]]
    told = kdnb("teachers", "average", *names)[1].splitlines()[-1]
    command = shlex.split(told.partition(": kdnb ")[2])
    place = command.index("...")
    command[place - 1 : place + 1] = words
    code, out, err = kdnb(*command)
    assert (code, err) == (0, "")
    assert last_json(out)["arms"][-1]["arm"] == "kd_small_from_average"


@pytest.mark.slow
def test_tables_ls_teachers_and_tempered_ones_are_arms_of_a_comparison(kdnb, tmp_path):
    write_table(tmp_path / "answers.csv")
    named = ["kd_small_from_ls_large", "kd_small_from_tempered_large"]
    words = ["compare", "rt", *QUICK, "--seeds", "0,1", "--arms", ",".join(["erm_small", "ls_small", *named])]
    code, out, err = kdnb(*words, "--teacher-table", tmp_path / "answers.csv", "--sharpness", "0.25")
    assert (code, err) == (0, "")
    found = {(one["arm"], one["seed"]): one for one in last_json(out)["arms"]}
    arms = ["erm_large", "erm_small", "ls_small", "ls_large", *named, "kd_small_from_table"]
    assert {arm for arm, _ in found} == set(arms)
    assert len({found["kd_small_from_table", seed]["teacher"] for seed in (0, 1)}) == 1
    assert runs.load(found[named[1], 0]["run_id"]).config.sharpness == 0.25
    for name in ("KD from an LS teacher", "KD from a tempered teacher", "KD from a table"):
        assert name in out


@pytest.mark.slow
def test_rows_are_written_answered_and_read_back(kdnb, tmp_path):
    path = tmp_path / "rows.csv"
    code, out, _ = kdnb("teachers", "rows", path, "--task", "rt", *TOY, "--json")
    assert code == 0
    classes = last_json(out)["classes"]
    assert "K = 2; 64 train, 32 validation, 32 test" in out
    assert "give kdnb compare the same files, profile and numbers of rows" in out
    table = pd.read_csv(path)
    assert list(table.columns) == ["id", "text", "label"]
    for name in classes:
        table[name] = np.where(table.label == name, 3, 1)
    table.to_csv(path, index=False)
    out = kdnb("train", "rt", *QUICK, "--method", "kd", "--teacher-table", path)[1]
    assert "votes of negative, positive; 128 rows by id" in out
    assert "0 (0.0 %) of 32 test rows are missing" in out
    assert runs.load(last_json(out)["run_id"]).metrics["test"]["agreement"] <= 1
    answered = path.read_bytes()
    code, _, err = kdnb("teachers", "rows", path, "--task", "rt", *TOY)
    assert (code, err) == (2, f"kdnb: {path}: is there already, and may hold answers; name a new file\n")
    assert path.read_bytes() == answered


HEAD = "id,negative,positive\n"
MISTAKES = {
    "no such file": ("train", "", ["t.csv: no such file"]),
    "sum": ("train", HEAD + "0,.5,.4\n", ["row 1: probabilities must sum to 1"]),
    "no such class": (
        "train",
        "id,neg,pos\n0,.5,.5\n",
        ["no column for class 'negative'", "or one called probabilities, logits or votes of objects"],
    ),
    "unknown ids": ("train", HEAD + "x,.5,.5\n", ["none of its 1 rows names a train row"]),
    "sum in compare": ("compare", HEAD + "0,.5,.4\n", ["row 1: probabilities must sum to 1"]),
    "form": ("form", HEAD + "0,.5,.5\n", ["probabilities, logits, votes, got 'odds'"]),
    "erm": ("erm", HEAD + "0,.5,.5\n", ["erm takes no --teacher"]),
    "two teachers": ("both", HEAD + "0,.5,.5\n", ["either --teacher (large) or --teacher-table"]),
    "hidden states": ("rkd", HEAD + "0,.5,.5\n", ["hidden states"]),
    "bad alpha": ("alpha", HEAD + "0,.5,.5\n", ["alpha must be in [0, 1]"]),
    "arm without table": ("arm", "", ["kd_small_from_table needs --teacher-table"]),
    "sharpness": ("sharpness", "", ["sharpness must be > 0"]),
}
WORDS = {
    "train": ["train", "rt", *TOY, "--method", "kd", "--teacher-table"],
    "compare": ["compare", "rt", *TOY, "--teacher-table"],
    "form": ["train", "rt", *TOY, "--method", "kd", "--teacher-form", "odds", "--teacher-table"],
    "erm": ["train", "rt", *TOY, "--teacher-table"],
    "both": ["train", "rt", *TOY, "--method", "kd", "--teacher", "large", "--teacher-table"],
    "rkd": ["train", "rt", *TOY, "--method", "rkd", "--teacher-table"],
    "alpha": ["train", "rt", *TOY, "--method", "kd", "--alpha", "2", "--teacher-table"],
    "arm": ["compare", "rt", *TOY, "--arms", "kd_small_from_table"],
    "sharpness": ["compare", "rt", *TOY, "--arms", "kd_small_from_tempered_large", "--sharpness", "0"],
}


@pytest.mark.parametrize(("which", "content", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_stored(kdnb, tmp_path, which, content, told):
    path = tmp_path / "t.csv"
    if content:
        path.write_text(content)
    words = WORDS[which]
    code, _, err = kdnb(*words, *([path] if words[-1] == "--teacher-table" else []))
    assert code == 2, err
    assert err.startswith("kdnb: ")
    assert len(err.splitlines()) == 1, err
    for part in told:
        assert part in err
    assert not paths.RUNS.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["average", "rt-erm-small-s0-000000000000", "rt-erm-small-s1-000000000000"], "no run 'rt-erm-small-s0"),
        (["average", "rt-erm-small-s0-000000000000"], "two different runs or more"),
        (["rows", "x.csv"], "name a task"),
    ],
)
def test_a_mistake_of_teachers_is_one_line(kdnb, words, told):
    code, _, err = kdnb("teachers", *words)
    assert code == 2
    assert told in err
    assert len(err.splitlines()) == 1
    assert not paths.RUNS.exists()


def test_json_lines_from_a_language_model(kdnb, tmp_path):
    """Whatever is wrong with a line is told by its number, before anything is trained."""
    path = tmp_path / "answers.jsonl"
    rows = [
        {"id": "train:0", "probabilities": {"negative": 0.2, "positive": 0.8}},
        {"id": "train:1", "probabilities": [1]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    code, _, err = kdnb("train", "rt", *TOY, "--method", "kd", "--teacher-table", path)
    assert code == 2
    assert "row 2: probabilities must be an object" in err


def test_classes_are_told_without_control_characters(kdnb, tmp_path):
    rows = [("text", "label"), *((f"a text {i}", "a\x1b]0;x\x07b" if i % 2 else "c") for i in range(60))]
    (tmp_path / "mine.csv").write_text("\n".join(map(",".join, rows)))
    words = ["--data", tmp_path / "mine.csv", "--text", "text", "--label", "label", *TOY]
    code, out, err = kdnb("teachers", "rows", tmp_path / "rows.csv", *words)
    assert (code, err) == (0, "")
    assert "a\\x1b]0;x\\x07b" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("name", [".", "", "..", "../runs/{}", "{store}/{}"])
@pytest.mark.parametrize("words", [["runs", "show"], ["teachers", "average"]], ids=" ".join)
def test_a_path_is_no_name_of_a_run(kdnb, store, words, name):
    """Another spelling of a run's name would be another run: averaged with itself, or one of another store."""
    run = fakes.made_run()
    runs.save(run)
    more = [run.run_id] if "average" in words else []
    code, _, err = kdnb(*words, name.format(run.run_id, store=store), *more)
    assert (code, "expected one name, no path" in err) == (2, True)
