"""What a row of the ledger says of its runs: which have learnt nothing, and by which chance differences go astray."""

import numpy as np
import pandas as pd
import pytest

from kdnb.analysis import statistics
from kdnb.analysis.ledger import FIXED, Chapter, Claim, Part, ledger, over_tasks
from kdnb.analysis.statistics import over_seeds
from kdnb.core import metrics
from kdnb.core.store import Run
from kdnb.experiment import tables
from kdnb.experiment.arms import arm_config

ROWS = 40
RIGHT = {"erm_small": (21, 22, 23), "ls_small": (23, 30, 26), "erm_large": (25, 26, 27)}  # test rows by seed


def logits_of(right: int) -> np.ndarray:
    """Two logits a row of labels 0, 1, 0, ...: so many of ROWS name the label, the surer the more there are."""
    margin = np.where(np.arange(ROWS) < right, 1, -1) * np.linspace(1, 1 + right / ROWS, ROWS)
    return (np.eye(2)[np.arange(ROWS) % 2] * margin[:, None]).astype(np.float32)


def made(arm: str, seed: int, logits: np.ndarray) -> Run:
    labels = dict.fromkeys(("train", "validation", "test"), np.arange(ROWS) % 2)
    values = {split: metrics.summary(logits, labels[split]) for split in labels}
    config = arm_config(arm, task="rt", profile="toy", data="0" * 16, seed=seed)
    return Run(config, dict.fromkeys(labels, logits), labels, {**values, "cost": {"seconds": 1.0}}, [])


def study(**logits: np.ndarray) -> tables.Study:
    """Three arms at three seeds; the logits of some arms are given."""
    runs = [made(arm, seed, logits.get(arm, logits_of(n))) for arm in RIGHT for seed, n in enumerate(RIGHT[arm])]
    return tables.Study("rt", "toy", tables.tidy(runs), {run.run_id: run for run in runs})


def behind(arm: str):
    """A test of one value a seed, by the runs of one arm, which the table of the study need not list."""

    def test(claim, one):
        ids = [run.run_id for run in one.runs.values() if tables.arm_of(run.config) == arm]
        return over_seeds(pd.Series([0.1, 0.2, 0.3]), claim.sign, ids)

    return test


CHAPTER = Chapter(
    claims={
        "Z1.1": Claim(id="Z1.1", statement="", source="", parts=(Part("accuracy", "ls_small", 1, "erm_small"),)),
        "Z1.2": Claim(id="Z1.2", statement="", source="", parts=(Part("entropy", "ls_small", 1, "erm_small"),)),
        "Z1.3": Claim(id="Z1.3", statement="", source="", test="teachers"),
    },
    tests={"teachers": behind("erm_large")},
)


def rows_of(one: tables.Study) -> pd.DataFrame:
    return ledger([CHAPTER], {FIXED: one})


def test_a_difference_of_accuracy_has_chance_over_seeds_and_examples():
    """By seeds it is .05, .2 and .075: texts alone would leave out how far these lie apart."""
    one = study()
    row = rows_of(one).set_index("id").loc["Z1.1"]
    ours, other = (
        np.array([one.per_example(arm, "accuracy", [seed]) for seed in range(3)]) for arm in ("ls_small", "erm_small")
    )
    assert row.effect == pytest.approx((2 + 8 + 3) / 3 / ROWS)
    assert row.bootstrap == "seeds and examples"
    both, texts = (statistics.paired_bootstrap(*arms) for arms in ((ours, other), (ours.mean(0), other.mean(0))))
    assert (row.example_low, row.example_high) == (both.low, both.high)
    assert both.high - both.low > 1.2 * (texts.high - texts.low)


def test_a_difference_of_entropy_has_chance_over_examples_alone():
    one = study()
    row = rows_of(one).set_index("id").loc["Z1.2"]
    texts = statistics.paired_bootstrap(
        *(one.per_example(arm, "entropy", [0, 1, 2]) for arm in ("ls_small", "erm_small"))
    )
    assert (row.example_low, row.example_high, row.bootstrap) == (texts.low, texts.high, "BCa")


def test_a_run_that_learnt_nothing_is_counted_whether_the_table_lists_it_or_not():
    """As the teachers of a search, which are no candidates themselves; one that names one class has learnt nothing."""
    nothing = np.tile(np.float32([1, 0]), (ROWS, 1))
    for one, count in ((study(), 0), (study(erm_large=nothing), 3)):
        assert rows_of(one).set_index("id").degenerate.to_dict() == {"Z1.1": 0, "Z1.2": 0, "Z1.3": count}
        students = one.only(one.table[one.table.student == "small"])
        assert rows_of(students).set_index("id").degenerate["Z1.3"] == count
    left = over_tasks({"rt": rows_of(study()), "mrpc": rows_of(students)}).set_index("id").left_out
    assert left.to_dict() == {"Z1.1": "", "Z1.2": "", "Z1.3": "mrpc"}
