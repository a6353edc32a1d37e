"""Constrained students (T15.4): what a target is changed by, known exactly, and what training then makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kdnb.core.entropy import kl_divergence, posterior
from kdnb.studies.deviations import constrained, toys
from kdnb.studies.deviations.scatter import deviation, teacher_class_pair
from kdnb.studies.deviations.trainers import (
    Descent,
    Teaching,
    fit_linear,
    fit_linears,
    fit_networks,
    init_networks,
    network_logits,
    stacked,
)

SEEDS = range(2)


def random_teacher(*shape, seed=0, dtype=torch.float64):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def digits():
    """(inputs, labels, a teacher's parameters, its logits) of two small sets of digits."""
    x, y, *_ = stacked([toys.digits(seed, 80, 0.3) for seed in SEEDS])
    teacher = fit_networks(init_networks([(64, 16), (16, 10)], SEEDS), (x, y), Descent(8, 1e-2))
    return x, y, teacher, network_logits(teacher, x)


def student(digits, teacher_logits, epochs=3, share=0.0):
    """A student of its own start and order, at alpha 1 and tau 1."""
    x, y, teacher, _ = digits
    start = constrained.toward(init_networks([(64, 16), (16, 10)], [10, 11]), teacher, share)
    return fit_networks(start, (x, y), Descent(epochs, 1e-2, seeds=[10, 11]), Teaching(teacher_logits))


def equal(ours, other):
    return all(torch.equal(a, b) for a, b in zip(ours, other, strict=True))


# Targets


def test_log_odds_are_those_of_the_scatter_and_of_known_probabilities():
    teacher, logits = random_teacher(40, 5), random_teacher(40, 5, seed=1)
    x, y = teacher_class_pair(teacher.numpy(), logits.numpy())
    np.testing.assert_allclose(constrained.log_odds(teacher), x, rtol=1e-12)
    np.testing.assert_allclose(constrained.log_odds(logits, teacher.argmax(-1)), y, rtol=1e-12)
    known = torch.tensor([[0.9, 0.06, 0.04], [0.5, 0.3, 0.2]], dtype=torch.float64).log()
    assert constrained.log_odds(known).tolist() == pytest.approx([2.197225, 0], abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_the_constrained_target_by_its_probabilities(num_classes, delta):
    """phi^-1(phi(p_y) - delta) on the teacher's class, the rest rescaled to fill the row."""
    teacher = random_teacher(60, num_classes)
    where = constrained.lowest(teacher)
    p, chosen = posterior(teacher), teacher.argmax(1, keepdim=True)
    p_y = p.gather(1, chosen)
    forced = torch.sigmoid(torch.log(p_y / (1 - p_y)) - delta)
    by_hand = (p * (1 - forced) / (1 - p_y)).scatter(1, chosen, forced)
    target = posterior(constrained.lowered(teacher, where, delta))
    torch.testing.assert_close(target[where], by_hand[where])
    torch.testing.assert_close(target.sum(1), torch.ones(60, dtype=torch.float64))
    assert torch.equal(target[~where], p[~where])
    x, y = teacher_class_pair(teacher.numpy(), constrained.lowered(teacher, where, delta).numpy())
    np.testing.assert_allclose(y - x, -delta * where.numpy(), atol=1e-12)
    assert deviation(x, y).low.gap == pytest.approx(-delta)


def test_delta_nought_and_m_one_change_no_bit():
    teacher = random_teacher(2, 30, 4, dtype=torch.float32)
    assert torch.equal(constrained.lowered(teacher, constrained.lowest(teacher), 0), teacher)
    assert torch.equal(constrained.sloped(teacher, 1), teacher)


@pytest.mark.parametrize("m", [0.5, 1.0, 1.5, 2.0])
def test_m_is_the_slope_for_two_classes(m):
    teacher = random_teacher(50, 2)
    found = deviation(*teacher_class_pair(teacher.numpy(), constrained.sloped(teacher, m).numpy()))
    assert (found.slope, found.intercept) == pytest.approx((m, 0), abs=1e-12)


def test_one_delta_per_student():
    teacher = random_teacher(2, 20, 3)
    where = constrained.lowest(teacher)
    both = constrained.lowered(teacher, where, torch.tensor([0.5, 2.0]))
    for run, delta in enumerate((0.5, 2.0)):
        torch.testing.assert_close(both[run], constrained.lowered(teacher[run], where[run], delta))


# Which examples


def test_the_lowest_are_a_quarter_and_none_of_the_others_is_lower():
    teacher = random_teacher(3, 50, 4)
    where, x = constrained.lowest(teacher), constrained.log_odds(teacher)
    assert where.sum(-1).tolist() == [12, 12, 12]  # round(12.5), to even
    for run in range(3):
        assert x[run][where[run]].max() < x[run][~where[run]].min()
    assert constrained.lowest(torch.zeros(8, 2)).tolist() == [True, True, *[False] * 6]  # equals: the earlier


def test_the_placebo_is_as_many_others_by_its_seed_alone():
    where = constrained.lowest(random_teacher(3, 400, 4))
    drawn = constrained.at_random(where, [5, 6, 5])
    assert drawn.sum(-1).tolist() == [100, 100, 100]
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], constrained.at_random(where[1:2], [6])[0])  # side by side as alone
    overlap = (drawn & where).sum(-1) / 100
    assert ((overlap > 0.1) & (overlap < 0.4)).all()  # a quarter, by chance
    outside = constrained.at_random(where, [5, 6, 5], outside=True)
    assert not (outside & where).any()
    assert outside.sum(-1).tolist() == [100, 100, 100]


