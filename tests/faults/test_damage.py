"""What is stored and not as it should be is found on load, named, set aside and redone; never silently used."""

import csv
import hashlib
import io
import json
import re
from dataclasses import replace

import fakes
import numpy as np
import pytest

from kdnb import files
from kdnb.cli import runs as commands
from kdnb.core import metrics, store
from kdnb.errors import DamagedRun, OldRun
from kdnb.experiment import obtain, tables

RUN = fakes.CONFIG.run_id()


def rehash(folder, change=lambda told: None, labels=None):
    """What a forger does: metrics.json over the files as they are now, all hashes right."""
    told = json.loads((folder / "metrics.json").read_text())
    sums = told.pop("sha256")
    change(told)
    sums |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in store.FILES}
    (folder / "metrics.json").write_bytes(store.metrics_bytes(told, {**sums, **(labels or {})}))


def forge(folder, logits=None, labels=None, values=None, history=None, config=None):
    """Put a run's parts in its place, hashes right: split -> array, metrics, the text of history.csv, config.json."""
    kept = None
    if logits is not None:
        (folder / "arrays.npz").write_bytes(files.pack(logits))
    if labels is not None:
        kept = store.keep_labels(store.labels_path(fakes.CONFIG.data, folder.parent), labels)
    if history is not None:
        (folder / "history.csv").write_bytes(history)
    if config is not None:
        (folder / "config.json").write_text(config)
    rehash(folder, values or (lambda told: None), kept)


def with_logits(change):
    """A forgery of the test logits alone, whose metrics are right where they can be."""

    def apply(folder):
        run = fakes.made_run()
        forge(folder, {**run.logits, "test": change(run.logits["test"].copy())})

    return apply


def with_labels(change):
    def apply(folder):
        run = fakes.made_run()
        forge(folder, labels={**run.labels, "test": change(run.labels["test"].copy())})

    return apply


def with_metrics(change):
    return lambda folder: forge(folder, values=change)


def spoiled(place, value):
    def change(array):
        array[place] = value
        return array

    return change


def lie(**values):
    return with_metrics(lambda told: told["test"].update(values))


def drop(*keys):
    def change(told):
        for key in keys[:-1]:
            told = told[key]
        del told[keys[-1]]

    return with_metrics(change)


def renamed_column(folder):
    rows = list(csv.reader(io.StringIO((folder / "history.csv").read_text())))
    text = "\n".join(",".join("<script>" if cell == "loss" else cell for cell in row) for row in rows)
    forge(folder, history=text.encode())


