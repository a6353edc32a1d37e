"""The run store: whole or not at all, every byte checked, one clear line when the disk refuses."""

import errno
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
from fakes import CONFIG, made_run

from kdnb import files, paths
from kdnb.core import store as runs
from kdnb.errors import DamagedRun, StoreError
from kdnb.experiment import obtain
from kdnb.experiment.points import Point

EVERY_FILE = (*runs.FILES, "metrics.json")


@pytest.fixture
def saved(store):
    runs.save(made_run())
    return store / CONFIG.run_id()


def leftovers(store):
    """What a failed write could leave: anything but runs and the folder of locks."""
    return [path for path in store.rglob("*") if ".locks" not in path.parts] if store.is_dir() else []


def test_a_run_survives_save_and_load(saved):
    wanted, got = made_run(), runs.load(CONFIG.run_id())
    assert got.config == wanted.config
    assert got.metrics == wanted.metrics
    assert got.history == wanted.history
    for split in runs.SPLITS:
        np.testing.assert_array_equal(got.logits[split], wanted.logits[split])
        np.testing.assert_array_equal(got.labels[split], wanted.labels[split])
        assert got.logits[split].dtype == np.float32
        assert got.labels[split].dtype == np.int64


def test_the_folder_is_what_is_promised(saved):
    assert sorted(os.listdir(saved)) == ["arrays.npz", "config.json", "history.csv", "metrics.json"]
    assert runs.stored_ids() == [CONFIG.run_id()]
    with np.load(saved / "arrays.npz", allow_pickle=False) as arrays:
        assert set(arrays) == set(runs.SPLITS)
        assert arrays["train"].shape == (12, 2)
    with np.load(runs.labels_path(CONFIG.data, saved.parent), allow_pickle=False) as labels:
        assert {split: labels[split].shape for split in labels} == {"train": (12,), "validation": (5,), "test": (7,)}
    assert json.loads((saved / "config.json").read_text())["method"] == "erm"
    assert os.access(saved, os.R_OK | os.X_OK)
    assert saved.stat().st_mode & 0o777 == 0o755


def test_the_same_run_is_the_same_bytes(store, saved):
    before = {name: (saved / name).read_bytes() for name in EVERY_FILE}
    os.rename(saved, saved.with_name("elsewhere"))
    runs.save(made_run())
    assert {name: (saved / name).read_bytes() for name in EVERY_FILE} == before


def test_labels_that_another_zlib_packed_stay_as_they_are(saved, monkeypatch):
    """Runs hold the hash of the file: packed anew, it would no longer be that of the runs before."""
    path = runs.labels_path(CONFIG.data, saved.parent)
    before = path.read_bytes()

    def pack(arrays):
        packed = io.BytesIO()
        np.savez(packed, **arrays)
        return packed.getvalue()

    monkeypatch.setattr(files, "pack", pack)
    second = made_run(replace(CONFIG, seed=1))
    runs.save(second)
    assert path.read_bytes() == before
    for run_id in (CONFIG.run_id(), second.run_id):
        runs.load(run_id)
    runs.keep_labels(path, {"train": np.arange(3)})
    assert path.read_bytes() != before


def test_labels_whose_zip_is_called_encrypted_are_damage(saved):
    path = runs.labels_path(CONFIG.data, saved.parent)
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\1\2") + 8] ^= 1  # zipfile raises RuntimeError for it
    path.write_bytes(content)
    with pytest.raises(DamagedRun, match="encrypted"):
        runs.load(CONFIG.run_id())


def test_a_run_without_history_survives(store):
    runs.save(replace(made_run(), history=[]))
    assert runs.load(CONFIG.run_id()).history == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_FILE)
def test_any_flipped_byte_is_found(saved, name):
    path, rng = saved / name, np.random.default_rng(0)
    content = path.read_bytes()
    places = range(len(content)) if len(content) < 400 else np.unique(np.linspace(0, len(content) - 1, 400).astype(int))
    for place in places:
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << rng.integers(8)
        path.write_bytes(spoiled)
        with pytest.raises(DamagedRun, match=CONFIG.run_id()):
            runs.load(CONFIG.run_id())
    path.write_bytes(content)
    runs.load(CONFIG.run_id())


@pytest.mark.parametrize("name", EVERY_FILE)
@pytest.mark.parametrize("change", ["cut", "longer", "empty", "gone", "folder", "pipe"])
def test_any_other_damage_is_found(saved, name, change):
    path = saved / name
    content = path.read_bytes()
    path.unlink()
    if change == "folder":
        path.mkdir()
    elif change == "pipe":
        os.mkfifo(path)
    elif change != "gone":
        path.write_bytes({"cut": content[:-1], "longer": content + b"\n", "empty": b""}[change])
    with pytest.raises(DamagedRun, match=CONFIG.run_id()):
        runs.load(CONFIG.run_id())


