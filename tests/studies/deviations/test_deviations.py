"""How a student deviates, beyond a control (docs/experiments.md, 6 and R(s) of 7): known answers, and TOY-B's."""

import numpy as np
import pytest
from batches import random_batch

from kdnb.studies.deviations import toys
from kdnb.studies.deviations.scatter import beyond_control, deviation, teacher_class_pair
from kdnb.studies.deviations.switching import recovered_gains
from kdnb.studies.deviations.trainers import (
    Descent,
    Teaching,
    fit_linear,
    fit_networks,
    init_networks,
    network_logits,
    stacked,
)

SEEDS = range(3)


def cloud(rows=400, seed=0):
    """X, and noise for a Y around it."""
    rng = np.random.default_rng(seed)
    return rng.normal(2, 1, rows), rng.normal(0, 0.1, (2, rows))


# The line and the two ends


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_a_student_equal_to_its_teacher_does_not_deviate(num_classes):
    z = random_batch(num_classes, rows=50)[0].numpy()
    found = deviation(*teacher_class_pair(z, z))
    assert (found.slope, found.intercept) == pytest.approx((1, 0), abs=1e-12)
    for end in (found.low, found.high):
        assert (end.gap, end.below, end.slope) == pytest.approx((0, 0, 1), abs=1e-12)


@pytest.mark.parametrize("factor", [0.5, 2.5])
def test_two_classes_and_scaled_logits_give_the_factor_everywhere(factor):
    z = random_batch(2, rows=50)[0].numpy()
    x, y = teacher_class_pair(z, factor * z)
    found = deviation(x, y)
    assert (found.slope, found.intercept) == pytest.approx((factor, 0), abs=1e-10)
    assert (found.low.slope, found.high.slope) == pytest.approx((factor, factor), abs=1e-9)
    assert found.high.gap == pytest.approx((factor - 1) * x[x >= np.quantile(x, 0.75)].mean())
    assert found.low.below == found.high.below == float(factor < 1)


def test_the_ends_by_hand():
    """Eight examples: two at each end, below the line by 1 and 3 at the low one, above by 5 at one of the high."""
    x = np.arange(8.0)[::-1]
    y = x.copy()
    y[-1], y[-2], y[0] = -1, -2, 12
    found = deviation(x, y)
    assert (found.n, found.low.n, found.high.n) == (8, 2, 2)
    assert (found.low.gap, found.low.below, found.low.slope) == (-2, 1, -1)
    assert (found.high.gap, found.high.below, found.high.slope) == (2.5, 0, 6)
    assert [found.slope, found.intercept] == pytest.approx(np.polyfit(x, y, 1))
    assert deviation(x, y, share=0.5).low.gap == -1


def test_equal_examples_are_all_at_the_end():
    found = deviation(np.array([1.0, 1, 1, 1, 2]), np.array([0.0, 0, 0, 0, 3]), share=0.25)
    assert found.low.n == 4
    assert found.low.gap == -1
    assert np.isnan(found.low.slope)  # X does not vary there: no line


# Beyond the control


@pytest.mark.parametrize(
    ("student", "control", "word"),
    [
        (lambda x: x, lambda x: x, "nothing beyond the control"),
        (lambda x: x - 0.5 * (x < 1.5), lambda x: x, "low-confidence underfit: exaggeration"),
        (lambda x: x + 0.5 * (x > 2.5), lambda x: x, "high-confidence overfit: exaggeration"),
        (lambda x: 2 * x - 2, lambda x: x, "low-confidence underfit, high-confidence overfit: exaggeration"),
        (lambda x: x - 0.5, lambda x: x, "low-confidence underfit, high end below: no exaggeration"),
        (lambda x: x + 0.5, lambda x: x, "high-confidence overfit, low end above: no exaggeration"),
        (lambda x: 2 - (2 - x) / 2, lambda x: x, "low end above, high end below: no exaggeration"),
        (lambda x: 2 * x - 2, lambda x: 2 * x - 2, "nothing beyond the control"),  # far off, as any model is
        (lambda x: x - 0.5 * (x < 1.5), lambda x: x - (x < 1.5), "nothing beyond the control"),  # and nearer
    ],
)
def test_verdicts_of_what_is_built_in(student, control, word):
    x, noise = cloud()
    found = beyond_control(x, student(x) + noise[0], control(x) + noise[1])
    assert found.verdict == word
    assert found.exaggeration == word.endswith(": exaggeration")


