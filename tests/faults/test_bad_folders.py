"""Folders that were harmed: models, caches of a teacher's targets, stored runs. One line, exit code 2, no code run."""

import hashlib
import itertools
import json
import os
import pickle
import random
import shutil

import numpy as np
import own_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from refusals import told

from kdnb import files, paths
from kdnb.cli import lm, runs, train
from kdnb.core import store as runs_store
from kdnb.data import checkpoints, own, teacher_table
from kdnb.data.splits import Rows
from kdnb.models import finished
from kdnb.studies.language_models import caching, models, target_cache
from kdnb.studies.language_models.caching import Wanted
from kdnb.studies.language_models.source import MarkovSource

pytestmark = pytest.mark.faults
EXAMPLES = int(os.environ.get("KDNB_FAULTS_EXAMPLES", "150"))
ODD = st.sampled_from(
    [None, True, -1, 0, 10**400, 1.5, "x", "", [], [1], {}, {"a": 1}, "../../x", "\x1b]0;x\x07", "<script>", "9" * 5000]
)


def many(share=1.0):
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow]
    most = max(3, int(EXAMPLES * share))
    phases = [Phase.generate]  # models are read in each: nothing is made smaller
    return settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        suppress_health_check=checks,
        database=None,
        phases=phases,
    )


@pytest.fixture(autouse=True)
def row(request, record_property):
    with refusals.counting(request, record_property, "Input", request.node.originalname[5:].replace("_", " ")):
        yield


def harm(draw, path):
    """Cut, flip, empty, replace or remove a file, or change a field of its JSON."""
    rng, content = random.Random(draw(st.integers(0, 2**32))), path.read_bytes()
    how = draw(st.sampled_from(["cut", "flip", "flip", "noise", "empty", "gone", "folder", "field", "field", "field"]))
    if how == "field" and path.suffix == ".json":
        values = json.loads(content)
        values[draw(st.sampled_from([*sorted(values), "auto_map", "kind"]))] = draw(ODD)
        path.write_text(json.dumps(values))
        return
    path.unlink()
    if how == "cut":
        path.write_bytes(content[: rng.randrange(len(content))])
    elif how in ("flip", "field"):
        harmed = bytearray(content)
        for _ in range(rng.choice([1, 8, 64])):
            harmed[rng.randrange(len(harmed))] ^= 1 << rng.randrange(8)
        path.write_bytes(harmed)
    elif how == "noise":
        path.write_bytes(rng.randbytes(rng.choice([1, 8, 500])))
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "folder":
        path.mkdir()


def copied(source, target):
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)


# Models that transformers wrote


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "mine"
    own_models.save(folder, "bert", labels=("negative", "positive"))
    return folder


@given(data=st.data())
@many(0.5)
def test_a_harmed_classifier(store, tmp_path, monkeypatch, classifier, data):
    folder = copied(classifier, tmp_path / "harmed")
    harm(data.draw, folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir()))))
    line = told(monkeypatch, lambda: finished.read(folder))
    assume(line)
    assert "harmed" in line


@given(data=st.data())
@many(0.2)
def test_a_harmed_model_as_a_student(store, tmp_path, monkeypatch, classifier, data):
    """The whole of `kdnb train`; a model that is good after all is trained, and its run taken away."""
    folder = copied(classifier, tmp_path / "harmed")
    harm(data.draw, folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir()))))
    asked = train.Training(
        task="rt", method="erm", student=str(folder), profile="toy", rows=Rows(train=8, validation=8, test=8)
    )
    line = told(monkeypatch, lambda: train.train(asked))
    shutil.rmtree(store, ignore_errors=True)
    assume(line)
    assert "harmed" in line


@given(data=st.data())
@many(0.3)
def test_a_harmed_language_model(store, tmp_path, monkeypatch, language, data):
    folder = copied(language, tmp_path / "harmed")
    harm(data.draw, folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir()))))
    line = told(monkeypatch, lambda: models.load(str(folder)))
    assume(line)
    assert "harmed" in line


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "language"
    models.from_config(models.CONFIGS["llama-1x32"], 64, seed=0).model.save_pretrained(folder)
    return folder


CODE = "open({mark!r}, 'w').write('ran')\nraise SystemExit('code of a model was run')\n"


