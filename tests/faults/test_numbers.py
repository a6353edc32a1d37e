"""Numbers that are none and data that are hardly any: stopped with a reason, recorded, and the sweep goes on."""

import json
import math
from dataclasses import replace

import fakes
import numpy as np
import pytest
import stores
import torch

from kdnb.core import loop
from kdnb.experiment import compact

pytestmark = pytest.mark.faults
TOY = ["--profile", "toy"]
SWEEP = ["sweep", "search", "--task", "rt", *TOY, "--threads", "1", "--arms", "erm_small,ls_small", "--only", "lr=0.01"]
WRONG = {  # what becomes of the loss of label smoothing
    "nan": lambda loss, number: loss * math.nan,
    "infinite": lambda loss, number: loss * math.inf,
    "nan in the second step": lambda loss, number: loss * (math.nan if number == 1 else 1),
    "gradients that explode": lambda loss, number: loss * 1e38 * 1e38,
    "gradients of 1e30": lambda loss, number: loss * 1e30,
}


@pytest.fixture
def wrong(monkeypatch):
    """wrong(change): every loss of label smoothing goes through it from now on; others stay."""
    real = loop.batch_loss

    def spoil(change):
        def batch_loss(config, logits, labels, taught, number, total):
            loss = real(config, logits, labels, taught, number, total)
            return change(loss, number) if config.method == "ls" else loss

        monkeypatch.setattr(loop, "batch_loss", batch_loss)

    return spoil


@pytest.mark.parametrize("name", WRONG)
def test_a_loss_that_is_no_number_fails_its_point_alone(tmp_path, command, told, wrong, name):
    outputs = tmp_path / "outputs"
    wrong(WRONG[name])
    code, out, err = command(outputs, *SWEEP)
    stored = [path.name for path in (outputs / "runs").glob("[!.]*")]
    assert any("-erm-" in run for run in stored)
    failed = [json.loads(path.read_text()) for path in (outputs / "failed").glob("*.json")]
    smoothed = [run for run in stored if "-ls-" in run]
    if name == "gradients of 1e30":  # clipped, and a training like any other
        assert (code, failed, bool(smoothed)) == (0, [], True)
    else:
        assert (code, smoothed, bool(failed)) == (1, [], True)
    bad = sum("diverged" not in one["error"] or "learning rate" not in one["error"] for one in failed)
    bad += sum("FAILED" in line and "diverged" not in line for line in out.splitlines()) + ("Traceback" in err)
    told("Numbers", f"loss or gradients: {name}", 1, corrupted=len(stores.verified(outputs)), unclear=bad)


def test_a_loss_that_is_no_number_ends_a_training_with_its_reason(tmp_path, command, told, unclear, wrong):
    wrong(WRONG["nan"])
    code, _, err = command(tmp_path / "outputs", "train", "rt", *TOY, "--method", "ls")
    lost = [path.name for path in (tmp_path / "outputs" / "runs").glob("[!.]*")]
    told(
        "Numbers",
        "loss nan in `kdnb train`",
        1,
        lost=len(lost),
        unclear=code != 2 or unclear(err, "its loss is nan by"),
    )


def test_logits_too_large_for_half_precision_are_not_copied(store, tmp_path, told):
    from kdnb.core import metrics
    from kdnb.core import store as runs

    run = fakes.made_run()
    logits = {split: z * np.float32(1e5) for split, z in run.logits.items()}
    values = {split: metrics.summary(z, run.labels[split]) for split, z in logits.items()}
    runs.save(replace(run, logits=logits, metrics=run.metrics | values))
    with pytest.raises(ValueError, match="do not fit half precision"):
        compact.compact(run.run_id, tmp_path / "to" / "runs")
    assert not (tmp_path / "to").exists()
    told("Numbers", "logits beyond fp16 in a compact store", 1)


@pytest.mark.parametrize("value", [1e5, math.nan, -math.inf])
def test_hidden_states_beyond_half_precision_make_no_cache(tmp_path, told, value):
    from kdnb.studies.language_models import caching, models, target_cache
    from kdnb.studies.language_models.source import MarkovSource

    teacher, blocks = models.from_config(models.CONFIGS["llama-1x32"], 64, seed=0), MarkovSource().blocks(6, 8, 0)
    manifest = caching.manifest_of(teacher, blocks, caching.Wanted(storage="hidden", shard_rows=4))
    folder = target_cache.begin(manifest, blocks, tmp_path / "cache")

    def forward(ids):
        states = torch.zeros(*ids.shape, 32)
        states[1, 2, 3] = value
        return states

    with pytest.raises(target_cache.Overflow, match=r"states of sequence 1 are no finite float16"):
        target_cache.make_shard(folder, 0, blocks.ids, (forward, teacher.head))
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", target_cache.TOKENS]
    told("Numbers", "teacher's states beyond fp16 in a target cache", 1)