def test_the_bootstrap_is_the_slow_one_of_the_same_draws():
    """Quantiles and means of each redrawn sample, one after the other; ties included, as every redraw has them."""
    x, noise = cloud(rows=41, seed=3)
    x[5:9] = x[5]
    y, control = 1.5 * x + noise[0], x + noise[1]
    found = beyond_control(x, y, control, share=0.1, resamples=200, seed=7)
    order, rng = np.argsort(x, kind="stable"), np.random.default_rng(7)
    draws = []
    for _ in range(200):
        pick = order[rng.integers(41, size=41)]
        both = [deviation(x[pick], column[pick], 0.1) for column in (y, control)]
        draws.append([(d.low.gap, d.high.gap, d.slope) for d in both])
    draws = np.transpose(draws, (2, 1, 0))  # statistic, model, draw
    for part, (ours, theirs) in zip((found.low, found.high, found.slope), draws, strict=True):
        for estimate, values in ((part.student, ours), (part.control, theirs), (part.difference, ours - theirs)):
            assert [estimate.low, estimate.high] == pytest.approx(np.percentile(values, [2.5, 97.5]))
    whole = deviation(x, y, 0.1)
    assert found.low.student.value == pytest.approx(whole.low.gap)
    assert found.high.student.value == pytest.approx(whole.high.gap)
    assert found.slope.student.value == pytest.approx(whole.slope)


