"""Which stored students deviate beyond their controls: on runs made by hand, whose deviations are known."""

import numpy as np
import pytest

from kdnb.core import store as runs
from kdnb.core.metrics import summary
from kdnb.core.store import SPLITS, Run
from kdnb.experiment import tables
from kdnb.studies import registry
from kdnb.studies.deviations import stored
from kdnb.sweeps import grids

ROWS = 40
SEEDS = (0, 1, 2)
PATTERN = np.linspace(1, 5, ROWS)  # a teacher's X
SHIFTS = {  # of Y from X at the low end, by arm and tau; everywhere else students lie on the line
    ("kd_standard", 1.0): -0.1, ("kd_standard", 4.0): -0.3, ("kd_self", 1.0): -0.6, ("kd_self", 4.0): -0.8,
}  # fmt: skip
CONTROL = -0.2  # every small ERM model's, held against any teacher but itself


@pytest.fixture
def metrics_by_hand(monkeypatch):
    """Accuracies may be planted that are not those of the logits, which loading would find."""
    monkeypatch.setattr(runs.measures, "check", lambda *_: None)


def two_classes(x):
    """Logits of class 1 by their log-odds: (N,) -> (N, 2)."""
    return np.stack([np.zeros_like(x), x], axis=1).astype(np.float32)


def run_of(point, accuracy=None):
    """A run whose log-odds are the pattern, shifted at its low quarter as SHIFTS says."""
    config = point.config
    shift = {"erm_large": 0.0, "erm_small": CONTROL}.get(point.arm, SHIFTS.get((point.arm, config.tau)))
    low = np.quantile(PATTERN, 0.25) >= PATTERN
    logits = {split: two_classes(PATTERN + shift * low) for split in SPLITS}
    labels = {split: (np.arange(ROWS) % 2).astype(np.int64) for split in SPLITS}
    planted = {} if accuracy is None else {"accuracy": accuracy}
    metrics = {split: summary(logits[split], labels[split]) | planted for split in SPLITS}
    return Run(config, logits, labels, metrics | {"cost": {"seconds": 1.0}}, [])


@pytest.fixture
def kept(store):
    """keep(seeds, arms, accuracy): runs of the grid in an empty store."""

    def keep(seeds=SEEDS, arms=(), accuracy=lambda point: None):
        for point in grids.stages("deviations", "rt", "toy", "data", seeds, arms).points:
            runs.save(run_of(point, accuracy(point)))
        return stored.study("rt", "toy")

    return keep


def test_no_runs_no_study(store):
    assert stored.study("rt", "toy") is None
    rows = stored.table(None)
    assert rows.empty
    assert all(effect(rows).empty for effect in stored.EFFECTS.values())


@pytest.mark.slow
def test_every_student_stands_beside_its_control(kept):
    found = kept()
    rows = stored.table(found)
    assert len(rows) == 4 * 3 * 2
    assert list(rows.columns) == list(stored.COLUMNS)
    across, own = rows[rows.arm == "kd_standard"], rows[rows.arm == "kd_self"]
    assert (across.control_seed == across.seed).all()  # another size taught it: the same seed, without the teacher
    assert dict(zip(own.seed, own.control_seed, strict=True)) == {0: 1, 1: 2, 2: 0}
    for case in stored.cases(found):
        assert case.student.config.teacher_run == case.teacher.run_id
        assert case.control.config.method == "erm"
        assert case.control.run_id != case.teacher.run_id


@pytest.mark.slow
def test_gaps_are_those_built_in(kept):
    rows = stored.table(kept())
    for row in rows[rows.arm == "kd_standard"].itertuples():
        shift = SHIFTS[row.arm, row.tau]
        assert (row.low_gap, row.control_low_gap) == pytest.approx((shift, CONTROL), abs=1e-6)
        assert (row.low_beyond, row.high_gap) == pytest.approx((shift - CONTROL, 0), abs=1e-6)
        assert row.low_below == 1
    for row in rows[rows.arm == "kd_self"].itertuples():  # its teacher is shifted as the control is
        assert row.control_low_gap == pytest.approx(0, abs=1e-6)
        assert row.low_beyond == pytest.approx(SHIFTS[row.arm, row.tau] - CONTROL, abs=1e-6)