@pytest.mark.parametrize("what", ["model", "tokenizer", "config", "pickle"])
def test_code_that_comes_with_a_model_is_not_run(store, tmp_path, monkeypatch, classifier, what):
    """Neither asked about, which would wait for an answer, nor run; weights that unpickle are not read."""
    folder, mark = copied(classifier, tmp_path / "coded"), tmp_path / "mark"
    (folder / "code.py").write_text(CODE.format(mark=str(mark)))
    values = json.loads((folder / "config.json").read_text())
    if what == "tokenizer":
        path = folder / "tokenizer_config.json"
        content = json.loads(path.read_text())
        content |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["code.Mine", "code.Mine"]}}
        path.write_text(json.dumps(content))
    elif what == "pickle":
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
    else:
        names = ["AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoModelForCausalLM"]
        values["auto_map"] = dict.fromkeys(names, "code.Mine")
        values["model_type"] = "mine" if what == "config" else values["model_type"]
        (folder / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    for call in (
        lambda: finished.read(folder),
        lambda: checkpoints.check_kind("coded", values) or finished.read(folder),
        lambda: models.load(str(folder)),
    ):
        told(monkeypatch, call)
        assert not mark.exists()


@pytest.mark.parametrize(
    "spec",
    [
        "a/..@" + "0" * 40,
        "../x@" + "0" * 40,
        "owner/name@main",
        "owner/name@" + "0" * 39,
        "owner/name@" + "0" * 39 + "G",
        "owner/name",
        "https://huggingface.co/owner/name",
        "owner/name@" + "0" * 40,
        "/nowhere/model",
        "x\x00y",
        "mini\u043bm-6",
    ],
)
def test_a_model_that_is_not_pinned_or_leads_elsewhere(store, tmp_path, monkeypatch, spec):
    monkeypatch.setattr(paths, "HUB", tmp_path / "hub")
    before = sorted(tmp_path.rglob("*"))
    assert told(monkeypatch, lambda: models.load(spec))
    if spec != "owner/name@" + "0" * 40:  # which is one: that it is not here is told when it is opened
        assert told(monkeypatch, lambda: checkpoints.name_of(spec))
    assert sorted(tmp_path.rglob("*")) == before


def test_every_revision_in_the_catalog_is_a_commit():
    from kdnb.catalog import SOURCES
    from kdnb.data import assets, glue, hub_sets

    pinned = [source.revision for source in SOURCES.values() if source.kind == "hub"]
    pinned += [glue.HUB_REVISION, *(one.revision for one in hub_sets.HUB_SETS.values())]
    for revision in pinned:
        assert len(revision) == 40
        assert set(revision) <= set("0123456789abcdef")
    for asset in assets.PACKAGED.values():
        for digest in (asset.sha256, asset.tree, *(piece for _, piece in asset.pieces)):
            assert len(digest) == 64
    refusals.seen(len(pinned))


# Caches of targets


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    teacher = models.from_config(models.CONFIGS["llama-1x32"], 64, seed=0)
    blocks = MarkovSource().blocks(8, 12, 0)
    manifest = caching.manifest_of(teacher, blocks, Wanted(kept=4, shard_rows=4))
    folder = target_cache.begin(manifest, blocks, tmp_path_factory.mktemp("cache") / "whole")
    caching.make_here(folder, lambda: teacher, range(manifest.shards), lambda _: None)
    return folder


@given(data=st.data())
@many(1)
def test_a_harmed_cache_of_targets(store, tmp_path, monkeypatch, cache, data):
    folder = copied(cache, tmp_path / "harmed")
    names = sorted(path.name for path in folder.iterdir())
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        harm(data.draw, folder / name)
    line = told(monkeypatch, lambda: lm.cache_verify(folder))
    assume(line)
    assert "harmed" in line


@given(data=st.data())
@many(1)
def test_a_harmed_cache_is_not_read(store, tmp_path, monkeypatch, cache, data):
    """What a training does with it: every target of every example."""
    folder = copied(cache, tmp_path / "harmed")
    name = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    harm(data.draw, folder / name)
    expected = vars(target_cache.read_manifest(cache))
    line = told(monkeypatch, lambda: target_cache.Reader(folder, expected).take(np.arange(8)))
    assume(line)


# Pickled bytes, wherever tables and arrays are read


class Planted:
    """Makes a file where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def in_parquet(path, frame, mark, column):
    """A table whose column names pickled bytes as its type, as pyarrow once unpickled them on reading."""
    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    told = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Planted(mark))}
    number = schema.get_field_index(column)
    schema = schema.set(number, schema.field(number).with_metadata(told))
    pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), path)


PICKLED = [*itertools.product(["t.npz", "t.parquet", "t.csv", "t.jsonl"], ["cells", "all"]), ("t.parquet", "type")]


@pytest.mark.parametrize(("name", "how"), PICKLED)
def test_pickled_bytes_in_a_table_are_not_unpickled(store, tmp_path, monkeypatch, toy, name, how):
    """As a teacher, and as texts to learn: refused with the file's name, or, where they are a type's, not looked at."""
    path, mark = tmp_path / name, tmp_path / "mark"
    pickled = pickle.dumps(Planted(mark), protocol=0)
    frame = teacher_table.row_ids(toy)[["id"]].assign(**dict.fromkeys(toy.task.labels, 0.5))
    frame = frame.assign(text=frame.id, label=["a", "b"] * (len(frame) // 2) + ["a"] * (len(frame) % 2))
    cells = np.full(len(frame), Planted(mark), dtype=object)
    if how == "type":
        in_parquet(path, frame, mark, "text")
    elif how == "all":
        path.write_bytes(pickled)
    elif name == "t.npz":
        classes = np.array(toy.task.labels, dtype=str)
        np.savez(path, id=frame.id.to_numpy(dtype=str), classes=classes, probabilities=np.stack([cells] * 2, axis=1))
    else:
        harmed = frame.assign(
            **dict.fromkeys(["text", *toy.task.labels], pickled if "parquet" in name else repr(pickled))
        )
        write = {"t.csv": harmed.to_csv, "t.parquet": harmed.to_parquet}.get(name)
        write(path, index=False) if write else harmed.to_json(path, orient="records", lines=True)
    line = told(monkeypatch, lambda: teacher_table.read(str(path), toy))
    assert (name in line) or how == "type"
    asked = own.OwnData(path=str(path), text="text", label="label")
    told(monkeypatch, lambda: own.load(asked, "toy"))
    assert not mark.exists()
    pickle.loads(pickled).close()
    assert mark.exists()  # it would have


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "tokens.safetensors", "manifest.json", "shard-00000.json"])
def test_pickled_bytes_in_a_cache_of_targets(store, tmp_path, monkeypatch, cache, name):
    """Also where the hash beside a shard is that of the pickled bytes."""
    folder, mark = copied(cache, tmp_path / "harmed"), tmp_path / "mark"
    pickled = pickle.dumps(Planted(mark))
    (folder / name).write_bytes(pickled)
    if name.startswith("shard") and name.endswith(".safetensors"):
        beside = (folder / name).with_suffix(".json")
        content = json.loads(beside.read_text())
        beside.write_text(json.dumps({**content, "sha256": hashlib.sha256(pickled).hexdigest()}))
    expected = vars(target_cache.read_manifest(cache))
    if name != "tokens.safetensors":  # which no training reads again
        assert "harmed" in told(monkeypatch, lambda: target_cache.Reader(folder, expected).take(np.arange(8)))
    assert "harmed" in told(monkeypatch, lambda: lm.cache_verify(folder))
    assert not mark.exists()


@pytest.mark.parametrize("how", ["cells", "all", "cut", "flip"])
def test_kept_arrays_that_are_none_are_made_again(tmp_path, capsys, how):
    """Hidden states and decoded images, which can be: pickled or damaged they are told, never read."""
    path, mark = tmp_path / "kept.npz", tmp_path / "mark"
    np.savez(path, states=np.array([Planted(mark)] * 3) if how == "cells" else np.arange(1000.0))
    content = bytearray(path.read_bytes())
    content[500] ^= how == "flip"
    if how in ("flip", "cut"):
        path.write_bytes(content if how == "flip" else content[:-100])
    elif how == "all":
        path.write_bytes(pickle.dumps(Planted(mark)))
    assert files.kept_arrays(path) is None
    assert capsys.readouterr().err.startswith(f"kdnb: {path} is damaged (")
    assert not mark.exists()
    assert files.kept_arrays(tmp_path / "none.npz") is None
    assert not capsys.readouterr().err
    refusals.seen()


# Stored runs


@pytest.fixture(scope="module")
def run(teacher, tmp_path_factory):
    """The outputs of a store with one run, and its name."""
    outputs = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", outputs / "runs")
        runs_store.save(teacher)
    return outputs, teacher.run_id


@given(data=st.data())
@many(1)
def test_a_harmed_run(store, tmp_path, monkeypatch, run, data):
    outputs, run_id = run
    copied(outputs, tmp_path / "harmed")
    folder = tmp_path / "harmed" / "runs" / run_id
    names = ["arrays.npz", "config.json", "history.csv", "metrics.json"]
    harm(data.draw, folder / data.draw(st.sampled_from(names)))
    with monkeypatch.context() as patch:
        patch.setattr(runs_store, "folder", lambda _: folder)  # and paths.RUNS stays empty, as `told` has it
        line = told(patch, lambda: runs.runs_show(run_id))
    assume(line)
    assert run_id in line