@pytest.mark.slow
def test_the_interval_of_a_mean_has_the_width_of_theory():
    """A student that is all noise beside a control on the line: half-width 1.96 sd / sqrt(n of the end)."""
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=4000), rng.normal(size=4000)
    found = beyond_control(x, x + noise, x).low.difference
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / np.sqrt(1000), rel=0.1)
    assert str(found) == f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def test_what_cancels_in_the_difference():
    """X does: student minus control is Y minus Y, on the examples where the teacher is unsure."""
    x, noise = cloud()
    found = beyond_control(x, x + noise[0], x + noise[1])
    low = x <= np.quantile(x, 0.25)
    assert found.low.difference.value == pytest.approx((noise[0] - noise[1])[low].mean())
    same = beyond_control(x, x + noise[0], x + noise[0]).low.difference
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_draws_are_seeded():
    x, (noise, other) = cloud()
    one, again, anew = (beyond_control(x, x + noise, x + other, resamples=50, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one != anew


def test_mistakes_are_told():
    x = np.arange(5.0)
    with pytest.raises(ValueError, match=r"columns must be .* got \(5,\), \(4,\)"):
        deviation(x, x[:4])
    with pytest.raises(ValueError, match=r"share must be in \(0, 0.5\], got 0.7"):
        beyond_control(x, x, x, share=0.7)
    with pytest.raises(ValueError, match=r"accuracies must be \(S,\) three times, got \(5,\), \(5,\) and \(4,\)"):
        recovered_gains(x, x, x[:4])


# Recovered gain


def test_the_recovered_gain_by_hand():
    one_hot, kd = np.array([0.70, 0.72, 0.71]), np.array([0.80, 0.82, 0.81])
    assert recovered_gains(kd, one_hot, kd).mean() == pytest.approx(1)
    assert recovered_gains(one_hot, one_hot, kd).mean() == pytest.approx(0)
    assert recovered_gains((one_hot + kd) / 2, one_hot, kd).mean() == pytest.approx(0.5)
    assert recovered_gains(np.array([0.70, 0.77, 0.73]), one_hot, kd) == pytest.approx([0, 0.5, 0.2])


@pytest.mark.parametrize(
    ("gains", "defined"),
    [([0.01, 0.03], False), ([0.011, 0.029], True), ([0.0, 0.0], False), ([-0.1, -0.1], False), ([0.1], False)],
)
def test_no_gain_no_recovery(gains, defined):
    """The mean gain must exceed twice its standard error: .02 against 2 * .01 does not, against 2 * .009 does."""
    zero = np.zeros(len(gains))
    assert np.isfinite(recovered_gains(zero + 0.01, zero, np.array(gains))).all() == defined


# TOY-B


@pytest.mark.slow
def test_toy_b_linear_student_underfits_where_its_teacher_is_unsure():
    rows = []
    for seed in SEEDS:
        toy = toys.toy_b(seed)
        teacher = fit_linear(toy, 1000)
        student = fit_linear(toy, 1000, teaching=Teaching(toy.inputs @ teacher))
        found = deviation(*teacher_class_pair(*((toy.inputs @ model).numpy() for model in (teacher, student))))
        right = [((toy.test_inputs @ w).argmax(1) == toy.test_labels).double().mean() for w in (teacher, student)]
        rows.append((found.low.gap, found.low.below, found.low.slope, found.slope, *right))
    gap, below, inside, slope, taught, learnt = np.mean(rows, axis=0)
    assert gap == pytest.approx(-0.60, rel=0.3)
    assert below == pytest.approx(0.98, abs=0.05)
    assert inside == pytest.approx(1.14, rel=0.1)
    assert slope == pytest.approx(0.90, abs=0.05)  # below 1: the overall slope alone misses the effect
    assert [taught, learnt] == pytest.approx([0.701, 0.728], abs=0.04)
    assert learnt > taught


@pytest.fixture(scope="module")
def toy_b_networks():
    """(role, split) -> logits (R, N, K) of teacher, KD student at tau 4 and control: MLPs 200-256-5, 60 epochs."""
    x, y, test_x, _ = stacked([toys.toy_b(seed) for seed in SEEDS])

    def trained(start, teacher=None):
        seeds = range(start, start + 3)
        layers = init_networks([(200, 256), (256, 5)], seeds)
        layers = fit_networks(layers, (x, y), Descent(60, 1e-3, seeds=seeds), Teaching(teacher, tau=4.0))
        return {"train": network_logits(layers, x).numpy(), "test": network_logits(layers, test_x).numpy()}, layers

    teacher, layers = trained(0)
    student, _ = trained(50, network_logits(layers, x))
    return {"teacher": teacher, "student": student, "control": trained(100)[0]}


def ends(networks, split, role):
    """(low gap, share below there, slope): mean over seeds."""
    found = [deviation(*teacher_class_pair(networks["teacher"][split][r], networks[role][split][r])) for r in SEEDS]
    return np.mean([(one.low.gap, one.low.below, one.slope) for one in found], axis=0)


@pytest.mark.slow
def test_toy_b_networks_have_their_known_sizes(toy_b_networks):
    student, control = (ends(toy_b_networks, "train", role) for role in ("student", "control"))
    assert student[0] == pytest.approx(-0.117, rel=0.3)
    assert student[1] > 0.95
    assert control[0] > 0
    assert control[1] == pytest.approx(0.35, abs=0.1)
    student, control = (ends(toy_b_networks, "test", role) for role in ("student", "control"))
    assert student[0] == pytest.approx(-0.073, rel=0.3)
    assert control[0] < student[0]  # no teacher, and further below the line
    assert [student[2], control[2]] == pytest.approx([0.990, 0.992], abs=0.04)


@pytest.mark.slow
def test_toy_b_networks_beat_the_control_on_train_and_not_on_test(toy_b_networks):
    for r in SEEDS:
        for split, there in (("train", True), ("test", False)):
            logits = [toy_b_networks[role][split][r] for role in ("teacher", "student", "control")]
            (x, y), (_, control) = (teacher_class_pair(logits[0], other) for other in logits[1:])
            assert beyond_control(x, y, control).underfit == there
