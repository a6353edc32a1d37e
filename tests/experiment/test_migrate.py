"""A store that commit 4e36059 wrote, brought into today's form without losing a bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kdnb import files, paths
from kdnb.cli import runs as commands
from kdnb.core import store as runs
from kdnb.core.config import RunConfig
from kdnb.errors import DamagedRun, OldRun, StoreError
from kdnb.experiment import migrate

OLD = Path(__file__).parents[1] / "data" / "store_of_4e36059"
NAMES = sorted(path.name for path in OLD.iterdir())


@pytest.fixture
def old(store):
    """A store with three runs of that commit; the folder of its runs."""
    store.parent.mkdir(parents=True)
    shutil.copytree(OLD, store)
    return store


def arrays_of(name):
    with np.load(OLD / name / "logits.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def test_the_old_store_is_what_that_commit_wrote():
    assert [name.split("-")[1] for name in NAMES] == ["erm", "kd", "switch"]
    for name in NAMES:
        assert json.loads((OLD / name / "metrics.json").read_text())["cost"]["revision"] == "4e36059"


@pytest.mark.parametrize("name", NAMES)
def test_an_old_run_is_refused_with_the_command_that_converts_it(old, name):
    with pytest.raises(OldRun, match=rf"run {name} was written by an earlier version; .*`kdnb runs migrate`"):
        runs.load(name)


def test_no_bit_of_any_array_and_no_name_changes(old):
    assert commands.migrate_runs() == {"checked": 3, "migrated": NAMES, "damaged": []}
    assert runs.stored_ids() == NAMES
    for name in NAMES:
        run, before = runs.load(name), arrays_of(name)
        assert run.run_id == name
        for split in runs.SPLITS:
            for now, then in ((run.logits[split], before[split]), (run.labels[split], before[f"{split}_labels"])):
                assert (now.dtype, now.shape, now.tobytes()) == (then.dtype, then.shape, then.tobytes())
        for file in ("config.json", "history.csv"):
            assert (old / name / file).read_bytes() == (OLD / name / file).read_bytes()
        then = json.loads((OLD / name / "metrics.json").read_text())
        assert run.metrics == {key: value for key, value in then.items() if key != "sha256"}
        assert not (old / name / "logits.npz").exists()


def test_labels_lie_once_for_all_runs_on_the_same_data(old):
    commands.migrate_runs()
    (labels,) = (paths.OUTPUTS / "labels").iterdir()
    assert labels.stem == runs.load(NAMES[0]).config.data
    assert not list(old.glob(".*"))


def test_converting_twice_changes_nothing(old):
    commands.migrate_runs()
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert commands.migrate_runs() == {"checked": 3, "migrated": [], "damaged": []}
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("file", ["config.json", "history.csv", "logits.npz", "metrics.json"])
def test_a_damaged_old_run_is_told_and_left_as_it_is(old, capsys, file):
    path = old / NAMES[0] / file
    spoiled = path.read_bytes()[:-2] + b"xx"
    path.write_bytes(spoiled)
    with pytest.raises(DamagedRun, match=NAMES[0]):
        migrate.migrate(NAMES[0])
    result = commands.migrate_runs()
    assert (result["damaged"], result["migrated"]) == ([NAMES[0]], NAMES[1:])
    assert path.read_bytes() == spoiled
    assert NAMES[0] in capsys.readouterr().out


@pytest.mark.parametrize("step", ["first rename", "second rename"])
def test_a_kill_in_the_middle_loses_no_run(old, monkeypatch, step):
    real, calls = migrate.os.rename, []

    def rename(source, target):
        calls.append(source)
        if len(calls) == (1 if step == "first rename" else 2):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(migrate.os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        migrate.migrate(NAMES[0])
    monkeypatch.undo()
    monkeypatch.setattr(paths, "RUNS", old)
    monkeypatch.setattr(paths, "REFERENCE", old.parent / "reference")
    commands.migrate_runs()
    assert runs.stored_ids() == NAMES
    for name in NAMES:
        assert runs.load(name).logits["test"].tobytes() == arrays_of(name)["test"].tobytes()
    assert not list(old.glob(".*"))


def test_a_store_that_cannot_be_written_gets_one_line(old, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(migrate.os, "rename", refuse)
    with pytest.raises(StoreError, match=f"cannot convert run {NAMES[0]} .*Read-only"):
        migrate.migrate(NAMES[0])
    monkeypatch.undo()
    assert (old / NAMES[0] / "logits.npz").exists()


def forged(old, data):
    """The first run, of other data by its config, hashes and name right; its name."""
    config = json.loads((old / NAMES[0] / "config.json").read_text())
    made = RunConfig.from_dict({**config, "data": data})
    where = (old / NAMES[0]).rename(old / made.run_id())
    (where / "config.json").write_text(made.to_json())
    metrics = json.loads((where / "metrics.json").read_text())
    sums = {**metrics.pop("sha256"), "config.json": files.sha256(where / "config.json")}
    (where / "metrics.json").write_bytes(runs.metrics_bytes(metrics, sums))
    return made.run_id()


@pytest.mark.parametrize("where", ["absolute", "above"])
def test_an_old_run_whose_data_lead_elsewhere_writes_nothing_there(old, tmp_path, where):
    """Its labels' file is named after the fingerprint of its data."""
    name = forged(old, str(tmp_path / "elsewhere") if where == "absolute" else "../../elsewhere")
    found = commands.verify_runs(redo=False)
    assert found["damaged"] == [name]
    assert not list(tmp_path.glob("**/elsewhere*"))


def test_an_old_run_with_other_labels_does_not_replace_those_of_the_runs_on_its_data(old):
    commands.migrate_runs()
    (labels,) = (paths.OUTPUTS / "labels").iterdir()
    whole = files.unpack(labels.read_bytes())
    other = {split: 1 - values for split, values in whole.items()}
    labels.write_bytes(files.pack(other))
    shutil.copytree(OLD / NAMES[0], old / NAMES[0], dirs_exist_ok=True)
    (old / NAMES[0] / "arrays.npz").unlink()
    with pytest.raises(DamagedRun, match="its labels are not those of other runs"):
        migrate.migrate(NAMES[0])
    assert files.unpack(labels.read_bytes())["test"].tolist() == other["test"].tolist()
    labels.write_bytes(b"x" * 9)  # what is no file of labels is in nobody's way
    assert migrate.migrate(NAMES[0])
    assert files.unpack(labels.read_bytes())["test"].tolist() == whole["test"].tolist()
