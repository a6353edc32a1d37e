"""Speculative decoding: T14.3, the rule's law by enumeration and by sampling, mutants, formulas, counts, assistants."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdnb.core import store as core_store
from kdnb.core.store import Record
from kdnb.studies.language_models import claims_speculative, divergences, drafting, drafts, models
from kdnb.studies.language_models.config import LMConfig
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
from kdnb.studies.language_models.text import Blocks
from kdnb.studies.language_models.training import Online, Told

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


# decoding with models


@pytest.fixture(scope="module")
def pair():
    """A target and a draft of random weights, far apart; five tokens."""
    languages = [models.student(name, None, 5, seed) for name, seed in (("llama-1x64", 0), ("llama-1x32", 1))]
    for one in languages:
        for weight in one.model.parameters():
            weight.data *= 3
    return drafting.Pair(*languages)


def law_after(language, prompt):
    """Law (5, 5) of the two tokens after a prompt, by the model itself."""
    ids = torch.tensor([[*prompt, token] for token in range(5)])
    with torch.no_grad():
        laws = language.logits(ids).double().softmax(-1).numpy()
    return laws[0, -2][:, None] * laws[:, -1]


@pytest.mark.slow
def test_decoded_text_has_the_targets_law_and_not_the_drafts(pair):
    prompt = [0, 3, 2]
    ids, counts = drafting.decode(pair, np.tile(prompt, (10_000, 1)), 2, gamma=2, seed=0)
    assert chi_square(ids[:, 3:], law_after(pair.target, prompt)) > SIGNIFICANCE
    assert chi_square(ids[:, 3:], law_after(pair.draft, prompt)) < SIGNIFICANCE
    assert counts.tokens >= 2 * 10_000
    assert counts.tokens == counts.calls + counts.accepted.sum()


def test_a_draft_that_is_the_target_is_always_accepted(pair):
    same = drafting.Pair(pair.target, pair.target)
    ids, counts = drafting.decode(same, np.zeros((4, 2), dtype=int), 12, gamma=3)
    assert ids.shape == (4, 14)
    assert counts.calls == 4 * 3
    np.testing.assert_array_equal(counts.accepted, counts.reached)
    np.testing.assert_allclose(counts.overlap / counts.reached, 1, atol=1e-6)


@pytest.mark.slow
def test_counted_acceptance_is_the_mean_of_the_exact_one(pair):
    _, counts = drafting.decode(pair, np.zeros((400, 2), dtype=int), 16, gamma=3, seed=1)
    share, exact = counts.accepted / counts.reached, counts.overlap / counts.reached
    assert counts.reached[0] == counts.calls
    np.testing.assert_array_equal(counts.reached[1:], counts.accepted[:-1])
    assert (np.abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / counts.reached)).all()


def test_assisted_greedy_is_the_targets_greedy_text_token_for_token(pair):
    prompt = torch.tensor([[1, 4, 2]])
    with drafting.knobs(pair.draft, **drafting.comparable(3)):
        helped = drafting.generate(pair.target, prompt, 24, greedy=True, assistant_model=pair.draft.model)
    assert torch.equal(helped, drafting.generate(pair.target, prompt, 24, greedy=True))


def test_knobs_are_put_back(pair):
    before = pair.draft.model.generation_config.to_dict()
    with drafting.knobs(pair.draft, **drafting.comparable(7)):
        assert pair.draft.model.generation_config.num_assistant_tokens == 7
    assert pair.draft.model.generation_config.to_dict() == before


def test_assistance_uses_the_drafts_settings_and_not_those_given_to_generate(pair):
    """The draft is the target itself, so that every call gives gamma + 1 tokens, whatever gamma is."""
    same, prompt = drafting.Pair(pair.target, models.student("llama-1x64", None, 5, 0)), torch.tensor([[1, 2]])
    same.draft.model.load_state_dict(pair.target.model.state_dict())
    torch.manual_seed(0)
    with drafting.knobs(same.draft, **drafting.comparable(3)):
        calls, tokens = drafting.assisted(same, prompt, 40, 4)
    assert (calls, tokens) == (10, 40)
    with drafting.knobs(same.draft, assistant_confidence_threshold=0.0, num_assistant_tokens=20):
        ignored, _ = drafting.assisted(same, prompt, 40, 4, num_assistant_tokens=3)
    assert ignored < 4


def unigram(law):
    """A model of one law after every prefix: acceptance is the same at each place, as the formula assumes."""
    one, head = models.student("llama-1x32", None, len(law), 0), torch.nn.Linear(32, len(law))
    head.weight.data.zero_()
    head.bias.data.copy_(torch.tensor(law).log())
    one.model.set_output_embeddings(head)
    return one


@pytest.mark.slow
def test_assisted_tokens_per_call_are_those_of_the_formula():
    """Of some 600 calls, whose standard error is a third of the bound."""
    target, draft = [0.3, 0.25, 0.2, 0.15, 0.1], [0.25, 0.3, 0.15, 0.2, 0.1]
    exact = expected_tokens(acceptance(np.array(target), np.array(draft)), 2)
    assert exact == pytest.approx(2.71)
    iid = drafting.Pair(unigram(target), unigram(draft))
    torch.manual_seed(3)
    with drafting.knobs(iid.draft, **drafting.comparable(2)):
        calls, tokens = np.sum([drafting.assisted(iid, torch.tensor([[0, 1]]), 400, 3) for _ in range(4)], axis=0)
    assert tokens / calls == pytest.approx(exact, rel=0.03)


# the experiment


def test_laws_told_once_are_those_of_a_target_that_runs_on_each_batch(pair):
    ids = np.random.default_rng(0).integers(0, 5, (6, 9))
    blocks, rows = Blocks(ids, "", 5), np.array([4, 1])
    told = Told(pair.target, blocks)(rows, None)
    online = Online(pair.target, "fp32", 5)(rows, torch.from_numpy(ids[rows]), None)
    for part in (slice(0, 16), slice(5, 9)):
        torch.testing.assert_close(told(part), online(part))


@pytest.fixture(scope="module")
def toy():
    one = replace(drafts.experiments("toy")[0], teacher_tokens=1600, start_tokens=800, tokens=800)
    return {one: drafting.make(one)}


@pytest.mark.slow
def test_tables_of_an_experiment_are_what_it_counted(toy):
    ((one, made),) = toy.items()
    rows = drafts.table(toy)
    assert list(rows.arm) == [drafts.START, *one.arms]
    assert rows.acceptance.between(0, 1).all()
    assert (rows.acceptance >= acceptance_bound(rows.kl)).all()
    calls = drafts.calls(toy)
    assert len(calls) == 2 * len(one.gammas)
    assert (calls.measured <= calls.gamma + 1).all()
    assert (made.arrays["reached"][:, :, 0] == made.arrays["calls"]).all()
    assert made.metrics["greedy_equal"]
    assert set(drafts.places(toy).place) == {1, 2}
    assert drafts.assistants(toy).shape == (1, len(drafts.WAYS) + 2)
    speed = drafts.speed(toy).iloc[0]
    assert speed["promised factor"] == pytest.approx(speed["tokens per call"] / (one.gamma * speed.c + 1))
    assert set(claims_speculative.effects(toy)) == set(claims_speculative.CLAIMS)


def test_a_claims_effect_is_the_difference_of_its_arms_in_each_seed():
    found = {}
    for seed in (0, 1):
        one = drafts.Drafts(seed=seed)
        values = np.random.default_rng(seed).random(len(one.arms) + 1)
        found[one] = Record({}, dict.fromkeys(("acceptance", "kl", "entropy", "nll"), values), {}, [], {})
    effect = claims_speculative.effects(found)["H14.4a"]
    for one, record in found.items():
        of = dict(zip((drafts.START, *one.arms), record.arrays["acceptance"], strict=True))
        assert effect[one.seed] == pytest.approx(of["forward KL, text"] - of["ERM, text"])


def test_arms_are_every_loss_on_every_kind_of_data_and_erm_on_both_that_exist_before():
    assert len(drafts.ARMS) == len(set(drafts.ARMS)) == 2 + len(drafts.LOSSES) * len(drafts.DATA)
    assert {drafts.BASE, drafts.KD} <= set(drafts.ARMS)
    assert {arm for pair in claims_speculative._PAIRS.values() for arm in pair} <= set(drafts.ARMS)
    assert all(loss in divergences.DIVERGENCES for loss in drafts.LOSSES.values())


def test_stored_students_of_a_real_teacher_are_judged_as_drafts(store):
    assert not len(drafts.students())
    same = {"data": "d", "held_out": "h", "student_weights": "w", "vocabulary": 5}
    judged = {"acceptance": 0.5, "kl": 0.7, "nll": 3.0}
    cut = LMConfig(**same, student="cut-6", teacher="t", teacher_weights="x", targets="online", alpha=1.0)
    for config, metrics in (
        (cut, judged),
        (LMConfig(**same, student="llama-1x32"), judged),
        (LMConfig(**same, student="cut-6"), {}),
    ):
        core_store.write(config, {"nll": np.zeros(1)}, metrics)
    (row,) = drafts.students().to_dict("records")
    assert (row["student"], row["method"], row["acceptance"]) == ("cut-6", "kd", 0.5)