def test_a_run_under_another_name_is_found(store, saved):
    other = replace(CONFIG, seed=1).run_id()
    os.rename(saved, store / other)
    with pytest.raises(DamagedRun, match="belongs to another run"):
        runs.load(other)


def test_no_run_is_no_damaged_run(store):
    with pytest.raises(FileNotFoundError, match="no run 'rt-erm-small-s0-nothing'"):
        runs.load("rt-erm-small-s0-nothing")
    assert runs.stored_ids() == []


def test_a_half_written_folder_is_invisible(store, monkeypatch):
    """Killed in the middle: the folder lies there, and no reader sees it."""
    real = runs.write_content

    def killed(scratch, *rest):
        real(scratch, *rest)
        (scratch / "metrics.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "write_content", killed)
    monkeypatch.setattr(runs.shutil, "rmtree", lambda *a, **k: None)  # as a kill leaves no time to clear up
    with pytest.raises(KeyboardInterrupt):
        runs.save(made_run())
    assert len(list(store.iterdir())) == 1
    assert runs.stored_ids() == []
    assert not runs.exists(CONFIG.run_id())
    monkeypatch.undo()


def test_an_interrupted_save_clears_up(store, monkeypatch):
    def stopped(scratch, *_):
        (scratch / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "write_content", stopped)
    with pytest.raises(KeyboardInterrupt):
        runs.save(made_run())
    assert leftovers(store) == []


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "free some space"), (errno.EIO, "cannot write run")])
def test_a_disk_that_refuses_gives_one_line_and_leaves_nothing(store, monkeypatch, code, words):
    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(runs.os, "fsync", refuse)
    with pytest.raises(StoreError, match=words) as error:
        runs.save(made_run())
    assert str(paths.RUNS) in str(error.value)
    assert os.strerror(code) in str(error.value)
    assert "\n" not in str(error.value)
    assert leftovers(store) == []


def test_an_outputs_folder_that_cannot_be_made_is_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "file" / "runs")
    with pytest.raises(StoreError, match="set KDNB_OUTPUTS to another folder"):
        obtain.ensure(CONFIG, None)  # data would be needed to train


def test_a_second_writer_changes_nothing(saved):
    before = saved.stat().st_ino
    runs.save(made_run())
    assert saved.stat().st_ino == before
    runs.load(CONFIG.run_id())
    assert len(leftovers(paths.RUNS)) == 5  # the folder and its four files


def test_set_aside_keeps_the_bytes(saved):
    (saved / "history.csv").write_bytes(b"odd")
    where = obtain.set_aside(CONFIG.run_id())
    assert where.parent == paths.DAMAGED
    assert (where / "history.csv").read_bytes() == b"odd"
    assert not saved.exists()
    runs.save(made_run())
    assert obtain.set_aside(CONFIG.run_id()) != where


@pytest.mark.parametrize("name", EVERY_FILE)
def test_the_config_of_a_damaged_run_is_saved_where_it_is_whole(saved, name):
    (saved / name).write_bytes(b"{}")
    assert runs.config_of(CONFIG.run_id()) == (None if name == "config.json" else CONFIG)


# Asking for a run: loaded if it is there, trained if not


@pytest.fixture
def trained(monkeypatch):
    """The list of configs that were trained; training itself takes no time."""
    from kdnb.experiment import training

    asked = []

    def train_epochs(configs, data, teacher=None, on_step=None, on_run=None):
        asked.extend((config, teacher and teacher.run_id) for config in configs)
        made = [made_run(config) for config in configs]
        for run in made:
            on_run(run)
        return made

    monkeypatch.setattr(training, "train_epochs", train_epochs)
    return asked


def test_a_run_that_exists_is_loaded_not_trained(store, trained):
    first, again = obtain.ensure(CONFIG, None), obtain.ensure(CONFIG, None)
    assert (first[1], again[1]) == (True, False)
    assert trained == [(CONFIG, None)]
    np.testing.assert_array_equal(first[0].logits["test"], again[0].logits["test"])


