"""Stored runs as tables: what is in use is not read again, what has changed on the disk is."""

from types import SimpleNamespace

import numpy as np
import pytest

from kdnb.core import store as runs
from kdnb.core.metrics import summary
from kdnb.experiment import tables


@pytest.fixture
def kept(store, quick):
    """A store of one run, by hand; the run."""
    rng = np.random.default_rng(0)
    config = quick("erm_small", data=SimpleNamespace(fingerprint="a" * 16, task=SimpleNamespace(name="rt")))
    logits = {split: rng.normal(size=(8, 2)).astype(np.float32) for split in ("train", "validation", "test")}
    labels = {split: np.arange(8) % 2 for split in logits}
    metrics = {"cost": {"seconds": 1.0}, **{split: summary(logits[split], labels[split]) for split in logits}}
    run = runs.Run(config=config, logits=logits, labels=labels, metrics=metrics, history=[])
    runs.save(run)
    return run


def test_a_run_in_use_is_not_read_again(kept):
    """Tables of one run share it; once nobody has it, it is read anew: nothing is held for its own sake."""
    (first,), (second,) = tables.load_runs(), tables.load_runs()
    assert first is second
    np.testing.assert_array_equal(first.logits["test"], kept.logits["test"])
    del first, second
    assert not [run for run in tables._ALIVE.values() if run.run_id == kept.run_id]


def test_a_run_that_was_damaged_meanwhile_is_seen(kept, capsys):
    (held,) = tables.load_runs()
    path = runs.folder(kept.run_id) / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-9])
    assert tables.load_runs() == []
    assert kept.run_id in capsys.readouterr().err
    assert held.run_id == kept.run_id