FORGERIES = {  # what was forged -> how, and what the message must say
    "logits that are nan": (with_logits(spoiled((0, 0), np.nan)), "not all finite"),
    "infinite logits": (with_logits(spoiled((0, 0), np.inf)), "not all finite"),
    "one class": (with_logits(lambda z: z[:, :1]), r"\(7, 1\)"),
    "five rows of seven": (with_logits(lambda z: z[:5]), r"\(5, 2\)"),
    "no rows": (with_logits(lambda z: z[:0]), r"\(0, 2\)"),
    "one dimension": (with_logits(lambda z: z[:, 0]), r"\(7,\)"),
    "texts for logits": (with_logits(lambda z: np.full(z.shape, "one")), "could not convert"),
    "another run's logits": (with_logits(lambda z: z[:, ::-1]), "by its logits and labels"),
    "no logits of a split": (
        lambda folder: forge(folder, {s: z for s, z in fakes.made_run().logits.items() if s != "test"}), "'test'",
    ),
    "a label of 7": (with_labels(spoiled(0, 7)), "labels must be in 0..1"),
    "a label of -1": (with_labels(spoiled(0, -1)), "labels must be in 0..1"),
    "labels that are no integers": (with_labels(lambda y: y + 0.5), "float64 labels"),
    "other labels": (with_labels(lambda y: 1 - y), "by its logits and labels"),
    "an entropy of its own": (lie(entropy=0.001), "entropy is 0.001 in its metrics"),
    "an accuracy of its own": (lie(accuracy=1.0), "accuracy is 1.0 in its metrics"),
    "a metric that is nan": (lie(nll=float("nan")), "nll is nan"),
    "a metric that is a text": (lie(brier="low"), "brier is low"),
    "no entropy": (drop("test", "entropy"), "entropy is None"),
    "no test metrics": (drop("test"), "'test' is missing"),
    "metrics that are a list": (with_metrics(lambda told: told.update(test=[])), "no attribute"),
    "no cost": (drop("cost"), "'cost' is missing"),
    "no seconds": (drop("cost", "seconds"), "'seconds' is missing"),
    "a cost in words": (with_metrics(lambda told: told["cost"].update(seconds="long")), "no seconds"),
    "a column of a script": (renamed_column, "history.csv has a column '<script>'"),
    "other columns": (lambda folder: forge(folder, history=b"step,loss\n0,1\n"), "columns step, loss, not"),
    "a curve in words": (lambda folder: forge(folder, history=b"step,loss\n0,high\n"), "no table of numbers"),
    "a row too long": (lambda folder: forge(folder, history=b"step\n0,1\n"), "no table of numbers"),
    "a history that is not UTF-8": (lambda folder: forge(folder, history=b"st\xffep\n0\n"), "no table of numbers"),
    "a config of brackets": (lambda folder: forge(folder, config="[" * 100_000), "belongs to another run"),
    "a config that is a list": (lambda folder: forge(folder, config="[1]"), "belongs to another run"),
    "another run's config": (
        lambda folder: forge(folder, config=replace(fakes.CONFIG, seed=9).to_json()), "belongs to another run",
    ),
    "arrays that are no zip": (
        lambda folder: ((folder / "arrays.npz").write_bytes(b"PK\3\4" * 9), rehash(folder)), "zip|pickled",
    ),
    "an array of objects": (
        with_logits(lambda z: np.array([{}] * len(z), dtype=object)), "allow_pickle|Object arrays",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_run_with_right_hashes_is_found(store, capsys, told, name):
    """`runs verify`, a table and whoever asks for the run: each names it; it is set aside and never read."""
    forgery, words = FORGERIES[name]
    from kdnb.core import store as runs

    runs.save(fakes.made_run(replace(fakes.CONFIG, seed=1)))
    runs.save(fakes.made_run())
    if "label" in name:  # labels are those of all runs on the data: the other run would be damaged by right
        obtain.set_aside(replace(fakes.CONFIG, seed=1).run_id())
    others = set(runs.stored_ids()) - {RUN}
    forgery(store / RUN)
    runs._read_labels.cache_clear()
    with pytest.raises(DamagedRun, match=f"run {RUN}: .*(?:{words})") as error:
        runs.load(RUN)
    assert "\n" not in str(error.value)
    assert obtain.whole(fakes.CONFIG) is None
    assert {run.run_id for run in tables.load_runs()} == others
    assert RUN in capsys.readouterr().err
    result = commands.verify_runs(redo=False)
    assert result["damaged"] == [RUN]
    assert set(runs.stored_ids()) == others
    said = capsys.readouterr().out
    unclear = not re.search(f"damaged: run {RUN}: .*(?:{words})", said)
    told("Damage", "a forged run with right hashes", 1, unclear=unclear)


ABSURD = {  # config.json under the name that is the hash of it -> what the message must say
    fakes.CONFIG.to_json(batch_size=-3): "batch_size must be",
    fakes.CONFIG.to_json(epochs=10**30, alpha=2): "alpha must be",
    fakes.CONFIG.to_json(method="magic"): "method must be one of",
    fakes.CONFIG.to_json(lr="fast"): "lr must be of type float",
    fakes.CONFIG.to_json(student=["small"]): "student must be",
    fakes.CONFIG.to_json(surprise=1): "surprise",
    "[" * 100_000: "recursion|nested|Expecting",
    "[1]": "indices|attribute",
    "null": "subscriptable|attribute",
    '{"data": "../../../etc", "task": "rt"}': "labels|missing|argument|No such file",
    '{"kind": {"a": 1}, "data": 5}': "",
}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ABSURD)))
def test_an_absurd_config_under_its_own_name_is_found(store, capsys, told, number):
    from kdnb.core import store as runs

    (content, words), name = list(ABSURD.items())[number], ""
    runs.save(fakes.made_run())
    name = f"rt-erm-small-s0-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    (store / RUN).rename(store / name)
    forge(store / name, config=content)
    if words:
        with pytest.raises(DamagedRun, match=f"run {name}: .*(?:{words})"):
            runs.load(name)
        assert runs.config_of(name) is None
        assert tables.load_runs() == []
        assert commands.verify_runs(redo=False)["damaged"] == [name]
    else:  # no run of a classification at all
        assert tables.load_runs() == []
        commands.verify_runs(redo=False)
    said = capsys.readouterr().out
    told("Damage", "an absurd config under the name that is its hash", 1, unclear="Traceback" in said)