@pytest.mark.parametrize("name", EVERY_FILE)
@pytest.mark.parametrize("damage", ["altered", "gone", "pipe"])
def test_a_damaged_run_is_set_aside_told_and_redone(saved, trained, capsys, name, damage):
    (saved / name).unlink()
    if damage == "altered":
        (saved / name).write_bytes(b"odd")
    elif damage == "pipe":
        os.mkfifo(saved / name)
    _, now = obtain.ensure(CONFIG, None)
    assert now
    assert len(trained) == 1
    runs.load(CONFIG.run_id())
    assert len(list(paths.DAMAGED.iterdir())) == 1
    told = capsys.readouterr().err
    assert CONFIG.run_id() in told
    assert "set aside" in told
    assert not obtain.ensure(CONFIG, None)[1]


def test_a_student_gets_its_teachers_stored_run(store, trained):
    teacher, _ = obtain.ensure(CONFIG, None)
    student = replace(CONFIG, method="kd", teacher_run=teacher.run_id)
    obtain.ensure(student, None)
    assert trained[-1] == (student, teacher.run_id)


def test_a_student_without_its_teachers_run_is_refused(store, trained):
    with pytest.raises(FileNotFoundError, match="rt-erm-large-s0-0123456789ab"):
        obtain.ensure(replace(CONFIG, method="kd", teacher_run="rt-erm-large-s0-0123456789ab"), None)
    assert trained == []
    assert leftovers(store) == []


def test_of_one_training_only_what_is_missing_is_trained(store, trained):
    points = [Point("erm_small", replace(CONFIG, schedule="constant", epochs=epochs)) for epochs in (3, 1, 2)]
    other = Point("", replace(CONFIG, seed=1))
    obtain.ensure(points[1].config, None)
    trained.clear()
    said = []
    done = obtain.run_points([points[0], other, *points[1:]], None, said.append)
    assert list(done) == [point.config.run_id() for point in [points[0], other, *points[1:]]]
    assert [config.epochs for config, _ in trained] == [3, 2, CONFIG.epochs]
    assert [line[:5] for line in said] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert sum("loaded" in line for line in said) == 1


def test_a_reference_run_is_read_and_never_touched(saved, trained, capsys):
    reference = paths.REFERENCE / CONFIG.run_id()
    paths.REFERENCE.mkdir()
    saved.rename(reference)
    assert runs.stored_ids() == [CONFIG.run_id()]
    assert not obtain.ensure(CONFIG, None)[1]
    (reference / "history.csv").write_bytes(b"odd")
    assert obtain.ensure(CONFIG, None)[1]
    assert "training it again" in capsys.readouterr().err
    assert (reference / "history.csv").read_bytes() == b"odd"
    assert runs.folder(CONFIG.run_id()) == saved
    assert not obtain.ensure(CONFIG, None)[1]


ASK = """
import sys, time
from pathlib import Path
from kdnb import paths  # all that is slow to import comes before the start
from kdnb.experiment import training as train
from kdnb.data import splits as data
from kdnb.experiment import obtain as sweep
from kdnb.experiment.arms import arm_config
what = data.load("rt", "toy")
config = arm_config("erm_small", task="rt", profile="toy", data=what.fingerprint, seed=0, epochs=1, history_points=0)
Path(sys.argv[1], f"ready-{sys.argv[2]}").touch()
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.005)
print("trained" if sweep.ensure(config, what)[1] else "loaded")
"""


@pytest.mark.slow
def test_two_processes_train_one_run_once(tmp_path):
    environment = {**os.environ, "KDNB_OUTPUTS": str(tmp_path / "outputs")}
    asking = [
        forked.Popen([sys.executable, "-c", ASK, tmp_path, str(i)], env=environment, stdout=subprocess.PIPE)
        for i in range(2)
    ]
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("ready-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    (tmp_path / "go").touch()
    told = sorted(process.communicate(timeout=120)[0].strip() for process in asking)
    assert told == ["loaded", "trained"]
    assert [p.name for p in (tmp_path / "outputs" / "runs").iterdir() if not p.name.startswith(".")] != []


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1])))
import fakes
from kdnb import paths; from kdnb.core import store as runs; from kdnb.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    runs.save(fakes.made_run())
except StoreError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 300, 700, 1000])
def test_a_file_that_cannot_grow_leaves_nothing_behind(tmp_path, limit):
    """The kernel itself refuses to write more than `limit` bytes to a file."""
    environment = {**os.environ, "KDNB_OUTPUTS": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    here = Path(__file__).parents[1]
    done = forked.run([sys.executable, "-c", FULL, here, str(limit)], env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write run {CONFIG.run_id()} to {tmp_path}/runs: File too large; free some")
    assert list((tmp_path / "runs").iterdir()) == []
