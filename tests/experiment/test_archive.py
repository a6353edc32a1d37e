"""Runs as a Parquet file with a Croissant description: both say the same, and what the store holds."""

import hashlib
import json
import shutil

import fakes
import numpy as np
import pyarrow.parquet
import pytest
import yaml
from fakes import CONFIG, made_run

from kdnb import __version__, files, paths
from kdnb.core import metrics, store
from kdnb.core.config import SPLITS, Identity, declared
from kdnb.experiment import archive


@pytest.fixture
def written(store_of_three, tmp_path):
    """(Parquet file, its description)."""
    path = tmp_path / "out" / "some runs.parquet"
    beside, rows = archive.write(path, store.stored_ids(), url="https://example.org/runs")
    assert rows == 3
    return path, json.loads(beside.read_text(encoding="utf-8"))


class Other(Identity):
    """An experiment that is no classification run."""

    def values(self):
        return {"kind": "other", "task": "digits", "seed": 3, "lr": 1, "alpha": "all"}

    def prefix(self):
        return "other"


@pytest.fixture
def store_of_three(store):
    """A run, one of another seed, and a record of another kind."""
    for seed in (0, 1):
        fakes.runs.save(made_run(CONFIG.changed(seed=seed)))
    fakes.runs.write(Other(), {"a": np.zeros(2)}, {"effect": 0.5, "cost": {"seconds": 2, "device": "cpu"}})


def test_columns_and_hash_of_the_description_are_the_files(written):
    path, described = written
    (file,) = described["distribution"]
    assert file["sha256"] == files.sha256(path)
    assert file["contentSize"] == f"{path.stat().st_size} B"
    assert file["contentUrl"] == file["@id"] == path.name
    (records,) = described["recordSet"]
    schema = pyarrow.parquet.read_schema(path)
    sources = [field["source"] for field in records["field"]]
    assert [one["extract"]["column"] for one in sources] == schema.names
    assert {one["fileObject"]["@id"] for one in sources} == {path.name}
    kinds = {"sc:Text": "string", "sc:Float": "double", "sc:Integer": "int64", "sc:Boolean": "bool"}
    assert [kinds[field["dataType"]] for field in records["field"]] == [str(one) for one in schema.types]
    told = [schema.field(name).metadata[b"description"].decode() for name in schema.names]
    assert [field["description"] for field in records["field"]] == told
    assert records["key"]["@id"] in {field["@id"] for field in records["field"]}
    assert described["url"] == "https://example.org/runs"


def test_a_row_is_what_the_store_holds(written):
    rows = {row["run_id"]: row for row in pyarrow.parquet.read_table(written[0]).to_pylist()}
    run = made_run(CONFIG.changed(seed=1))
    row = rows[run.run_id]
    assert (row["kind"], row["arm"], row["task"], row["seed"], row["epochs"]) == ("", "erm_small", "rt", 1, 3)
    assert (row["tau2_scaling"], row["seconds"], row["device"]) == (True, 1.5, "cpu")
    for split in SPLITS:
        assert row[f"{split}_entropy"] == metrics.mean_entropy(run.logits[split])
        assert row[f"{split}_agreement"] is None
    assert json.loads(row["config"]) == run.config.values()
    assert json.loads(row["metrics"])["test"] == run.metrics["test"]
    assert row["arrays_sha256"] == files.sha256(store.folder(run.run_id) / "arrays.npz")
    other = rows[Other().run_id()]
    assert (other["kind"], other["task"], other["seed"], other["lr"], other["alpha"]) == (
        "other",
        "digits",
        3,
        1.0,
        None,
    )
    assert json.loads(other["metrics"])["effect"] == 0.5


def test_every_metric_and_setting_has_a_column_that_says_what_it_is():
    """All that a run's metrics hold, and all that a config may have."""
    logits, labels = fakes.logits_with(10)
    assert list(archive.METRICS) == list(metrics.summary(logits, labels, teacher_logits=logits))
    columns = {column.name: column.about for column in archive.columns()}
    assert len(columns) == len(archive.columns())
    assert set(declared()) - {"extra"} <= set(columns)
    assert not [name for name, about in columns.items() if len(about.removeprefix("setting: ")) < 8]


