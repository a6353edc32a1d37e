"""Curves over the switch point (docs/experiments.md, 7): effects of known tables, TOY-B's known sizes, stored runs."""

import numpy as np
import pandas as pd
import pytest

from kdnb.analysis import statistics
from kdnb.analysis.statistics import verdict
from kdnb.core import store as runs
from kdnb.experiment.training import train as fit
from kdnb.studies import registry
from kdnb.studies.deviations import switched_toys, switching
from kdnb.studies.deviations.switching import EARLY, EFFECTS, LATE

SEEDS = range(3)
AT = (0.25, 0.5, 0.75)


def made(late, early=None, noise=0.0, gain=0.1, seeds=5):
    """A table with the recovered shares asked for, s -> R; one-hot at .7, every accuracy with its own noise."""
    rng, rows = np.random.default_rng(0), []
    for way, shares in ((LATE, {0.0: 1, 1.0: 0, **late}), (EARLY, {0.0: 0, 1.0: 1, **(early or {})})):
        rows += [
            {"way": way, "switch_at": at, "seed": seed, "accuracy": 0.7 + 0.01 * seed + gain * share + error}
            for at, share in shares.items()
            for seed, error in zip(range(seeds), noise * rng.normal(size=seeds), strict=True)
        ]
    return pd.DataFrame(rows)


# Effects of known tables


def test_effects_are_the_shares_built_in():
    rows = made({0.25: 0.75, 0.5: 0.6, 0.75: 0.1}, {0.75: 0.8})
    found = {name: effect(rows) for name, effect in EFFECTS.items()}
    assert found["late teacher"].to_numpy() == pytest.approx(0.1)
    assert found["early teacher"].to_numpy() == pytest.approx(0.3)
    assert found["recovery slope"].to_numpy() == pytest.approx(-1.3)
    assert switching.labels_last(rows).to_numpy() == pytest.approx(-0.02)
    assert {tuple(values.index) for values in found.values()} == {(0, 1, 2, 3, 4)}


def test_the_slope_leaves_the_pure_methods_out():
    """They are 1 and 0 by definition: a flat curve between has no slope."""
    assert switching.recovery_slope(made(dict.fromkeys(AT, 0.5))).to_numpy() == pytest.approx(0, abs=1e-12)
    assert switching.recovery_slope(made({0.5: 0.5})).empty


def test_recovered_gains_are_one_and_nought_at_the_ends():
    found = switching.recovered(made({0.5: 0.6}, {0.5: 0.3}, noise=0.01)).set_index(["way", "switch_at"])
    for way, at, share in ((LATE, 0.0, 1), (LATE, 1.0, 0), (EARLY, 0.0, 0), (EARLY, 1.0, 1)):
        assert found.loc[(way, at), ["R", "low", "high"]].tolist() == pytest.approx([share] * 3, abs=1e-9)
    middle = found.loc[(LATE, 0.5)]
    assert middle.low < middle.R < middle.high
    assert middle.n == 5


def test_the_interval_of_r_is_fiellers():
    """Its ends are the ratios at which the paired difference has an interval that begins or ends at 0."""
    rows = made({0.5: 0.6}, noise=0.01)
    end = switching.recovered(rows).set_index(["way", "switch_at"]).loc[(LATE, 0.5)]
    wide = rows[rows.way == LATE].pivot(index="seed", columns="switch_at", values="accuracy")
    for ratio in (end.low, end.high):
        mean, half = statistics.t_interval((wide[0.5] - wide[1.0]) - ratio * (wide[0.0] - wide[1.0]))
        assert abs(mean) == pytest.approx(half)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.7])
def test_the_verdict_on_one_half_agrees_with_the_interval_of_r(share):
    rows = made({0.5: share}, noise=0.006)
    found = switching.effect(switching.late_teacher(rows), 1)
    end = switching.recovered(rows).set_index(["way", "switch_at"]).loc[(LATE, 0.5)]
    assert found.effect == pytest.approx(end.R - 0.5)
    assert (found.low > 0) == (end.low > 0.5)


@pytest.mark.parametrize("gain", [0.0, -0.1])
def test_without_a_gain_nothing_is_recovered_and_nothing_decided(gain):
    rows = made({0.25: 0.5, 0.5: 0.5, 0.75: 0.5}, {0.75: 0.5}, noise=0.01, gain=gain)
    assert switching.recovered(rows)[["R", "low", "high"]].isna().all(axis=None)
    for effect in EFFECTS.values():
        found = switching.effect(effect(rows), 1)
        assert (found.n, verdict(found.low, found.high, 1)) == (5, "undecided")


def test_a_faint_gain_leaves_the_interval_without_ends():
    rng = np.random.default_rng(2)
    gains = pd.Series([0.01, 0.03, 0.02, 0.05, 0.0])  # more than twice its error, less than the t interval asks
    assert gains.mean() > 2 * gains.sem()
    assert gains.mean() < statistics.t_interval(gains)[1]
    assert switching._fieller(gains / 2 + rng.normal(0, 0.01, 5), gains) == (-np.inf, np.inf)


def test_missing_runs_are_gaps():
    rows = made({0.25: 0.8, 0.5: 0.6, 0.75: 0.4})
    assert switching.early_teacher(rows).empty  # not switched at .75
    rows = rows[~((rows.way == LATE) & (rows.seed == 3) & (rows.switch_at == 0.5))]
    assert switching.late_teacher(rows).index.tolist() == [0, 1, 2, 4]
    rows = rows[~((rows.way == LATE) & (rows.switch_at == 0))]
    assert switching.effect(switching.late_teacher(rows), 1).n == 0
    assert switching.recovered(rows).way.unique().tolist() == [EARLY]


