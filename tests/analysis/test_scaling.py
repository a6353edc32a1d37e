"""Temperature scaling of whole studies: models that differ in volume alone come out alike."""

import numpy as np
import pandas as pd
import pytest

from kdnb.analysis import scaling
from kdnb.core import metrics
from kdnb.core.store import SPLITS, Run
from kdnb.experiment import tables
from kdnb.experiment.arms import arm_config


@pytest.fixture(scope="module")
def study():
    """Two seeds of ERM; beside each an "LS" model with half its logits, and a "KD" model that knows less."""
    runs, rows = {}, []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        labels = {split: rng.integers(0, 2, 400) for split in SPLITS}
        plain = {s: 2.0 * np.eye(2)[y] + rng.normal(size=(400, 2)) for s, y in labels.items()}
        worse = {s: 0.5 * z + rng.normal(size=z.shape) for s, z in plain.items()}
        quiet = {s: z / 2 for s, z in plain.items()}
        for arm, logits in {"erm_small": plain, "ls_small": quiet, "kd_standard": worse}.items():
            config = arm_config(
                arm, task="rt", profile="toy", data="d" * 16, seed=seed, teacher_run="t" * (arm[0] == "k")
            )
            told = {s: metrics.summary(z, labels[s]) for s, z in logits.items()}
            run = Run(config, logits, labels, {**told, "cost": {"seconds": 1.0}}, [])
            runs[run.run_id] = run
            rows.append({"run_id": run.run_id, "arm": arm, "seed": seed, **told["test"]})
    return tables.Study("rt", "toy", pd.DataFrame(rows), runs)


def test_what_differs_in_scale_alone_is_alike_after_it(study):
    found = scaling.scaled(study)
    tau = found.table.pivot_table(index="seed", columns="arm", values="fitted_tau")
    assert list(2 * tau.ls_small) == pytest.approx(list(tau.erm_small), rel=1e-3)
    rest = scaling.before_and_after(found, [("ls_small", "erm_small"), ("kd_standard", "erm_small")])
    assert rest.entropy[0] > 0.05
    assert rest.scaled_entropy[0] == pytest.approx(0, abs=1e-4)
    assert rest.scaled_nll[0] == pytest.approx(0, abs=1e-4)
    assert rest.scaled_nll[1] > 0.05  # what a model does not know, no temperature tells it
    assert list(rest.n) == [2, 2]


def test_scaling_never_raises_the_nll_by_much_and_leaves_the_runs_alone(study):
    found = scaling.scaled(study)
    assert (found.table.scaled_nll <= found.table.nll + 0.01).all()
    assert found.runs is study.runs
    assert list(found.table.entropy) == list(study.table.entropy)
