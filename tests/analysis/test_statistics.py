"""Intervals, p-values, Holm and the bootstrap against tables, scipy and coverage by simulation (T15.3)."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdnb.analysis import statistics
from kdnb.analysis.statistics import NAN

differences = st.lists(st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def test_interval_of_one_to_five():
    mean, half = statistics.t_interval([1, 2, 3, 4, 5])
    assert mean == 3
    assert half == pytest.approx(1.963, abs=5e-4)
    assert statistics.t_interval([1, 2, 3])[1] == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)  # t at n = 3


def test_one_seed_decides_nothing():
    assert statistics.t_interval([0.4]) == (0.4, math.inf)
    assert math.isnan(statistics.t_p_value([0.4]))


@pytest.mark.slow
@given(differences)
def test_the_t_interval_is_its_formula(values):
    """mean ± t_.975 sd / sqrt(n), and p from the same statistic."""
    n, mean, sd = len(values), np.mean(values), np.std(values, ddof=1)
    ours = statistics.t_interval(values)
    assert ours == pytest.approx((mean, stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)), abs=1e-12)
    assert statistics.interval(values) == pytest.approx((mean, mean - ours[1], mean + ours[1], n))
    if sd > 1e-6:
        p = 2 * stats.t.sf(abs(mean) / sd * math.sqrt(n), n - 1)
        assert statistics.t_p_value(values) == pytest.approx(p, abs=1e-12)


def test_equal_values_leave_no_doubt():
    assert statistics.t_interval([0.2, 0.2]) == (0.2, 0)
    assert statistics.t_p_value([0.2, 0.2]) == 0
    assert statistics.t_p_value([0.0, 0.0]) == 1


@pytest.mark.parametrize("controls", [0, 2])
def test_a_correlations_interval_is_fishers(controls):
    """tanh(artanh r ± 1.96 / sqrt(n - controls - 3))."""
    x, y = np.arange(9.0), np.array([1.0, 0, 3, 2, 5, 4, 7, 9, 6])
    r = np.mean((x - x.mean()) * (y - y.mean())) / (x.std() * y.std())
    half = stats.norm.ppf(0.975) / math.sqrt(9 - controls - 3)
    ends = [math.tanh(math.atanh(r) + side * half) for side in (-1, 1)]
    assert statistics.correlation_interval(x, y, controls) == pytest.approx((r, *ends), abs=1e-12)


@pytest.mark.slow
def test_a_correlation_within_groups_pays_for_their_means():
    """Four groups of three without any correlation: 95 % of the intervals hold 0, if the means are paid for."""
    rng, held = np.random.default_rng(0), {0: 0, 3: 0}
    for _ in range(2000):
        x, y = (values - values.mean(axis=1, keepdims=True) for values in rng.normal(size=(2, 4, 3)))
        for controls in held:
            _, low, high = statistics.correlation_interval(x.ravel(), y.ravel(), controls)
            held[controls] += low < 0 < high
    assert held[3] / 2000 == pytest.approx(0.95, abs=0.012)
    assert held[0] / 2000 < 0.92


def test_welchs_interval_is_its_formula():
    """Welch-Satterthwaite: (a + b)^2 / (a^2 / 3 + b^2 / 2) degrees of freedom, a and b the variances of the means."""
    ours, other = [0.3, 0.5, 0.1, 0.4], [0.2, 0.9, -0.3]
    a, b = np.var(ours, ddof=1) / 4, np.var(other, ddof=1) / 3
    half = stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / 3 + b**2 / 2)) * math.sqrt(a + b)
    found = statistics.welch_interval(ours, other)
    assert found == pytest.approx((np.mean(ours) - np.mean(other), half), abs=1e-12)
    assert statistics.welch_interval([0.5, 0.5], [0.2, 0.2]) == (pytest.approx(0.3), 0)
    assert statistics.welch_interval([0.5], [0.2])[1] == math.inf


@pytest.mark.parametrize("last", [0.1 + 0.2, 0.3])
def test_values_that_agree_to_the_last_bits_make_narrow_intervals_and_no_warning(last, recwarn):
    ours, other = [0.3, 0.3, last], [0.2, 0.2, 0.2]
    mean, half = statistics.welch_interval(ours, other)
    assert mean == pytest.approx(0.1)
    assert 0 <= half < 1e-12
    mean, half = statistics.t_interval(np.subtract(ours, other))
    assert mean == pytest.approx(0.1)
    assert 0 <= half < 1e-12
    assert not recwarn.list


@pytest.mark.slow
@given(differences)
def test_p_is_below_5_percent_exactly_where_the_interval_excludes_0(values):
    mean, half = statistics.t_interval(values)
    if abs(abs(mean) - half) > 1e-9:
        assert (statistics.t_p_value(values) < 0.05) == (abs(mean) > half)


def test_five_of_five_equal_signs():
    assert statistics.sign_test([1, 2, 3, 4, 5], 1) == (5, 5, pytest.approx(0.03125))
    assert statistics.sign_test([-1, -2, -3], -1) == (3, 3, pytest.approx(0.125))
    assert statistics.sign_test([1, -1, 0], 1) == (1, 2, pytest.approx(0.75))  # a zero is no sign
    assert math.isnan(statistics.sign_test([0.0], 1)[2])


def test_holm_by_hand():
    """.01 x 4, .015 x 3, .02 x 2 (raised to .045, the larger one before it), .4 x 1."""
    found = statistics.holm([0.02, 0.01, 0.4, 0.015, math.nan])
    np.testing.assert_allclose(found[:4], [0.045, 0.04, 0.4, 0.045])
    assert math.isnan(found[4])
    assert statistics.holm([0.6, 0.7]).tolist() == [1, 1]


def test_fishers_interval_below_four_points_or_without_spread():
    assert statistics.correlation_interval([1, 2, 3], [1, 2, 3.5])[1:] == (-1.0, 1.0)
    r, low, high = statistics.correlation_interval([1.0, 1, 1, 1], [1.0, 2, 3, 4])
    assert math.isnan(r)
    assert (low, high) == (-1, 1)


def test_bootstrap_of_a_paired_difference():
    """A large shared part cancels: the interval is that of the difference, about 1.96 sd / sqrt(N)."""
    rng = np.random.default_rng(0)
    shared, extra = rng.normal(size=1500), 0.1 + 0.5 * rng.normal(size=1500)
    found = statistics.paired_bootstrap(10 * shared + extra, 10 * shared)
    half = 1.96 * extra.std(ddof=1) / math.sqrt(1500)
    assert found.method == "BCa"
    assert found.n == 1500
    assert found.low == pytest.approx(extra.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(extra.mean() + half, abs=0.15 * half)
    assert found == statistics.paired_bootstrap(10 * shared + extra, 10 * shared)  # the same each time


@pytest.mark.slow
def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        ours, other = rng.exponential(size=80), rng.exponential(size=80)
        found = statistics.paired_bootstrap(ours, other, resamples=400)
        hits += found.low <= 0 <= found.high
    assert 180 <= hits <= 199


def test_bootstrap_of_equal_models_says_that_bca_is_undefined(recwarn):
    values = np.array([0.0, 1.0, 1.0])
    found = statistics.paired_bootstrap(values, values)
    assert (found.low, found.high, found.method) == (0, 0, "percentile")
    assert statistics.paired_bootstrap(values[:1], values[:1]).method == "none"
    assert not recwarn.list


@pytest.mark.parametrize(("of_seeds", "of_examples"), [(0.2, 0.0), (0.0, 2.0), (0.2, 0.8)])
def test_bootstrap_over_seeds_and_examples_has_the_chance_of_both(of_seeds, of_examples):
    """Means of 40 seeds and of 600 examples: variances over counts add up, and a shared part cancels.

    The examples alone would leave out the first; drawn for each seed apart they would leave out most of the second.
    """
    rng = np.random.default_rng(0)
    seeds, examples = of_seeds * rng.normal(size=(40, 1)), of_examples * rng.normal(size=600)
    difference, shared = 0.1 + seeds + examples, 10 * rng.normal(size=(40, 600))
    found = statistics.paired_bootstrap(difference + shared, shared)
    half = 1.96 * math.sqrt(seeds.var() / 40 + examples.var() / 600)
    assert (found.method, found.n) == ("seeds and examples", 600)
    assert found.low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.1 * half)
    assert found == statistics.paired_bootstrap(difference + shared, shared)  # the same each time


def test_bootstrap_of_one_seed_has_examples_to_draw_alone():
    values = np.random.default_rng(0).normal(size=(1, 50))
    assert statistics.paired_bootstrap(values, 0 * values) == statistics.paired_bootstrap(values[0], np.zeros(50))
    twice = np.repeat(values, 2, axis=0)
    assert statistics.paired_bootstrap(twice, twice).low == statistics.paired_bootstrap(twice, twice).high == 0
    assert statistics.paired_bootstrap(twice[:, :1], twice[:, :1]).method == "none"


@pytest.mark.parametrize(("ours", "other"), [((3,), (2,)), ((2, 3), (3,)), ((2, 3, 4), (2, 3, 4))])
def test_bootstrap_refuses_what_is_not_paired(ours, other):
    message = f"must be (N,) and (N,), or (S, N) twice, got {ours} and {other}"
    with pytest.raises(ValueError, match=re.escape(message)):
        statistics.paired_bootstrap(np.zeros(ours), np.zeros(other))


def test_fishers_interval_of_a_correlation():
    """r = .5, n = 28: z = .5493 ± 1.96 / 5, so r lies in (.156, .735)."""
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=28), rng.normal(size=28)
    x -= x.mean()
    e -= e.mean() + x * (e @ x) / (x @ x)
    y = 0.5 * x / np.linalg.norm(x) + math.sqrt(0.75) * (e - e.mean()) / np.linalg.norm(e - e.mean())
    r, low, high = statistics.correlation_interval(x, y)
    assert r == pytest.approx(0.5, abs=1e-9)
    assert (low, high) == (pytest.approx(0.1563, abs=1e-3), pytest.approx(0.7353, abs=1e-3))


@pytest.mark.parametrize(("centre", "within"), [(0.0, True), (0.05, True), (0.1, False), (0.3, False)])
def test_equivalence_is_the_two_one_sided_tests(centre, within):
    """.04 apart at eight values, a bound of .1: p below .05 where the 90 % interval lies within the bound."""
    values = pd.Series(centre + 0.04 * np.array([-1, 1, -1, 1, -1, 1, -1, 1]))
    found = statistics.equivalence(values, 0.1, ["a"])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.p < 0.05) == (low > -0.1 and high < 0.1) == within
    assert (found.n, found.bound, found.run_ids) == (8, 0.1, ["a"])
    assert found.effect == pytest.approx(centre, abs=1e-12)


def test_equivalence_needs_a_bound_and_two_values():
    assert not statistics.equivalence(pd.Series([0.1, 0.2]), NAN).n
    assert math.isnan(statistics.equivalence(pd.Series([0.1]), 1.0).p)
    assert statistics.equivalence(pd.Series([0.1, 0.1]), 1.0).p == 0
    assert statistics.equivalence(pd.Series([0.1, 0.1]), 0.1).p == 1