def test_what_a_run_says_of_its_teacher_is_held_to_the_teacher(store, capsys, told):
    from kdnb.core import store as runs

    runs.save(fakes.made_run())
    taught = fakes.made_run(replace(fakes.CONFIG, method="kd", alpha=0.5, teacher_run=RUN))
    right = {s: taught.metrics[s] | {"agreement": 1.0, "kl_to_teacher": 0.0} for s in runs.SPLITS}
    runs.save(replace(taught, metrics=taught.metrics | right))
    assert commands.verify_runs(redo=False)["damaged"] == []
    for name, value in (("agreement", 0.5), ("kl_to_teacher", -1.0)):
        rehash(store / taught.run_id, lambda told, name=name, value=value: told["test"].update({name: value}))
        assert commands.verify_runs(redo=False)["damaged"] == [taught.run_id]
        assert f"{name} is {value} in its metrics" in capsys.readouterr().out
        runs.save(replace(taught, metrics=taught.metrics | right))
    told("Damage", "a run that misquotes its teacher", 2)


def test_a_run_of_another_format_is_left_as_it_is(store, capsys, told):
    """What a later version wrote is not damaged, and not for this one to touch."""
    from kdnb.core import store as runs

    runs.save(fakes.made_run())
    assert json.loads((store / RUN / "metrics.json").read_text())["format"] == runs.FORMAT
    rehash(store / RUN, lambda told: told.update(format=runs.FORMAT + 1))
    with pytest.raises(OldRun, match=rf"run {RUN} is of format 3, this version of kdnb reads 2"):
        runs.load(RUN)
    with pytest.raises(OldRun):
        obtain.whole(fakes.CONFIG)
    before = {path.name: path.read_bytes() for path in (store / RUN).iterdir()}
    result = commands.verify_runs(redo=False)
    assert (result["damaged"], result["foreign"]) == ([], [RUN])
    assert f"left as it is: run {RUN}" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (store / RUN).iterdir()} == before
    told("Damage", "a run of a later format", 1)


def test_a_run_that_says_no_format_is_of_the_first_that_had_none(store):
    from kdnb.core import store as runs

    runs.save(fakes.made_run())
    rehash(store / RUN, lambda told: told.pop("format"))
    assert runs.load(RUN).metrics == fakes.made_run().metrics


def test_another_machines_last_bits_are_no_damage(store):
    from kdnb.core import store as runs

    runs.save(fakes.made_run())
    rehash(store / RUN, lambda told: told["test"].update(entropy=told["test"]["entropy"] * (1 + 1e-12)))
    runs.load(RUN)


def test_summaries_of_many_classes_take_no_square_of_them():
    """A hundred thousand classes and four rows: the memory of the logits, not of a table of classes by classes."""
    logits = np.random.default_rng(0).normal(size=(4, 100_000)).astype(np.float32)
    labels = np.array([0, 1, 99_999, 5])
    values = metrics.summary(logits, labels)
    p = metrics.posterior(logits)
    one_hot = np.zeros_like(p)
    one_hot[np.arange(4), labels] = 1
    assert values["brier"] == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())
