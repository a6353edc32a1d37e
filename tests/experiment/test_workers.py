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


def test_no_worker_is_too_few(points, toy):
    with pytest.raises(ValueError, match="workers must be >= 1, got 0"):
        workers.run_points(points, toy, 0)
