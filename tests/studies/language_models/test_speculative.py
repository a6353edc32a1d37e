"""Speculative decoding: T14.3, the rule's law by enumeration and by sampling, mutants, formulas, counts, assistants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdnb.studies.language_models.speculative import (
    MUTANTS,
    acceptance,
    acceptance_bound,
    all_cuts,
    best_gamma,
    chi_square,
    expected_tokens,
    joint,
    operations_factor,
    output_law,
    pick,
    random_tree,
    residual,
    sample_rule,
    total_variation,
    verify,
    walltime_factor,
)

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
SIGNIFICANCE = 1e-3  # of every chi-square test here, fixed before any was run
DRAWS = 100_000


# T14.3


def test_acceptance_residual_and_law_of_the_worked_example():
    assert acceptance(P, Q) == pytest.approx(0.7)
    left = residual(P, Q)
    np.testing.assert_allclose(left / left.sum(), [1, 0, 0], atol=1e-15)
    law = output_law([P, np.tile(P, (3, 1))], [Q])
    np.testing.assert_allclose(law.sum(axis=1), P, atol=1e-15)


def test_formulas_of_the_paper():
    assert expected_tokens(0.8, 4) == pytest.approx(3.3616)
    assert expected_tokens(0.2, 3) == pytest.approx(1.248)
    assert expected_tokens(1.0, 5) == 6
    assert expected_tokens(0.0, 5) == 1
    assert walltime_factor(0.8, 4, 0.05) == pytest.approx(3.3616 / 1.2)
    assert operations_factor(0.2, 3, 0.0) == pytest.approx(4 / 1.248)
    assert operations_factor(0.8, 4, 0.1) == pytest.approx((4 * 0.1 + 5) / 3.3616)
    with pytest.raises(ValueError, match=r"1\.2"):
        expected_tokens(1.2, 3)


@given(st.floats(0, 1), st.integers(1, 8), st.floats(0, 1))
def test_tokens_per_call_are_the_geometric_sum_and_the_best_gamma_is_the_best(alpha, gamma, c):
    assert expected_tokens(alpha, gamma) == pytest.approx(sum(alpha**i for i in range(gamma + 1)))
    best = best_gamma(alpha, c)
    assert walltime_factor(alpha, best, c) >= walltime_factor(alpha, gamma, c) - 1e-12
    if c >= alpha:  # theorem 3.8's corollary: it pays only if alpha > c
        assert walltime_factor(alpha, gamma, c) <= 1 + 1e-12


# the law, without a random number


@pytest.mark.parametrize(("vocabulary", "gamma"), [(2, 1), (3, 2), (4, 3), (5, 1), (5, 2), (5, 3)])
def test_the_rule_gives_the_targets_law_exactly(vocabulary, gamma):
    target, draft = random_tree(vocabulary, gamma + 1, 1), random_tree(vocabulary, gamma, 2)
    assert total_variation(output_law(target, draft), joint(target)) <= 1e-12


def test_it_does_so_where_laws_have_zeros_and_where_they_agree():
    target = [np.array([0.5, 0.5, 0.0]), *random_tree(3, 3, 3)[1:]]
    draft = [np.array([0.0, 0.25, 0.75]), *random_tree(3, 3, 4)[1:2]]
    assert total_variation(output_law(target, draft), joint(target)) <= 1e-12
    assert total_variation(output_law(target, target[:2]), joint(target)) <= 1e-12


def test_every_cut_of_the_rule_is_known():
    target, draft = random_tree(3, 3, 1), random_tree(3, 2, 51)
    law = output_law(target, draft, cuts=all_cuts)
    assert total_variation(law, joint(target)) <= 1e-12
    with pytest.raises(ValueError, match="more cuts"):
        output_law(target, draft, MUTANTS["off by one"])


@pytest.mark.parametrize("name", MUTANTS)
def test_enumeration_tells_mutants(name):
    target, draft = random_tree(3, 3, 1), random_tree(3, 2, 51)
    law = output_law(target, draft, MUTANTS[name], all_cuts)
    assert law.sum() == pytest.approx(1)
    assert total_variation(law, joint(target)) > 0.01


# the law, by 100,000 draws


def test_draws_pass_chi_square():
    target, draft = random_tree(3, 3, 1), random_tree(3, 2, 51)
    tokens, accepted = sample_rule(target, draft, DRAWS, seed=0)
    assert chi_square(tokens, joint(target)) > SIGNIFICANCE
    exact = acceptance(target[0], draft[0])
    assert (accepted > 0).mean() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / DRAWS))


@pytest.mark.parametrize("name", MUTANTS)
def test_chi_square_rejects_mutants(name):
    target, draft = random_tree(3, 3, 1), random_tree(3, 2, 51)
    tokens, _ = sample_rule(target, draft, DRAWS, seed=0, way=MUTANTS[name])
    assert chi_square(tokens, joint(target)) < SIGNIFICANCE


def test_chi_square_wants_enough_draws():
    with pytest.raises(ValueError, match="more draws"):
        chi_square(np.zeros((10, 1), dtype=int), P)


def test_tokens_per_call_follow_the_formula_where_positions_are_independent():
    target, draft = (
        [np.broadcast_to(P, (3,) * i + (3,)) for i in range(5)],
        [np.broadcast_to(Q, (3,) * i + (3,)) for i in range(4)],
    )
    _, accepted = sample_rule(target, draft, DRAWS, seed=1)
    assert accepted.mean() + 1 == pytest.approx(expected_tokens(0.7, 4), abs=4 * accepted.std() / np.sqrt(DRAWS))


# edges


def test_laws_that_agree_are_never_rejected_and_rounding_leaves_a_law():
    rows = np.tile(P, (2, 3, 1))
    accepted, last = verify(rows, rows[:, :2], np.array([[0, 1], [2, 2]]), np.full((2, 3), np.nextafter(1, 0)))
    assert accepted.tolist() == [2, 2]
    assert last.tolist() == [2, 2]
    np.testing.assert_array_equal(residual(P, P + 1e-9), P)


def test_a_token_the_target_never_says_is_never_accepted_nor_drawn():
    p = np.array([[[0.0, 1.0, 0.0]] * 2])
    q = np.array([[[1.0, 0.0, 0.0]]])
    accepted, last = verify(p, q, np.array([[0]]), np.zeros((1, 2)))
    assert (accepted.item(), last.item()) == (0, 1)
    weights = np.array([[0.0, 0.3, 0.0, 0.7, 0.0]])
    for u in (0.0, 0.29, 0.31, np.nextafter(1, 0)):
        assert weights[0, pick(weights, np.array([u]))[0]] > 0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected target"):
        verify(np.ones((2, 2, 3)) / 3, np.ones((2, 2, 3)) / 3, np.zeros((2, 2), int), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="gamma 0"):
        verify(np.ones((2, 1, 3)) / 3, np.ones((2, 0, 3)), np.zeros((2, 0), int), np.zeros((2, 1)))


@given(st.integers(0, 10_000))
def test_acceptance_is_one_minus_tv_and_above_pinskers_bound(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(6), size=2)
    assert acceptance(p, q) == pytest.approx(1 - total_variation(p, q))
    assert acceptance(p, q) >= acceptance_bound((p * np.log(p / q)).sum()) - 1e-12