@pytest.mark.slow
def test_claims_have_their_effects(kept):
    rows = stored.table(kept())
    assert stored.underfit(rows).to_dict() == pytest.approx(dict.fromkeys(SEEDS, -0.6), abs=1e-6)
    assert stored.underfit_across(rows).to_dict() == pytest.approx(dict.fromkeys(SEEDS, -0.1 + 0.6), abs=1e-6)


@pytest.mark.slow
def test_underfit_needs_both_the_line_and_the_control(kept):
    rows = stored.table(kept())
    for gap, beyond in ((0.3, -0.2), (-0.2, 0.3)):
        effect = stored.underfit(rows.assign(low_gap=gap, low_beyond=beyond))
        assert (effect == 0.3).all()


@pytest.mark.slow
def test_the_correlation_is_within_a_seed(kept, metrics_by_hand):
    """Accuracies by seed: one where depth pays, one where it costs, one where nothing differs."""

    def accuracy(point):
        shift = SHIFTS.get((point.arm, point.config.tau), 0)
        return 0.5 + {0: -0.1, 1: 0.1, 2: 0.0}[point.config.seed] * shift

    rows = stored.table(kept(accuracy=accuracy))
    train = rows[(rows.split == "train") & (rows.seed == 0)]
    assert stored.deviation_and_gain(rows).to_dict() == pytest.approx({0: 1, 1: -1}, abs=1e-9)
    assert train.gain.to_numpy() == pytest.approx([-0.1 * SHIFTS[row.arm, row.tau] for row in train.itertuples()])


def test_one_seed_has_no_control_for_self_distillation(kept):
    rows = stored.table(kept(seeds=(4,)))
    assert set(rows.arm) == {"kd_standard"}
    assert stored.underfit(rows).empty
    assert stored.underfit_across(rows).empty


def test_a_student_without_its_control_is_left_out(kept):
    assert stored.table(kept(arms=("erm_large", "kd_standard"))).empty


@pytest.mark.slow
def test_runs_outside_the_grid_are_not_read(kept, quick):
    found = kept()
    (point,) = grids.stages("deviations", "rt", "toy", "data", (0,), ("erm_small",)).points
    other = run_of(point)
    runs.save(Run(quick("erm_small"), other.logits, other.labels, other.metrics, []))
    assert len(tables.stored_configs("rt", "toy")) == len(found.runs) + 1
    assert set(stored.study("rt", "toy").runs) == set(found.runs)


@pytest.mark.slow
def test_the_ledger_gives_them_their_verdicts(kept):
    """Self-KD lies .8 - .2 below its teacher's low end, the control nowhere; standard KD .1 below its control."""
    found = registry.ledger(None, ("H6",), {"deviations": kept()}).set_index("id")
    assert found.effect["H6.1"] == pytest.approx(-0.6, abs=1e-6)
    assert found.effect["H6.2"] == pytest.approx(-0.1 + 0.6, abs=1e-6)
    assert found.verdict[["H6.1", "H6.2"]].tolist() == ["holds", "holds"]
    assert found.n["H6.1"] == 3
    assert len(found.run_ids["H6.1"]) == 4 * 3 + 3 + 3  # the students and, each once, their controls and teachers
    assert found.verdict["H6.3"] == "no runs"  # nobody gains anything here: there is nothing to correlate


@pytest.mark.slow
def test_a_mean_r_has_no_interval_beyond_what_an_r_can_be(kept, metrics_by_hand):
    gains = {("kd_standard", 1.0): 0.0, ("kd_standard", 4.0): 0.2, ("kd_self", 1.0): 0.1, ("kd_self", 4.0): 0.3}

    def accuracy(point):
        gain = gains.get((point.arm, point.config.tau), 0.0)
        return 0.5 + (gain if point.config.seed else -gain)

    row = registry.ledger(None, ("H6.3",), {"deviations": kept(accuracy=accuracy)}).iloc[0]
    assert (row.low, row.high) == (-1, 1)
    assert row.verdict == "undecided"
