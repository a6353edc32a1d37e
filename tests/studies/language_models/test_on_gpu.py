"""Language models on a GPU: everything is there, the same twice, after a stop, and what a CPU trains."""

import dataclasses

import numpy as np
import pytest
import torch

from kdnb.core.device import precision
from kdnb.studies.language_models import models, runs, target_cache, training
from kdnb.studies.language_models.caching import Wanted
from kdnb.studies.language_models.runs import Arm, Material
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.training import Watch

SOFT = {"alpha": 0.5, "precision": "fp32"}
ARMS = {
    "erm": Arm(student="llama-1x32", changes={"precision": "fp32"}),
    "erm, auto": Arm(student="llama-1x32", changes={"precision": "auto"}),
    "ls": Arm(student="llama-1x32", changes={"alpha": 0.2, "divergence": "uniform", "precision": "fp32"}),
    "cut": Arm(student="cut-1", changes={**SOFT, "targets": "online", "divergence": "gjsd"}),
    "top k": Arm(student="cut-1", changes={**SOFT, "targets": "cache"}, cache=Wanted(kept=8, precision="fp32")),
    "renorm": Arm(
        student="cut-1",
        changes={**SOFT, "targets": "cache", "variant": "renorm"},
        cache=Wanted(kept=8, precision="fp32"),
    ),
    "sampled": Arm(
        student="cut-1",
        changes={**SOFT, "targets": "cache", "variant": "sampled"},
        cache=Wanted(storage="sampled", kept=8, precision="fp32"),
    ),
    "hidden, auto": Arm(
        student="cut-1", changes={"alpha": 1.0, "targets": "cache", "precision": "auto"}, cache=Wanted(storage="hidden")
    ),
    "on policy": Arm(student="cut-1", changes={**SOFT, "targets": "on_policy", "prompt": 4}),
    "mamba": Arm(student="mamba2-2x64", changes={"precision": "fp32"}),
}
EACH = {"tokens": 15 * 8 * 6, "batch_size": 8, "micro_batch": 4, "lr": 1e-2}


@pytest.fixture
def material(store, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "MODELS", tmp_path / "lm")
    monkeypatch.setattr(target_cache, "FOLDER", tmp_path / "targets")
    source = MarkovSource()
    return Material(source.blocks(40, 16, 0), source.blocks(6, 16, 1), models.student("llama-2x64", None, 64, 7))


def with_each(arm):
    return dataclasses.replace(arm, changes={**EACH, **arm.changes})


def trained(material, name, watch=None):
    arm = ARMS[name]
    config, student, targets = runs.prepare(material, with_each(arm))
    begun = weights(student)
    history = training.fit(config, student, material.train, targets, watch)
    return student, begun, history


def weights(language):
    return torch.cat([p.detach().flatten().cpu() for p in language.model.parameters()])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ARMS)
def test_everything_is_there_and_the_same_twice_and_after_a_stop(material, tmp_path, name):
    assert material.teacher.head.weight.is_cuda
    one, begun, history = trained(material, name)
    assert all(p.is_cuda for p in one.model.parameters())
    assert np.isfinite([row["loss"] for row in history]).all()
    assert (weights(one) != begun).any()
    assert (weights(trained(material, name)[0]) == weights(one)).all()

    def stop(step, *_):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(material, name, Watch(tmp_path / "state", 0.0, stop))
    after, _, rest = trained(material, name, Watch(tmp_path / "state"))
    assert [row["step"] for row in rest] == [row["step"] for row in history]
    assert (weights(after) == weights(one)).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["erm", "ls", "cut", "top k", "renorm"])
def test_a_cpu_trains_the_same_student(material, monkeypatch, name):
    one, begun, _ = trained(material, name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    material.teacher.model.cpu()
    other, same, _ = trained(material, name)
    assert not other.head.weight.is_cuda
    assert (begun == same).all()
    moved = (weights(one) - begun).norm()
    assert (weights(other) - weights(one)).norm() < 0.01 * moved


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_tells_the_card_its_precision_and_memory(material):
    arm = ARMS["erm, auto"]
    _, record = runs.ensure(material, with_each(arm), keep=True)
    cost = record.metrics["cost"]
    assert cost["device"] == torch.cuda.get_device_name()
    assert cost["precision"] == precision()
    assert 0 < cost["peak_memory_mib"] < torch.cuda.get_device_properties(0).total_memory / 2**20
    assert record.metrics["kl"] > 0
