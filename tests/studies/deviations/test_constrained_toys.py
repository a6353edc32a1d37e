"""The arms of the constrained students, trained small; the rule on tables whose verdict is known."""

import pandas as pd
import pytest
import torch

from kdnb.studies.deviations import constrained as made
from kdnb.studies.deviations.constrained import log_odds, lowest
from kdnb.studies.deviations.trainers import Teaching, fit_linear

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def toy_b():
    return made.toy_b_bench(SEEDS, rows=200, steps=150)


@pytest.fixture(scope="module")
def table(toy_b):
    return made.constrained_students(toy_b)


@pytest.fixture(scope="module")
def digits_table():
    return made.constrained_students(made.digits_bench((0, 1), rows=60, epochs=4), made.Strengths((1.0,), (2.0,)))


def means(table, column):
    return table.groupby(["arm", "conditions", "strength"])[column].mean()


@pytest.mark.parametrize("bench", [made.toy_b_bench((0, 1)), made.digits_bench((0, 1))], ids=["TOY-B", "digits"])
def test_a_bench_knows_its_clean_labels_and_keeps_the_extra_inputs_apart(bench):
    for toy, clean, extra in zip(bench.toys, bench.clean, bench.extra, strict=True):
        wrong = (toy.labels != clean).double().mean()
        assert 0.05 < wrong < 0.5
        assert extra.shape == toy.inputs.shape
        rows = torch.cat([toy.inputs, toy.test_inputs, extra])
        assert len(rows.unique(dim=0)) == len(rows)


def test_without_noise_the_labels_are_the_clean_ones():
    for bench in (made.toy_b_bench((3,), 50, label_noise=0.0), made.digits_bench((3,), 50, label_noise=0.0)):
        assert torch.equal(bench.toys[0].labels, bench.clean[0])


def test_every_arm_is_there_once_for_every_seed(table, digits_table):
    count = table.groupby(["arm", "conditions", "strength"]).size()
    assert (count == len(SEEDS)).all()
    assert len(count) == 3 + 3 + 3 * 3 + 3 + 1 + 3 + 1  # teacher, ERM, KD; slopes; forced; match; more inputs; forced
    assert set(digits_table.arm) == set(table.arm)
    assert not table.isna().any(axis=None)


def test_the_arms_are_what_the_public_trainers_make_of_their_targets(toy_b, table):
    """KD and slope 2 of one seed, trained alone by `fit_linear`."""
    toy = toy_b.toys[1]
    teacher = toy.inputs @ fit_linear(toy, 150)
    for arm, strength, targets in (("KD", 0.0, teacher), ("slope", 2.0, 2 * teacher)):
        weights = fit_linear(toy, 150, teaching=Teaching(targets))
        accuracy = ((toy.test_inputs @ weights).argmax(1) == toy.test_labels).double().mean().item()
        low = lowest(teacher)
        gap = (log_odds(toy.inputs @ weights, teacher.argmax(1)) - log_odds(teacher))[low].mean().item()
        assert made.pick(table, arm, "KD", strength)[1] == pytest.approx(accuracy)
        assert made.pick(table, arm, "KD", strength, "gap_train")[1] == pytest.approx(gap)


def test_a_linear_model_has_no_luck_of_start(table):
    """From 0 by full batches the control is the teacher itself: what a student has more comes from its targets."""
    assert (made.pick(table, "ERM", "KD", 0.0, "agreement_test") == 1).all()
    assert made.pick(table, "ERM", "KD", 0.0, "kl_train").abs().max() < 1e-12


def test_match_matches_and_the_forced_go_where_they_are_sent(table):
    kl, gap = means(table, "kl_train"), means(table, "gap_train")
    near = [kl["match", "match", share] for share in made.SHARES]
    assert kl["KD", "KD", 0.0] > near[0] > near[1] > near[2] > 0
    for conditions, plain in (("KD", gap["KD", "KD", 0.0]), ("match", gap["match", "match", 0.5])):
        forced, placebo = gap["underfit", conditions, 1.0], gap["placebo", conditions, 1.0]
        assert forced < placebo < plain
    assert gap["underfit", "KD", 2.0] < gap["underfit", "KD", 1.0] < gap["underfit", "KD", 0.5]
    slopes = means(table, "slope_train")
    assert slopes["slope", "KD", 0.5] < slopes["KD", "KD", 0.0] < slopes["slope", "KD", 2.0]


def test_the_gain_of_distillation_goes_when_the_deviation_does(table):
    """Known for TOY-B: KD is ahead of its teacher, and a student that is its teacher cannot be."""
    accuracy = means(table, "accuracy")
    assert accuracy["KD", "KD", 0.0] > accuracy["match", "match", 0.5] + 0.01
    assert accuracy["match", "match", 0.5] == pytest.approx(accuracy["teacher", "-", 0.0], abs=0.01)


def test_delta_nought_is_distillation(toy_b):
    rows = made.constrained_students(toy_b, made.Strengths((0.0,), (1.0,), (0.0,), longer=1, main=0.0))
    accuracy, kl = means(rows, "accuracy"), means(rows, "kl_train")
    for arm in ("underfit", "placebo", "placebo, same dose", "slope", "match"):
        where = {"slope": ("KD", 1.0), "match": ("match", 0.0)}.get(arm, ("KD", 0.0))
        assert accuracy[(arm, *where)] == accuracy["KD", "KD", 0.0]
        assert kl[(arm, *where)] == pytest.approx(kl["KD", "KD", 0.0], abs=1e-12)


# The rule


def told(underfit, match, placebo, forced_in_match=None):
    """A table of three seeds in which these are the accuracies' means, with a little noise that is the same for all."""
    rows = []
    for seed, luck in enumerate((-0.01, 0.0, 0.02)):
        own = {"match": [("match", match)], "KD": []}
        for conditions in own:
            shown = underfit if conditions == "KD" or forced_in_match is None else forced_in_match
            arms = [("underfit", shown), ("placebo", placebo), ("placebo, same dose", placebo), *own[conditions]]
            for arm, value in arms:
                strength = 0.5 if arm == "match" else 1.0
                wobble = 0.001 * seed * (arm == "underfit")
                rows.append((arm, conditions, strength, seed, value + luck + wobble))
    return pd.DataFrame(rows, columns=["arm", "conditions", "strength", "seed", "accuracy"])


@pytest.mark.parametrize(
    ("accuracies", "cause"),
    [
        ((0.85, 0.80, 0.80), True),
        ((0.85, 0.80, 0.85), False),  # the placebo does as well
        ((0.85, 0.86, 0.80), False),  # match does better
        ((0.80, 0.80, 0.80), False),  # nothing happens
        ((0.85, 0.80, 0.80, 0.79), False),  # only where the conditions differ too
    ],
)
def test_the_rule_asks_for_both_rivals_in_both_conditions(accuracies, cause):
    compared = made.comparisons(told(*accuracies))
    assert made.is_cause(compared) is cause
    assert len(compared) == 2 * len(made.RIVALS)
    assert (compared.n == 3).all()


def test_differences_are_paired_by_seed_in_points():
    compared = made.comparisons(told(0.85, 0.80, 0.80)).set_index(["conditions", "rival"])
    row = compared.loc[("KD", "placebo")]
    assert (row["mean"], row.half) == pytest.approx((5.1, 4.303 * 0.1 / 3**0.5), abs=1e-3)  # 5.0, 5.1, 5.2


def test_an_arm_that_is_not_there_is_told(table):
    with pytest.raises(ValueError, match="no arm 'underfit' in the conditions of 'KD' with strength 7"):
        made.comparisons(table, delta=7)