def test_a_language_models_loss_that_is_no_number(tmp_path, told):
    from kdnb.errors import Diverged, KdnbError
    from kdnb.studies.language_models import models, training
    from kdnb.studies.language_models.config import LMConfig
    from kdnb.studies.language_models.source import MarkovSource

    train = MarkovSource().blocks(16, 16, 0)
    config = LMConfig(
        data=train.fingerprint,
        held_out="",
        length=16,
        student="s",
        student_weights="",
        vocabulary=64,
        tokens=16 * 40,
        batch_size=8,
        lr=1e-2,
        precision="fp32",
    )
    student = models.student("llama-1x32", None, 64, 0)
    with torch.no_grad():
        student.head.weight[3, 3] = math.nan
    state = tmp_path / "state.safetensors"
    with pytest.raises(Diverged, match=r"the loss of step 1 is nan; a smaller learning rate than 0\.01"):
        training.fit(config, student, train, training.NoTargets(), training.Watch(state, 0.0))
    assert issubclass(Diverged, KdnbError)
    assert not state.exists()
    told("Numbers", "a language model's loss is nan", 1)


def texts(count, labels=("good", "bad"), words=6):
    return [f"{' '.join(f'w{i}x{j}' for j in range(words))},{labels[i % len(labels)]}" for i in range(count)]


def many(count, of_each):
    return [f"text {i} of {i % count},name{i % count}" for i in range(count * of_each)]


FILES = {  # what a file holds -> its rows, further words, and what the line must say
    "no row": (lambda: [], [], ""),
    "one example": (lambda: texts(1), [], ""),
    "two examples": (lambda: texts(2), [], ""),
    "one class": (lambda: texts(40, ("good",)), [], "one class only"),
    "no train rows": (lambda: texts(40), ["--train-rows", "-1"], ""),
    "100,000 label names, one row each": (lambda: many(100_000, 1), [], "is it the label?"),
    "100,000 label names, three rows each": (lambda: many(100_000, 3), [], "fewer than its 100000 classes"),
    "513 tokens": (lambda: texts(40), ["--max-length", "513"], "max_length must be"),
    "a learning rate of 1": (lambda: texts(40), ["--lr", "1"], "lr must be"),
    "a learning rate that is none": (lambda: texts(40), ["--lr", "nan"], "lr must be"),
}


@pytest.mark.parametrize("name", FILES)
def test_data_that_cannot_be_trained_on(tmp_path, command, told, unclear, name):
    rows, more, words = FILES[name]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["text,label", *rows()]) + "\n")
    asked = ["compare", "--data", path, "--text", "text", "--label", "label", *TOY, "--seeds", "0", *more]
    code, _, err = command(tmp_path / "outputs", *asked)
    there = list((tmp_path / "outputs" / "runs").glob("[!.]*"))
    bad = code != 2 or unclear(err, *([words] if words else []))
    assert not bad, err
    told("Numbers", "data that cannot be trained on", 1, lost=len(there), unclear=bad)


GOOD = {
    "rows longer than a model reads": (lambda: texts(24, words=400), ["--max-length", "64"]),
    "a batch that ends with one example": (lambda: texts(60), ["--train-rows", "33"]),
    "a batch larger than the data": (lambda: texts(24), ["--train-rows", "4"]),
}


@pytest.mark.parametrize("name", GOOD)
def test_data_at_the_edge_are_trained_on(tmp_path, command, told, name):
    rows, more = GOOD[name]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["text,label", *rows()]) + "\n")
    asked = ["compare", "--data", path, "--text", "text", "--label", "label", *TOY, "--seeds", "0", "--epochs", "1"]
    code, _, err = command(tmp_path / "outputs", *asked, "--arms", "erm_small,kd_self", *more)
    assert code == 0, err
    told("Numbers", f"data at the edge: {name}", 1, corrupted=len(stores.verified(tmp_path / "outputs")))


def test_an_empty_batch_size_is_refused():
    with pytest.raises(ValueError, match="batch_size must be"):
        replace(fakes.CONFIG, batch_size=0)


def test_rows_of_512_tokens(tmp_path, command, told):
    """A model of one's own that reads 512 tokens, on texts of more."""
    import own_models

    own_models.save(tmp_path / "encoder", "bert", max_position_embeddings=512)
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["text,label", *texts(24, words=600)]) + "\n")
    asked = ["compare", "--data", path, "--text", "text", "--label", "label", *TOY, "--seeds", "0", "--epochs", "1"]
    more = ["--student", tmp_path / "encoder", "--arms", "erm_small", "--max-length", "512"]
    code, _, err = command(tmp_path / "outputs", *asked, *more)
    assert code == 0, err
    (run,) = (tmp_path / "outputs" / "runs").glob("[!.]*/config.json")
    assert json.loads(run.read_text())["max_length"] == 512
    told("Numbers", "data at the edge: rows of 512 tokens", 1, corrupted=len(stores.verified(tmp_path / "outputs")))


def test_labels_that_do_not_match_the_head(tmp_path, command, told, unclear):
    """A finished classifier of other classes is no teacher, and the reason names both."""
    import own_models

    own_models.save(tmp_path / "teacher", "bert", labels=("up", "down", "flat"))
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["text,label", *texts(40)]) + "\n")
    asked = ["compare", "--data", path, "--text", "text", "--label", "label", *TOY, "--seeds", "0"]
    code, _, err = command(tmp_path / "outputs", *asked, "--teacher", tmp_path / "teacher")
    there = list((tmp_path / "outputs" / "runs").glob("[!.]*"))
    bad = code != 2 or unclear(err, "has the classes up, down, flat, the data")
    assert not bad, err
    told("Numbers", "labels that do not match a classifier's head", 1, lost=len(there), unclear=bad)
