"""`kdnb export` and `kdnb predict`: a student that transformers loads alone, and what it says of new texts."""

import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import own_models
import pytest
from command import last_json

from kdnb import files, paths
from kdnb.cli import take_home
from kdnb.core import metrics
from kdnb.core import store as runs
from kdnb.core.store import Run
from kdnb.data.splits import load
from kdnb.experiment import obtain, weights

pytestmark = pytest.mark.slow
TOY = ["--profile", "toy", "--epochs", "1", "--precision", "fp32"]


def logits_of(folder, texts, seconds=None):
    """What transformers alone computes, text by text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for i, text in enumerate(texts):
        given = tokenizer(text, seconds[i] if seconds else None, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model(**given).logits[0].numpy())
    return np.array(rows), model.config


def test_an_exported_student_is_the_run(kdnb, tmp_path):
    run_id = last_json(kdnb("train", "mrpc", *TOY, "--keep-weights", "--json")[1])["run_id"]
    code, out, err = kdnb("export", run_id, tmp_path / "model", "--json")
    assert (code, err) == (0, "")
    assert "bit for bit" in out
    assert "trained again" not in out
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"README.md", "config.json", "model.safetensors"}
    test = load("mrpc", "toy").splits["test"]
    found, config = logits_of(tmp_path / "model", test.text, test.text2)
    np.testing.assert_allclose(found, runs.load(run_id).logits["test"], rtol=0, atol=1e-5)
    assert config.id2label == {0: "not_equivalent", 1: "equivalent"}
    card = (tmp_path / "model" / "README.md").read_text()
    stored = runs.load(run_id)
    for part in (
        stored.config.data,
        "mean entropy [nats]",
        "ECE",
        "F1 of equivalent",
        f"{stored.metrics['test']['nll']:.4f}",
        "MRPC",
    ):
        assert part in card


def test_weights_that_were_not_kept_are_trained_again_bit_for_bit(kdnb, tmp_path):
    words = ["train", "rt", *TOY, "--method", "kd", "--teacher", "large", "--json"]
    run_id = last_json(kdnb(*words)[1])["run_id"]
    before = runs.stored_ids()
    code, out, _ = kdnb("export", run_id, tmp_path / "model")
    assert code == 0
    assert "it is trained again" in out
    assert "bit for bit" in out
    assert runs.stored_ids() == before
    test = load("rt", "toy").splits["test"]
    np.testing.assert_allclose(
        logits_of(tmp_path / "model", test.text)[0], runs.load(run_id).logits["test"], rtol=0, atol=1e-5
    )


def test_other_logits_are_said_on_the_terminal_and_on_the_card(kdnb, tmp_path):
    """A stored run whose logits another machine gave."""
    run_id = last_json(kdnb("train", "rt", *TOY, "--json")[1])["run_id"]
    run = runs.load(run_id)
    moved = {split: logits + np.float32(0.25) for split, logits in run.logits.items()}
    obtain.set_aside(run_id)
    values = {split: metrics.summary(logits, run.labels[split]) for split, logits in moved.items()}
    runs.save(Run(run.config, moved, run.labels, {**run.metrics, **values}, run.history))
    code, out, _ = kdnb("export", run_id, tmp_path / "model")
    assert code == 0
    for told in (out, (tmp_path / "model" / "README.md").read_text()):
        assert "NOT the very weights of the stored run" in told
        assert "0.25" in told
        assert "bit for bit" not in told


def test_keep_weights_keeps_those_of_a_stored_run_too(kdnb, tmp_path):
    words = ["compare", "rt", "--profile", "toy", "--epochs", "1", "--seeds", "0", "--arms", "kd_self", "--json"]
    ids = [entry["run_id"] for entry in last_json(kdnb(*words)[1])["arms"]]
    assert not paths.WEIGHTS.exists()
    kdnb(*words, "--keep-weights")
    assert sorted(path.name for path in paths.WEIGHTS.iterdir()) == sorted(ids)
    (paths.WEIGHTS / ids[0] / "model.safetensors").write_bytes(b"\0" * 9)
    code, out, err = kdnb("export", ids[0], tmp_path / "model")
    assert code == 0
    assert "is not what was written" in err
    assert "trained again" in out


def test_a_student_on_ones_own_texts_goes_home_and_reads_new_ones(kdnb, tmp_path, monkeypatch):
    """From the file to a pipeline in a process that never imports kdnb."""
    rows = [(f"{'bad' if i % 2 else 'good'} word{i % 7}", "no, thanks" if i % 2 else "<yes>") for i in range(60)]
    data, new = tmp_path / "mine.csv", tmp_path / "new.csv"
    for path, part in ((data, rows), (new, rows[:5])):
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([("review", "verdict"), *part])
    words = ["compare", "--data", data, "--text", "review", "--label", "verdict", "--profile", "toy", "--seeds", "0"]
    arms = last_json(kdnb(*words, "--arms", "ls_small", "--epochs", "1", "--json")[1])["arms"]
    run_id = arms[0]["run_id"]
    code, out, err = kdnb("export", run_id, tmp_path / "model")
    assert (code, err) == (0, "")
    assert "bit for bit" in out
    assert "&lt;yes>" in (tmp_path / "model" / "README.md").read_text()
    code = (
        "import json, sys\nfrom transformers import pipeline\n"
        f"classify = pipeline('text-classification', model={str(tmp_path / 'model')!r}, truncation=True, top_k=None)\n"
        f"found = classify({[text for text, _ in rows[:5]]!r})\n"
        "assert 'kdnb' not in sys.modules\nprint(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pipelined = [{one["label"]: one["score"] for one in row} for row in json.loads(done.stdout.splitlines()[-1])]
    code, out, err = kdnb("predict", tmp_path / "model", new, "--text", "review")
    assert (code, err) == (0, "")
    predicted = list(csv.DictReader(io.StringIO(out)))
    assert [row["text"] for row in predicted] == [text for text, _ in rows[:5]]
    for row, scores in zip(predicted, pipelined, strict=True):
        p = {label: float(row[f"p({label})"]) for label in ("<yes>", "no, thanks")}
        assert p == pytest.approx(scores, abs=1e-5)
        assert row["prediction"] == max(p, key=p.get)
        assert float(row["entropy"]) == pytest.approx(-sum(x * np.log(x) for x in p.values()), abs=1e-9)
    out_file = tmp_path / "new.jsonl"
    code, out, _ = kdnb("predict", tmp_path / "model", new, "--text", "review", "--out", out_file, "--json")
    assert code == 0
    mean = np.mean([float(row["entropy"]) for row in predicted])
    labels = ["<yes>", "no, thanks"]
    assert last_json(out) == {"rows": 5, "entropy": pytest.approx(mean), "labels": labels, "file": str(out_file)}
    lines = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().splitlines()]
    assert [line["posterior"]["<yes>"] for line in lines] == [float(row["p(<yes>)"]) for row in predicted]
    (tmp_path / "long.csv").write_text("review\n" + "good word1 " * 40 + "\nwhat is this and that\n")
    code, out, err = kdnb("predict", tmp_path / "model", tmp_path / "long.csv", "--max-length", "16")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "long.csv: 1 of 2 texts are cut to 16 tokens (--max-length)" in err
    assert " % of the tokens are [UNK]" in err
    (tmp_path / "odd.csv").write_text("review\n\x1b[2Jgood word1\n")
    assert "\x1b[2Jgood" in kdnb("predict", tmp_path / "model", tmp_path / "odd.csv")[1]
    with monkeypatch.context() as terminal:
        terminal.setattr(sys.stdout, "isatty", lambda: True)
        code, out, _ = kdnb("predict", tmp_path / "model", tmp_path / "odd.csv")
    assert code == 0
    assert "\\x1b[2Jgood" in out
    assert "\x1b" not in out
    new.write_text("\n".join(text for text, _ in rows[:5]))  # a text a line, no header
    code, out, _ = kdnb("predict", tmp_path / "model", new, "--columns", "text")
    assert code == 0
    assert list(csv.DictReader(io.StringIO(out))) == predicted
    data.write_text(data.read_text().replace("good word0", "fine word0", 1))
    code, _, err = kdnb("export", run_id, tmp_path / "again")
    assert code == 0, "its weights are kept by now"
    code, _, err = kdnb("export", run_id, tmp_path / "other", "--data", data, "--text", "review", "--label", "verdict")
    assert (code, "are not those that it was trained on" in err) == (2, True), "files that are named are read"
    for path in (paths.WEIGHTS / run_id).iterdir():
        path.unlink()
    code, _, err = kdnb("export", run_id, tmp_path / "third")
    assert code == 2
    assert "are not those that it was trained on" in err
    assert not (tmp_path / "third").exists()


def test_a_student_of_pairs_asks_for_the_second_text(kdnb, tmp_path):
    """And one of single texts refuses it; an export that does not say what it was trained on answers as before."""
    new = tmp_path / "new.csv"
    new.write_text("text,other\none thing,another thing\ntwo things,no thing\n")
    for task, refused, taken, told in (
        ("mrpc", [], ["--text2", "other"], "pairs of texts, not on single texts: name the column of the second text"),
        ("rt", ["--text2", "other"], [], "single texts, not on pairs of texts: leave --text2 out"),
    ):
        run_id = last_json(kdnb("train", task, *TOY, "--json")[1])["run_id"]
        folder = tmp_path / task
        assert kdnb("export", run_id, folder)[0] == 0
        code, out, err = kdnb("predict", folder, new, "--text", "text", *refused)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert err.startswith(f"kdnb: {folder} was trained on {told}")
        code, out, _ = kdnb("predict", folder, new, "--text", "text", *taken)
        assert (code, len(out.splitlines())) == (0, 3)
        config = json.loads((folder / "config.json").read_text())
        assert config.pop("text_pairs") is (task == "mrpc")
        (folder / "config.json").write_text(json.dumps(config))
        assert kdnb("predict", folder, new, "--text", "text", *refused)[0] == 0


def test_a_file_that_was_moved_is_found_where_it_was_compared_last(kdnb, tmp_path):
    first, moved = tmp_path / "mine.csv", tmp_path / "moved.csv"
    first.write_text("text,label\n" + "".join(f"word{i} sign{i % 2},{i % 2}\n" for i in range(40)))
    words = ["--text", "text", "--label", "label", *TOY[:4], "--seeds", "0", "--arms", "erm_small", "--json"]
    kdnb("compare", "--data", first, *words)
    first.rename(moved)
    (gone,) = runs.stored_ids()
    code, _, err = kdnb("export", gone, tmp_path / "model")
    assert code == 2
    assert err.startswith(f"kdnb: run {gone}: its texts were in {first}, which is not there any more; kdnb compare")
    run_id = last_json(kdnb("compare", "--data", moved, *words)[1])["arms"][0]["run_id"]
    for one, folder in ((run_id, "model"), (gone, "as_before")):
        code, out, err = kdnb("export", one, tmp_path / folder)
        assert (code, err) == (0, ""), out


def test_bad_input_is_one_line_and_leaves_nothing(kdnb, tmp_path):
    run_id = last_json(kdnb("train", "rt", *TOY, "--json")[1])["run_id"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    (tmp_path / "p.csv").mkdir()
    (tmp_path / "new.csv").write_text("a,b\nx,\ny,z\n")
    (tmp_path / "lists.jsonl").write_text('{"a": "x"}\n{"a": ["y", "z"]}\n')
    own_models.save(tmp_path / "encoder", "bert")
    own_models.save(tmp_path / "finished", "bert", labels=("x", "y"))
    before = sorted(tmp_path.rglob("*"))
    for words, told in (
        (["export", run_id, tmp_path / "full"], "expected a new or an empty folder"),
        (["export", "rt-erm", tmp_path / "x"], "no run 'rt-erm'"),
        (["predict", tmp_path / "nothing", tmp_path / "new.csv", "--text", "a"], "no such folder"),
        (["predict", tmp_path / "full", tmp_path / "new.csv", "--text", "a"], "no config.json"),
        (["predict", tmp_path / "encoder", tmp_path / "new.csv", "--text", "a"], "expected a finished classifier"),
        (["predict", tmp_path / "finished", tmp_path / "new.csv"], "which column has the texts?"),
        (["predict", tmp_path / "finished", tmp_path / "new.csv", "--text", "c"], "no column 'c'"),
        (["predict", tmp_path / "finished", tmp_path / "new.csv", "--text", "b"], "the first is data row 1"),
        (["predict", tmp_path / "finished", tmp_path / "lists.jsonl"], "data row 2: expected one text a row"),
        (["predict", tmp_path / "finished", tmp_path / "new.csv", "--text", "a", "--out", "x.txt"], "ends in .csv or"),
        (["predict", tmp_path / "finished", tmp_path / "new.csv", "--text", "a", "--max-length", "200"], "at most 64"),
        (
            ["predict", tmp_path / "finished", tmp_path / "new.csv", "--text", "a", "--out", tmp_path / "p.csv"],
            "a folder",
        ),
        (["export", run_id, tmp_path / "new.csv" / "x"], "new.csv is no folder that you may write to"),
        (["export", run_id, tmp_path / "x", "--train-rows", "5"], "used another cut"),
    ):
        code, out, err = kdnb(*words)
        assert code == 2, (words, out)
        assert len(err.splitlines()) == 1
        assert told in err, words
    assert sorted(tmp_path.rglob("*")) == before


def test_a_prediction_as_csv_holds_no_formula():
    row = {
        "row": 1,
        "text": "=cmd|' /C calc'!A0",
        "prediction": "-",
        "entropy": -0.0,
        "posterior": {"-": 1.0, "+": 0.0},
    }
    head, line = take_home._csv([row]).splitlines()
    assert head == "row,text,prediction,entropy,p(-),p(+)"
    assert line == "1,'=cmd|' /C calc'!A0,'-,-0.0,1.0,0.0"


def test_weights_of_another_run_and_planted_files_are_not_exported(kdnb, tmp_path):
    ids = [
        last_json(kdnb("train", "rt", *TOY, "--seed", seed, "--keep-weights", "--json")[1])["run_id"] for seed in "01"
    ]
    (tmp_path / "secret").write_text("of another place")
    (paths.WEIGHTS / ids[0] / "notes.txt").symlink_to(tmp_path / "secret")
    assert kdnb("export", ids[0], tmp_path / "first")[0] == 0
    assert not (tmp_path / "first" / "notes.txt").exists()
    shutil.rmtree(paths.WEIGHTS / ids[1])
    shutil.copytree(paths.WEIGHTS / ids[0], paths.WEIGHTS / ids[1], symlinks=True)
    code, out, err = kdnb("export", ids[1], tmp_path / "second")
    assert code == 0
    assert f"holds the weights of {ids[0]}" in err
    assert "trained again" in out
    test = load("rt", "toy").splits["test"]
    found, _ = logits_of(tmp_path / "second", test.text)
    np.testing.assert_allclose(found, runs.load(ids[1]).logits["test"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "harm",
    [
        {"files": None},
        {"files": []},
        {"files": {}},
        {"files": {"../a": "0"}},
        {"files": {"model.safetensors": 3}},
        {"difference": "none"},
        {"labels": [1]},
    ],
)
def test_a_harmed_record_of_weights_is_told_and_they_are_not_used(kdnb, store, harm, capsys):
    where = paths.WEIGHTS / "rt-erm-small-s0-000000000000"
    whole = {
        "run": where.name,
        "difference": 0.0,
        "written": 0.0,
        "title": "t",
        "pair": False,
        "labels": [],
        "files": {"a": hashlib.sha256(b"a").hexdigest()},
    }
    files.write_atomically(where / "a", b"a")
    files.write_json(where / weights.MANIFEST, whole)
    assert weights.kept(where.name)
    files.write_json(where / weights.MANIFEST, {**whole, **harm})
    assert weights.kept(where.name) is None
    assert "its weights are made again" in capsys.readouterr().err


def test_what_is_read_is_not_written_over(kdnb, tmp_path):
    (tmp_path / "new.csv").write_text("text,mine\na,1\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "new.csv")
    for out in ("new.csv", "link.csv"):
        code, _, err = kdnb("predict", tmp_path, tmp_path / "new.csv", "--out", tmp_path / out)
        assert (code, "the file that is read" in err) == (2, True)
    assert (tmp_path / "new.csv").read_text() == "text,mine\na,1\n"