def test_title_creator_and_licence_are_those_of_the_citation(written):
    cited = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    described = written[1]
    assert described["alternateName"] == cited["title"]
    assert described["creator"]["name"] == cited["authors"][0]["name"]
    assert described["license"] == f"https://spdx.org/licenses/{cited['license']}.html"
    assert described["version"] == __version__ == cited["version"]


def test_a_damaged_run_is_left_out_and_told(store_of_three, capsys):
    config = store.folder(CONFIG.run_id()) / "config.json"
    config.write_text(config.read_text().replace("0.1", "0.2"))
    assert archive.table(store.stored_ids()).num_rows == 2
    assert capsys.readouterr().err == f"kdnb: run {CONFIG.run_id()}: config.json is not what was written; left out\n"


@pytest.mark.slow
def test_the_command_writes_those_asked_for(kdnb, store_of_three, tmp_path):
    path = tmp_path / "runs.parquet"
    fakes.runs.save(made_run(CONFIG.changed(task="rt@0.2")))
    code, out, _ = kdnb("runs", "table", path, "--task", "rt", "--json")
    assert (code, out.splitlines()[0]) == (0, f"2 runs in {path}, described in {tmp_path / 'runs.croissant.json'}")
    assert json.loads(out.splitlines()[1])["rows"] == 2
    for words, told in (
        ([tmp_path / "runs.csv"], "runs.csv: expected a name that ends in .parquet"),
        ([tmp_path / "none.parquet", "--task", "mrpc"], "no runs to write"),
    ):
        code, _, err = kdnb("runs", "table", *words)
        assert (code, len(err.splitlines())) == (2, 1)
        assert told in err
    assert {one.name for one in tmp_path.glob("*.*")} >= {"runs.parquet", "runs.croissant.json"}
    assert not list(tmp_path.glob("none*")) + list(tmp_path.glob("*.csv"))


def forge(config, metrics=None, name=""):
    """The run of seed 0 again, of that text as its config, hashes right."""
    source, digest = store.folder(CONFIG.run_id()), hashlib.sha256(config.encode()).hexdigest()[:12]
    where = paths.RUNS / (name or f"rt-erm-small-s9-{digest}")
    shutil.copytree(source, where)
    (where / "config.json").write_text(config)
    values = {**json.loads((where / "metrics.json").read_text()), **(metrics or {})}
    sums = {**values.pop("sha256"), "config.json": files.sha256(where / "config.json")}
    (where / "metrics.json").write_bytes(store.metrics_bytes(values, sums))
    return where.name


@pytest.mark.parametrize(
    ("config", "metrics", "name"),
    [
        ("whole", {}, "rt-erm-small-s9-000000000000"),
        ("[1]", {}, ""),
        ("[" * 100_000 + "]" * 100_000, {}, ""),
        ('{"kind": "x"}', {"cost": "much"}, ""),
    ],
    ids=["another's config", "a list", "deep", "cost"],
)
def test_a_forged_run_is_named_and_left_out(store_of_three, tmp_path, capsys, config, metrics, name):
    config = (store.folder(CONFIG.run_id()) / "config.json").read_text() if config == "whole" else config
    odd = forge(config, metrics, name)
    _, rows = archive.write(tmp_path / "runs.parquet", store.stored_ids())
    assert rows == 3
    told = capsys.readouterr().err
    assert f"run {odd}: " in told
    assert len(told.splitlines()) == 1


def test_a_cell_that_its_column_cannot_hold_is_empty_and_a_name_is_the_folders(store_of_three, tmp_path):
    other = {"kind": "x", "run_id": "another", "seed": 2**70, "task": "\ud800"}
    odd = forge(json.dumps(other), {"test": {"entropy": 10**400, "nll": 2}})
    archive.write(tmp_path / "runs.parquet", [odd])
    (row,) = pyarrow.parquet.read_table(tmp_path / "runs.parquet").to_pylist()
    assert (row["run_id"], row["seed"], row["task"], row["test_entropy"], row["test_nll"]) == (
        odd,
        None,
        "?",
        None,
        2.0,
    )
