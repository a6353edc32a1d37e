"""Eigendirections under distillation (docs/experiments.md, T8.1-T8.4)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdnb.studies.deviations import spectral
from kdnb.studies.deviations.spectral import gf_progress, matched_time, student_progress

LAM = np.geomspace(1, 0.01, 6)
DRAWS = 10_000


def regression(rows=20, columns=50, seed=0):
    """Inputs with eigenvalues of order 1, and targets."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) / np.sqrt(columns), rng.normal(size=rows)


@pytest.mark.parametrize(
    ("t", "time", "ratios"),
    [
        (2.0, 1.7238, {1: 0.7707, 2: 0.4300, 3: 0.1984, 4: 0.0839, 5: 0.0342}),
        (0.5, 0.4682, {5: 0.0316}),
        (8.0, 2.9936, {5: 0.0770}),
    ],
)
def test_known_ratios_at_matched_top_progress(t, time, ratios):
    matched = matched_time(LAM[0], t, 3.0)
    assert matched == pytest.approx(time, abs=5e-5)
    found = student_progress(LAM, t, 3.0) / gf_progress(LAM, matched)
    assert found[0] == pytest.approx(1, abs=1e-12)
    for k, ratio in ratios.items():
        assert found[k] == pytest.approx(ratio, abs=5e-5)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_the_student_exaggerates_in_ten_thousand_draws(seed):
    """lam_1 over six decades, lam_2 / lam_1 to within a hundredth of 1, times from far too early to almost done."""
    rng = np.random.default_rng(seed)
    top = 10 ** rng.uniform(-3, 3, DRAWS)
    bottom = top * rng.uniform(0.01, 0.99, DRAWS)
    t, T = 10 ** rng.uniform(-3, 1.2, (2, DRAWS)) / top
    matched = matched_time(top, t, T)
    np.testing.assert_allclose(gf_progress(top, matched), student_progress(top, t, T), rtol=1e-12)
    assert np.all(student_progress(bottom, t, T) < gf_progress(bottom, matched))
    assert np.all(matched < np.minimum(t, T))


@given(st.floats(0.02, 0.98), st.floats(0.05, 0.95))
def test_the_pieces_of_the_proof(a, r):
    """F is 0 at both ends and positive between; it rises exactly while G > 1, and G falls."""
    b = np.linspace(0.001, 0.999, 400)
    gap, sign = spectral.exaggeration_gap(a, b, r), spectral.gap_slope_sign(a, b, r)
    np.testing.assert_allclose(spectral.exaggeration_gap(a, np.array([0.0, 1.0]), r), 0, atol=1e-15)
    assert np.all(gap > 0)
    assert np.all(np.diff(sign) < 0)
    assert (1 - a**r) / (1 - a) < 1
    rises = sign > 1
    assert np.all(np.diff(gap)[rises[:-1] & rises[1:]] > 0)
    assert np.all(np.diff(gap)[~rises[:-1] & ~rises[1:]] < 0)


def test_the_gap_is_the_teachers_lead():
    a, b, r = np.exp(-0.7), np.exp(-1.9), 0.3
    lead = gf_progress(0.3, matched_time(1.0, 0.7, 1.9)) - student_progress(0.3, 0.7, 1.9)
    assert spectral.exaggeration_gap(a, b, r) == pytest.approx(lead, abs=1e-15)


@pytest.mark.slow
def test_eulers_steps_reach_the_closed_form():
    x, y = regression()
    exact = spectral.gradient_flow(x, y, 2.0)
    euler = spectral.gradient_descent(x, y, 2.0 / 60_000, 60_000)
    assert np.linalg.norm(euler - exact) / np.linalg.norm(exact) < 1e-4
    coarse = spectral.gradient_descent(x, y, 0.2, 10)
    assert np.linalg.norm(coarse - exact) / np.linalg.norm(exact) > 1e-3  # the bound is no matter of course


def test_a_student_trained_on_its_teacher_has_the_product_of_both_filters():
    """Two flows, one after the other, against X^T (X X^T)^+ A(t) A(T) y spelled out."""
    x, y = regression()
    trained = spectral.gradient_flow(x, x @ spectral.gradient_flow(x, y, 3.0), 2.0)
    lam, u = np.linalg.eigh(x @ x.T)
    composed = x.T @ (u / lam @ (student_progress(lam, 2.0, 3.0) * (u.T @ y)))
    assert np.linalg.norm(trained - composed) / np.linalg.norm(composed) < 1e-12


