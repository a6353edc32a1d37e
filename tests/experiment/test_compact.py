"""Runs copied in half precision: the same names, metrics of what is stored, whole or not there."""

import numpy as np
import pytest
from fakes import store_run

from kdnb import paths
from kdnb.core import metrics, store
from kdnb.core.config import SPLITS
from kdnb.experiment import compact
from kdnb.experiment.arms import arm_config


@pytest.fixture
def run(store):
    config = arm_config("erm_small", task="rt", profile="toy", data="0" * 16, seed=0)
    store_run(config, validation=10)
    return config.run_id()


def test_a_copy_has_the_name_and_the_metrics_of_its_rounded_logits(run, tmp_path, monkeypatch):
    before = store.load(run)
    assert compact.compact(run, tmp_path / "runs")
    assert not compact.compact(run, tmp_path / "runs")
    with np.load(tmp_path / "runs" / run / "arrays.npz") as arrays:
        assert {arrays[split].dtype for split in SPLITS} == {np.dtype(np.float16)}
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    copy = store.load(run)
    assert copy.config == before.config
    assert copy.metrics["cost"]["stored"] == "float16"
    for split in SPLITS:
        assert copy.logits[split].dtype == np.float32
        less_last = before.logits[split] - before.logits[split][:, -1:]
        np.testing.assert_allclose(copy.logits[split], less_last, rtol=2**-11)
        of = metrics.posterior(before.logits[split])
        np.testing.assert_allclose(metrics.posterior(copy.logits[split]), of, rtol=0, atol=1e-3)
        assert copy.metrics[split] == metrics.summary(copy.logits[split], copy.labels[split], None)


def test_nothing_is_left_of_a_copy_that_fails(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(store, "write_content", full)
    with pytest.raises(OSError, match="no space"):
        compact.compact(run, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