# Dose


def test_the_dose_is_the_kl_between_teacher_and_target():
    teacher = random_teacher(2, 80, 5)
    where = constrained.lowest(teacher)
    target = constrained.lowered(teacher, where, 1.5)
    kl = kl_divergence(posterior(teacher.flatten(0, 1)), target.flatten(0, 1)).reshape(2, 80)
    torch.testing.assert_close(constrained.dose(teacher, where, 1.5), kl.mean(-1))
    assert constrained.dose(teacher, where, 0).tolist() == [0, 0]


def test_the_same_delta_is_a_smaller_dose_where_the_teacher_is_sure():
    teacher = random_teacher(2, 80, 5)
    where = constrained.lowest(teacher)
    drawn = constrained.at_random(where, SEEDS, outside=True)
    wanted = constrained.dose(teacher, where, 1.0)
    assert (constrained.dose(teacher, drawn, 1.0) < wanted).all()
    delta = constrained.same_dose(teacher, drawn, wanted)
    assert (delta > 1).all()
    torch.testing.assert_close(constrained.dose(teacher, drawn, delta), wanted)
    torch.testing.assert_close(constrained.same_dose(teacher, where, wanted), torch.ones(2, dtype=torch.float64))


# Training


def test_m_one_and_delta_nought_train_plain_distillation_bit_for_bit(digits):
    teacher = digits[3]
    plain = student(digits, teacher)
    assert equal(student(digits, constrained.sloped(teacher, 1.0)), plain)
    assert equal(student(digits, constrained.lowered(teacher, constrained.lowest(teacher), 0.0)), plain)
    assert not equal(student(digits, constrained.sloped(teacher, 1.5)), plain)
    toy = toys.toy_b(rows=40, test_rows=1)
    logits = random_teacher(40, 5)
    one = fit_linear(toy, 20, teaching=Teaching(constrained.sloped(logits, 1.0)))
    assert torch.equal(one, fit_linear(toy, 20, teaching=Teaching(logits)))


