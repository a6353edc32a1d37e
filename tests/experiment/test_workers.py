"""Trainings side by side: the runs that one process gives, teachers first, a dead worker told in one line."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

from kdnb import paths
from kdnb.core import store
from kdnb.errors import WorkerDied
from kdnb.experiment import obtain, workers
from kdnb.experiment.points import compare_points, trainings

ARMS = ("erm_small", "ls_small", "kd_self", "tfkd_small")


@pytest.fixture
def points(toy):
    quick = {"epochs": 1, "history_points": 0}
    return compare_points("rt", "toy", toy.fingerprint, (0, 1), ARMS, quick)


@pytest.fixture
def shared_store(tmp_path, monkeypatch):
    """A store that workers find as well: they read the environment."""
    for name, variable in (("RUNS", "KDNB_OUTPUTS"), ("REFERENCE", "KDNB_REFERENCE")):
        monkeypatch.setenv(variable, str(tmp_path / name))
        monkeypatch.setattr(paths, name, tmp_path / name / "runs" if name == "RUNS" else tmp_path / name)


@pytest.mark.slow
def test_two_workers_give_the_runs_of_one_process(points, toy, shared_store, tmp_path, monkeypatch):
    said = []
    found = workers.run_points(points, toy, 2, said.append)
    assert list(found) == [point.config.run_id() for point in points]
    assert len(said) == len(points)
    assert all("trained" in line for line in said)
    assert all("loaded" in line for line in _again(points, toy))
    monkeypatch.setattr(paths, "RUNS", tmp_path / "alone")
    for run_id, run in obtain.run_points(points, toy, lambda line: None).items():
        np.testing.assert_array_equal(run.logits["test"], found[run_id].logits["test"])


def _again(points, data):
    said = []
    workers.run_points(points, data, 2, said.append)
    return said


@pytest.mark.slow
def test_students_wait_for_their_teachers(points):
    groups = trainings(points)
    assert {point.config.method for group in workers._ready(groups, {}) for point in group} == {"erm", "ls", "tfkd"}
    students = [group for group in groups if group[0].config.method == "kd"]
    assert workers._ready(students, {}) == students  # their teachers are stored, or will be missed by name


@pytest.mark.slow
def test_a_worker_that_dies_is_told(points, toy, shared_store):
    def kill(line):
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(WorkerDied, match="a worker died"):
        workers.run_points(points, toy, 2, kill)
    assert store.stored_ids()  # what was finished is kept


def test_fewer_than_no_worker(points, toy):
    with pytest.raises(ValueError, match="workers must be >= 0, got -1"):
        workers.run_points(points, toy, -1)


@pytest.mark.parametrize(
    ("cores", "profile", "gpu", "stored", "wanted"),
    [
        (2, "demo", False, 0, 2), (16, "demo", False, 0, workers.MOST), (1, "demo", False, 0, 1),
        (2, "toy", False, 0, 1), (2, "demo", True, 0, 1), (16, "demo", False, 5, 3), (16, "demo", False, 7, 1),
    ],
)  # fmt: skip
def test_as_many_processes_as_the_points_are_worth(monkeypatch, cores, profile, gpu, stored, wanted):
    import torch

    from kdnb.core import device

    every = compare_points("rt", profile, "0" * 12, (0, 1), ARMS)
    groups = trainings(every)
    assert len(groups) == 8
    there = {point.config.run_id() for group in groups[:stored] for point in group}
    monkeypatch.setattr(store, "exists", there.__contains__)
    monkeypatch.setattr(workers, "cores", lambda: cores)
    monkeypatch.setattr(device, "device", lambda: torch.device("cuda" if gpu else "cpu"))
    assert workers.usual(every) == wanted