def test_discrete_descent_is_the_flow_at_its_own_rate():
    x, y = regression()
    s, vt = np.linalg.svd(x, full_matrices=False)[1:]
    u = x @ vt.T / s
    step_size = 0.9 / s[0] ** 2
    rate = spectral.gd_rate(s**2, step_size)
    teacher = spectral.gradient_descent(x, y, step_size, 7)
    student = spectral.gradient_descent(x, x @ teacher, step_size, 4)
    np.testing.assert_allclose(s * (vt @ teacher) / (u.T @ y), gf_progress(rate, 7), rtol=1e-9)
    np.testing.assert_allclose(s * (vt @ student) / (u.T @ y), student_progress(rate, 4, 7), rtol=1e-9)
    matched = matched_time(rate[0], 4, 7)
    assert np.all(student_progress(rate[1:], 4, 7) < gf_progress(rate[1:], matched))


def test_a_student_trained_to_convergence_is_its_teacher():
    np.testing.assert_array_equal(student_progress(LAM, 1e6, 3.0), gf_progress(LAM, 3.0))
    assert matched_time(1.0, 1e6, 3.0) == pytest.approx(3.0, rel=1e-15)
    assert matched_time(1.0, 3.0, np.inf) == pytest.approx(3.0, rel=1e-15)
    x, y = regression()
    teacher = spectral.gradient_flow(x, y, 3.0)
    np.testing.assert_allclose(spectral.gradient_flow(x, x @ teacher, 1e6), teacher, rtol=1e-9)


def test_ridge_self_distillation():
    found = spectral.ridge_filter(np.array([1, 0.1, 0.01]), 0.05, 5)
    np.testing.assert_allclose(found, [0.7835, 0.1317, 0.0001], atol=5e-5)


def test_ridge_filters_are_ridge_regressions_on_the_last_fit():
    x, y = regression()
    kernel, fitted = x @ x.T, y
    for _ in range(3):
        fitted = kernel @ np.linalg.solve(kernel + 0.05 * np.eye(len(y)), fitted)
    d, u = np.linalg.eigh(kernel)
    np.testing.assert_allclose(u.T @ fitted, spectral.ridge_filter(d, 0.05, 3) * (u.T @ y), atol=1e-12)


def test_movement_along_known_directions():
    """Variance 4 along the first three axes, 1 along the last twenty, nothing along one: that one is left out."""
    scale = np.r_[np.full(3, 2.0), 0.0, np.ones(20)]
    inputs = np.repeat(np.eye(24), 10, axis=0) * scale
    lam, vectors = spectral.input_eigenvectors(inputs)
    assert vectors.shape == (24, 23)
    np.testing.assert_allclose(lam[[0, -1]], [40 / 240, 10 / 240])
    change = np.zeros((2, 24, 5))
    change[1, :3] = 3.0
    change[1, 4:] = 1.0
    top, bottom = spectral.movement(change, vectors, top=3)
    np.testing.assert_allclose(top, [0, 3 * np.sqrt(5)])
    np.testing.assert_allclose(bottom, [0, np.sqrt(5)])


def test_share_below_compares_at_equal_top():
    top = np.linspace(0, 1, 50)
    assert spectral.share_below((top, top), (top / 2, top / 4)) == 1.0
    assert spectral.share_below((top / 2, top / 4), (top, top)) == 0.0
    crossing = np.where(top < 0.3, 2 * top, top / 2)
    assert spectral.share_below((top, top), (top, crossing)) == pytest.approx(0.7, abs=0.02)
    back = np.r_[top, 0.5]  # a step back is no second crossing
    assert spectral.share_below((top, top), (back / 2, np.r_[top / 4, 9.0])) == 1.0


def test_what_the_theorem_does_not_cover_is_refused():
    with pytest.raises(ValueError, match=r"t must be > 0, got 0"):
        matched_time(1.0, 0.0, 3.0)
    with pytest.raises(ValueError, match=r"step_size \* lam must be in \(0, 1\), got 0.5 to 1.5"):
        spectral.gd_rate(np.array([3.0, 1.0]), 0.5)
    with pytest.raises(ValueError, match=r"c must be > 0"):
        spectral.ridge_filter(LAM, 0.0)
    with pytest.raises(ValueError, match=r"top must be at most 3 for 5 eigenvectors, got 10"):
        spectral.movement(np.zeros((5, 2)), np.eye(5))
    with pytest.raises(ValueError, match="share no top progress"):
        spectral.share_below(([1.0, 2.0], [0, 0]), ([0.1, 0.5], [0, 0]))