@pytest.mark.slow
def test_a_longer_and_nearer_student_matches_better_and_a_forced_one_goes_where_it_is_sent(digits):
    """Match: KL to the teacher falls with epochs and lambda. Force: the gap in the low quarter moves by -delta."""
    x, _, _, teacher = digits
    chosen, where = teacher.argmax(-1), constrained.lowest(teacher)

    def told(*arguments):
        logits = network_logits(student(digits, *arguments), x)
        kl = kl_divergence(posterior(teacher.flatten(0, 1)), logits.flatten(0, 1)).mean()
        gap = (constrained.log_odds(logits, chosen) - constrained.log_odds(teacher))[where].mean()
        return kl.item(), gap.item()

    plain, longer, nearer = told(teacher), told(teacher, 40), told(teacher, 40, 0.5)
    forced = told(constrained.lowered(teacher, where, 1.0), 200, 0.5)
    assert plain[0] > longer[0] > nearer[0]
    assert nearer[1] == pytest.approx(0, abs=0.15)
    assert forced[1] == pytest.approx(-1, abs=0.3)
    assert forced[0] > nearer[0]


def test_the_ends_of_lambda_are_start_and_teacher(digits):
    start, teacher = init_networks([(64, 16), (16, 10)], [10, 11]), digits[2]
    assert equal(constrained.toward(start, teacher, 0), start)
    assert equal(constrained.toward(start, teacher, 1), teacher)
    quarter = constrained.toward([torch.zeros(2, 3)], [torch.full((2, 3), 8.0)], 0.25)
    assert quarter[0].tolist() == [[2.0] * 3] * 2


def test_linear_students_side_by_side_train_as_they_would_alone():
    toy, teachers = toys.toy_b(rows=40, test_rows=1), random_teacher(3, 40, 5)
    nought = torch.zeros(3, 200, 5, dtype=torch.float64)
    alone = [fit_linear(toy, 15, teaching=Teaching(teacher)) for teacher in teachers]
    torch.testing.assert_close(fit_linears(toy, 15, teachers, nought), torch.stack(alone))
    halfway = fit_linears(toy, 10, teachers, nought)
    torch.testing.assert_close(fit_linears(toy, 5, teachers, halfway), torch.stack(alone))


def test_unlabelled_inputs_teach_by_their_teacher_alone():
    toy, extra = constrained.hold_out(toys.digits(0, 50), 30)
    assert extra.shape == (30, 64)
    assert len(toy.test_labels) == 1797 - 50 - 30
    more = constrained.with_unlabelled(toy, extra)
    assert torch.equal(more.inputs, torch.cat([toy.inputs, extra]))
    assert torch.equal(more.labels[:50], toy.labels)
    logits = random_teacher(80, 10)
    weights = fit_linear(more, 10, teaching=Teaching(logits))
    other = replace(more, labels=more.labels.flip(0))
    assert torch.equal(fit_linear(other, 10, teaching=Teaching(logits)), weights)
    assert not torch.equal(fit_linear(toy, 10, teaching=Teaching(logits[:50])), weights)


def test_mistakes_are_told(digits):
    teacher, where = torch.zeros(2, 8, 3), torch.ones(2, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"K >= 2\), got \(4, 1\)"):
        constrained.log_odds(torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"delta must be >= 0 nats, got -1"):
        constrained.lowered(teacher, where, -1)
    with pytest.raises(ValueError, match=r"where \(8,\) must be"):
        constrained.lowered(teacher, where[0], 1)
    with pytest.raises(ValueError, match="m must be > 0, got 0"):
        constrained.sloped(teacher, 0)
    with pytest.raises(ValueError, match=r"seed for each R, got \(2, 8\) and 1 seeds"):
        constrained.at_random(where, [0])
    with pytest.raises(ValueError, match="8 of 8 examples leave too few"):
        constrained.at_random(where, [0, 1], outside=True)
    with pytest.raises(ValueError, match="no delta up to 1000"):
        constrained.same_dose(teacher, where & False, torch.ones(2))
    with pytest.raises(ValueError, match="one architecture"):
        constrained.toward(digits[2], digits[2][:2], 0.5)
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\], got 2"):
        constrained.toward(digits[2], digits[2], 2)
    with pytest.raises(ValueError, match=r"count must be in 0..9, got 10"):
        constrained.hold_out(toys.toy_b(rows=5, test_rows=10), 10)
