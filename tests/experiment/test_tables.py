"""Stored runs as tables: what is in use is not read again, what has changed on the disk is."""

from types import SimpleNamespace

import fakes
import numpy as np
import pandas as pd
import pytest

from kdnb.core import store as runs
from kdnb.core.metrics import summary
from kdnb.experiment import tables
from kdnb.experiment.arms import arm_config


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


def test_runs_at_other_settings_are_told_of(store):
    """And what is said to make a task's runs is a command that does."""
    told = r"^no runs of rt at profile toy: make them with `kdnb compare rt --profile toy`$"
    with pytest.raises(tables.NoRuns, match=told):
        tables.study("rt", "toy")
    for seed in (0, 1):
        config = arm_config("erm_small", task="own:mine", profile="toy", data="0" * 16, seed=seed, epochs=1)
        fakes.store_run(config, 10)
    told = (
        r"^no runs of own:mine at profile toy at the settings wanted here, 2 at others: make them with `kdnb compare "
    )
    with pytest.raises(tables.NoRuns, match=told + "--data FILE --text COLUMN --label COLUMN --profile toy`$"):
        tables.study("own:mine", "toy")
    assert len(tables.study("own:mine", "toy", lambda config: True).table.run_id.unique()) == 2


def test_runs_at_other_profiles_are_named_with_the_way_to_read_them(store):
    """Those that are wanted alone: a run at other settings of another profile is not there to be read."""
    for profile, seeds in {"demo": (0, 1), "toy": (0,)}.items():
        for seed in seeds:
            config = arm_config("erm_small", task="own:mine", profile=profile, data="0" * 16, seed=seed)
            fakes.store_run(config, 10)
    fakes.store_run(arm_config("erm_small", task="own:mine", profile="base", data="0" * 16, seed=0, epochs=1), 10)
    with pytest.raises(tables.NoRuns) as told:
        tables.study("own:mine", "cpu")
    assert str(told.value) == (
        "no runs of own:mine at profile cpu, but 2 at profile demo and 1 at profile toy: read those with `-p "
        "profile=demo` (commands: `--profile demo`), or make them with `kdnb compare --data FILE --text COLUMN --label "
        "COLUMN --profile cpu`"
    )
    assert len(tables.study("own:mine", "demo").table) == 2


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


def test_a_seed_whose_arms_differ_in_precision_is_seen():
    """One precision a run; an arm trained in both, at two rates say, has both; an arm without a run has none."""
    used = [("erm_small", 0, "fp32"), ("erm_small", 1, "fp32"), ("ls_small", 0, "bf16"), ("ls_small", 0, "fp32")]
    table = pd.DataFrame([(f"run-{i}", arm, seed) for i, (arm, seed, _) in enumerate(used)])
    runs_of = {f"run-{i}": SimpleNamespace(metrics={"cost": {"precision": kind}}) for i, (*_, kind) in enumerate(used)}
    found = tables.precisions(tables.Study("rt", "toy", table.set_axis(["run_id", "arm", "seed"], axis=1), runs_of))
    assert found.erm_small.to_dict() == {0: "fp32", 1: "fp32"}
    assert found.ls_small[0] == "bf16 and fp32"
    assert np.isnan(found.ls_small[1])
