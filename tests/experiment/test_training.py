"""A training that goes wrong says so: it diverged, or it has learnt nothing."""

import pytest
import torch
from command import last_json

from kdnb import paths
from kdnb.core import store
from kdnb.experiment import surroundings
from kdnb.models import classifiers

TRAIN = ["train", "rt", "--profile", "toy", "--epochs", "1"]


def runs_there():
    return [path.name for path in paths.RUNS.iterdir() if path.name[0] != "."]


@pytest.mark.slow
def test_a_training_that_diverges_is_one_line_and_leaves_nothing(kdnb):
    teacher = last_json(kdnb(*TRAIN, "--json")[1])["run_id"]
    words = ["--method", "kd", "--teacher", teacher, "--tau", "1e20", "--alpha", "1"]
    code, _, err = kdnb(*TRAIN, *words)
    assert code == 2
    assert err.startswith("kdnb: rt-kd-small-s0 diverged: its loss is inf by step 1, with learning rate ")
    assert "tau 1e+20; nothing is stored" in err
    assert len(err.splitlines()) == 1
    assert runs_there() == [teacher]


@pytest.mark.slow
def test_a_run_that_has_learnt_nothing_is_called_degenerate(kdnb):
    for words, nothing in (([*TRAIN, "--lr", "0.99"], True), (TRAIN[:-2], False)):
        code, out, _ = kdnb(*words, "--json")
        assert code == 0
        assert last_json(out)["degenerate"] is nothing
        for said in (out, kdnb(*words)[1]):  # trained, then loaded
            (line,) = [line for line in said.splitlines() if line.startswith("[1/1] ")]
            assert ("degenerate: it has learnt nothing" in line) is nothing


@pytest.mark.slow
def test_the_peak_memory_of_a_gpu_is_that_of_the_run(kdnb, monkeypatch):
    """Not of the process so far: a search's second run does not have its first one's peak."""
    peak, sizes, build = [], iter((700, 300)), classifiers.build

    def built(*args):
        peak.append(next(sizes) * 2**20)
        return build(*args)

    monkeypatch.setattr(classifiers, "build", built)
    monkeypatch.setattr(surroundings, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", peak.clear)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: max(peak))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    for seed, megabytes in enumerate((700, 300)):
        run_id = last_json(kdnb(*TRAIN, "--seed", seed, "--json")[1])["run_id"]
        assert store.load(run_id).metrics["cost"]["peak_memory_mib"] == megabytes