# Trained anew


@pytest.fixture(scope="module")
def toy_b():
    return switched_toys.toy_b_switches(SEEDS, AT, ramp=0)


@pytest.mark.slow
def test_toy_b_recovers_its_known_gains(toy_b):
    found = switching.recovered(toy_b).set_index(["way", "switch_at"]).R
    assert found[LATE][list(AT)].tolist() == pytest.approx([0.84, 0.60, 0.33], rel=0.3)
    assert (np.diff(found[LATE]) < 0).all()
    assert (np.diff(found[EARLY]) > 0).all()
    assert toy_b.teacher_fit.mean() == pytest.approx(0.926, abs=0.03)
    means = toy_b[toy_b.way == LATE].groupby("switch_at").accuracy.mean()
    assert means[[1.0, 0.0]].tolist() == pytest.approx([0.758, 0.803], abs=0.02)


@pytest.mark.slow
def test_toy_bs_verdicts_have_their_known_signs(toy_b):
    for name, sign in (("late teacher", 1), ("recovery slope", -1), ("early teacher", 1)):
        assert (sign * EFFECTS[name](toy_b) > 0).all(), name
    assert (switching.labels_last(toy_b) < 0).all()


@pytest.mark.slow
def test_a_linear_student_of_the_labels_is_its_teacher(toy_b):
    """One start, one order: the one-hot end deviates nowhere, KD does where its teacher is unsure."""
    low = switching.summary(toy_b, "low_gap").set_index(["way", "switch_at"])["mean"]
    assert low[LATE, 1.0] == low[EARLY, 0.0] == 0
    assert low[LATE, 0.0] == low[EARLY, 1.0] < low[LATE, 0.5] < 0


@pytest.mark.slow
def test_digits_networks_change_with_the_switch_and_share_their_ends():
    rows = switched_toys.digits_switches(0.4, SEEDS[:2], (0.5,), switched_toys.DigitsSetup(64, 2))
    assert rows.groupby("way").switch_at.unique().map(list).tolist() == [[0, 0.5, 1]] * 2
    wide = rows.pivot(index="seed", columns=["way", "switch_at"], values="entropy")
    assert (wide[LATE, 0.0] == wide[EARLY, 1.0]).all()
    assert (wide[LATE, 1.0] == wide[EARLY, 0.0]).all()
    assert wide.T.nunique().tolist() == [4, 4]
    stopped = switched_toys.digits_switches(0.4, SEEDS[:2], (), switched_toys.DigitsSetup(64, 2, 1))
    assert (stopped.teacher_fit.unique() != rows.teacher_fit.unique()).all()


def test_labels_last_compares_a_teacher_of_noisy_digits_with_one_of_clean(monkeypatch):
    """H7.4 by seed, with the tables it takes: what labels last bring on noisy digits, minus on clean ones."""
    tables = {switched_toys.NOISE: made({}, {0.75: 0.9}), 0.0: made({}, {0.75: 1.2})}
    monkeypatch.setattr(switched_toys, "digits_switches", lambda noise, seeds, at: tables[noise])
    assert switched_toys.labels_last_by_teacher(range(5)) == pytest.approx([-0.03] * 5)


# From the store


@pytest.fixture
def stored(store, toy, quick):
    """One seed of the grid at a toy size, saved: teacher, small ERM, KD, a switch each way, and a stranger."""
    from kdnb.sweeps import grids

    found = {}
    for point in grids.stages("switching", "rt", "toy", toy.fingerprint, (0,)).points:
        run = fit(point.config, toy, found.get(point.config.teacher_run))
        found[run.run_id] = run
        runs.save(run)
    runs.save(fit(quick("ls_small"), toy))
    return found


@pytest.mark.slow
def test_the_stored_grid_becomes_a_table(stored):
    found = switching.study("rt", "toy")
    assert set(found.runs) == set(stored)
    rows = switching.table(found)
    assert rows[["way", "switch_at"]].to_numpy().tolist() == [
        [way, at] for way in (EARLY, LATE) for at in (0.0, 0.5, 1.0)
    ]
    for row in rows.itertuples():
        run = stored[row.run_id]
        assert row.accuracy == run.metrics["test"]["accuracy"]
        at_end = {0.0: switching.WAYS[row.way][1], 1.0: switching.WAYS[row.way][0]}.get(row.switch_at, "switch")
        assert run.config.method == at_end
        teacher = next(run for run in stored.values() if run.config.student == "large")
        assert row.teacher_fit == teacher.metrics["train"]["accuracy"]
        x, y = switching.teacher_class_pair(teacher.logits["train"], run.logits["train"])
        assert row.low_gap == pytest.approx((y - x)[x <= np.quantile(x, 0.25)].mean())


def test_no_runs_no_table(store):
    assert switching.study("rt", "toy") is None
    empty = switching.table(None)
    assert empty.empty
    assert list(empty) == list(switching.COLUMNS)
    assert switching.recovered(empty).empty
    assert all(switching.effect(effect(empty), 1).n == 0 for effect in EFFECTS.values())


@pytest.mark.slow
def test_one_seed_decides_nothing_in_the_ledger(stored):
    found = registry.ledger(None, ("H7",), {"switching": switching.study("rt", "toy")}).set_index("id")
    assert set(found.index) == {"H7.1", "H7.2", "H7.3"}  # H7.4 is a simulation
    assert set(found.verdict) <= {"undecided", "no runs"}
    assert set(found.run_ids["H7.1"]) <= set(stored)
