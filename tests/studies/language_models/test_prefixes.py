"""Words and sequences on a generated language: the source, the chain rule (T14.1), what the committed records say."""

import numpy as np
import pytest
import torch
from scipy import stats

from kdnb.core import store
from kdnb.studies.language_models import claims_prefixes, evaluation, models, prefixes, sampling
from kdnb.studies.language_models import prefix_trainings as trainings
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.text import Blocks
from kdnb.studies.language_models.training import Online


def kl(q, p):
    return float((q * np.log(q / p)).sum())


def test_the_chain_rule_by_enumeration():
    """T14.1: KL of whole sequences is the sum over positions, prefixes drawn from the teacher."""
    rng = np.random.default_rng(0)
    first_q, first_p = rng.dirichlet(np.ones(3), 2)
    next_q, next_p = rng.dirichlet(np.ones(3), (2, 3))
    whole = kl((first_q[:, None] * next_q).ravel(), (first_p[:, None] * next_p).ravel())
    by_words = kl(first_q, first_p) + sum(first_q[i] * kl(next_q[i], next_p[i]) for i in range(3))
    assert abs(whole - by_words) < 1e-12
    other_prefixes = kl(first_q, first_p) + sum(kl(next_q[i], next_p[i]) for i in range(3)) / 3
    assert abs(whole - other_prefixes) > 1e-3


def test_sampled_sequences_estimate_the_divergence_and_the_mode_does_not():
    """T14.1: -log p over draws from q, minus q's entropy, is the KL of sequences; at the mode it is not."""
    rng = np.random.default_rng(1)
    q, p = rng.dirichlet(np.ones(9), 2)
    drawn = rng.choice(9, 20_000, p=q)
    each = np.log(q[drawn]) - np.log(p[drawn])
    assert abs(each.mean() - kl(q, p)) < 4 * each.std() / len(drawn) ** 0.5
    assert abs((np.log(q) - np.log(p))[q.argmax()] - kl(q, p)) > 4 * each.std() / len(drawn) ** 0.5


def test_the_source_has_the_entropy_it_says():
    source = MarkovSource(vocabulary=16, seed=3)
    text = source.sample(60_000, 0)
    assert source.entropies(text).mean() == pytest.approx(source.conditional_entropy, abs=0.02)
    logs = np.log(source.laws[text[:-2], text[1:-1], text[2:]])
    assert -logs.mean() == pytest.approx(source.conditional_entropy, abs=4 * logs.std() / len(logs) ** 0.5)
    np.testing.assert_allclose(source.laws.sum(-1), 1)
    after = np.einsum("ab,abc->bc", source.stationary, source.laws)
    np.testing.assert_allclose(after, source.stationary, atol=1e-10)
    assert (source.sample(50, 0) == text[:50]).all()
    assert (source.sample(50, 1) != text[:50]).any()


def test_draws_follow_the_models_own_law():
    one = models.from_config(models.CONFIGS["llama-1x32"], 8, seed=0)
    for p in one.model.parameters():
        p.data.mul_(3)
    prompts = torch.tensor([[1, 2]]).expand(4000, -1)
    drawn = sampling.sample(one, prompts, 1, key=(0,))[:, -1]
    law = one.logits(prompts[:1])[0, -1].softmax(-1).detach().numpy().astype(float)
    counts = np.bincount(drawn, minlength=8)
    assert stats.chisquare(counts, law / law.sum() * 4000).pvalue > 1e-4
    assert (sampling.sample(one, prompts, 1, key=(1,))[:, -1] != drawn).any()


def test_cached_and_uncached_sampling_agree_and_beams_find_more_than_greed():
    one = models.from_config(models.CONFIGS["llama-1x32"], 8, seed=1)
    for p in one.model.parameters():
        p.data.mul_(4)
    prompts = torch.tensor([[1, 2], [3, 0], [5, 5]])
    greedy, beam = (sampling.mode(one, prompts, 5, beams=beams) for beams in (1, 5))
    ids = prompts
    for _ in range(5):  # without a cache of keys and values
        ids = torch.cat([ids, one.logits(ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert (ids == greedy).all()
    found = [trainings.log_probability(one, ids, 2) for ids in (greedy, beam)]
    assert (found[1] >= found[0] - 1e-5).all()


def test_what_judge_says_is_what_the_laws_say():
    one, two = (models.from_config(models.CONFIGS["llama-1x32"], 16, seed=seed) for seed in (0, 1))
    held = MarkovSource(vocabulary=16).blocks(10, 8, 0)
    ids = torch.from_numpy(held.ids.astype(np.int64))
    with torch.no_grad():
        log_p, log_q = (m.logits(ids)[:, :-1].double().log_softmax(-1) for m in (one, two))

    def taught(rows, ids):
        states = two.hidden(ids)[:, :-1].reshape(-1, 32)
        return lambda part: two.head(states[part]).detach()

    judged = evaluation.judge(one, held, taught)
    p, q = log_p.exp(), log_q.exp()
    expected = {
        "nll": -log_p.gather(-1, ids[:, 1:, None])[..., 0],
        "entropy": -(p * log_p).sum(-1),
        "teacher_entropy": -(q * log_q).sum(-1),
        "kl": (q * (log_q - log_p)).sum(-1),
        "overlap": 1 - 0.5 * (p - q).abs().sum(-1),
        "agreement": (p.argmax(-1) == q.argmax(-1)).double(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(judged[name], value.numpy(), atol=1e-5, err_msg=name)
    rows = evaluation.by_teacher_entropy(judged)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert sum(row["share"] * row["mean"] for row in rows) == pytest.approx(judged["kl"].mean(), rel=1e-5)
    assert "end" not in judged  # the source's text has no separator


def test_a_divergence_by_position_is_the_mean_of_its_columns():
    kl = np.tile(np.arange(1.0, 11), (3, 1)) + np.array([[-0.5], [0], [0.5]])
    rows = evaluation.by_position({"kl": kl.astype(np.float16)})
    assert [(row["from"], row["to"], row["mean"]) for row in rows] == [(1, 1, 1), (2, 3, 2.5), (4, 7, 5.5), (8, 10, 9)]
    assert [row["to"] for row in evaluation.by_position({"kl": kl[:, :7]})] == [1, 3, 7]


def test_runs_stored_before_tell_it_too(reference):
    """What is stored of a run is each token's divergence, so nothing has to be measured again."""
    names = [name for name in store.stored_ids() if name.startswith("lm-kd-")]
    assert names
    for record in map(store.read, names):
        rows = evaluation.by_position(record.arrays)
        shares = [(row["to"] - row["from"] + 1) / record.arrays["kl"].shape[1] for row in rows]
        assert np.dot(shares, [row["mean"] for row in rows]) == pytest.approx(record.metrics["kl"], abs=1e-3)


@pytest.mark.slow
def test_a_student_that_does_not_stop_is_told_of():
    """Models that end a text with a chance p at each token, whatever came before: 1 / p tokens in the mean."""

    def ending(chance):
        one = models.from_config(models.CONFIGS["llama-1x32"], 4, seed=0)
        head = torch.nn.Linear(32, 4)
        head.weight.data.zero_()
        head.bias.data.copy_(torch.tensor([chance, *[(1 - chance) / 3] * 3]).log())
        one.model.set_output_embeddings(head)
        return one

    student, teacher = ending(0.02), ending(0.2)
    ids = np.random.default_rng(0).integers(1, 4, (6, 9))
    ids[2, 5] = 0
    held = Blocks(ids, "", 4, separator=0)
    online = Online(teacher, "fp32", 4)
    summary = evaluation.summary(evaluation.judge(student, held, lambda rows, ids: online(rows, ids, None)))
    assert summary.length_ratio == pytest.approx(10, rel=1e-4)
    assert (summary.end, summary.teacher_end) == pytest.approx((0.02, 0.2), rel=1e-4)
    assert [evaluation.alarming(ratio) for ratio in (0.4, 0.5, 1.0, 2.0, 10.0)] == [True, False, False, False, True]
    prompts = torch.ones(100, 1, dtype=torch.long)
    drawn = [sampling.sample(one, prompts, 20, key=(0,))[:, 1:] for one in (student, teacher)]
    ratio = evaluation.length_ratio(*(evaluation.lengths(one.numpy(), 0) for one in drawn))
    expected = [(1 - (1 - p) ** 20) / p for p in (0.02, 0.2)]  # cut at 20 tokens
    assert ratio == pytest.approx(expected[0] / expected[1], rel=0.25)
    assert evaluation.lengths(np.array([[1, 0, 0], [1, 2, 3]]), 0).tolist() == [2, 3]


@pytest.fixture(scope="module")
def committed(reference):
    return prefixes.results("cpu")


def test_the_committed_records_are_whole_and_the_claims_are_theirs(committed):
    """H14.1a-H14.1e and H14.2, each effect computed anew from the arrays."""
    assert [one.seed for one in committed] == [0, 1, 2]
    values = claims_prefixes.effects(committed)
    assert list(values) == ["H14.1a", "H14.1b", "H14.1c", "H14.1d", "H14.1e", "H14.2"]
    for one, record in committed.items():
        assert store.exists(one.run_id())
        assert record.metrics["teacher_unchanged"]
        at = {arm: i for i, arm in enumerate(one.arms)}
        entropy, teacher = record.arrays["entropy"], record.metrics["teacher_entropy"]
        erm, mode, draws, word = (at[arm] for arm in (prefixes.ERM, prefixes.MODE, prefixes.SAMPLES, prefixes.WORD))
        expected = {
            "H14.1a": entropy[mode] - entropy[erm],
            "H14.1b": record.arrays["gap"][mode] - record.arrays["gap"][erm],
            "H14.1c": record.arrays["nll"][mode] - record.arrays["nll"][erm],
            "H14.1d": abs(entropy[draws] - teacher) - abs(entropy[mode] - teacher),
            "H14.1e": min(entropy[at["LS 0.1"]], entropy[mode]) - entropy[erm],
            "H14.2": abs(entropy[word] - teacher) - abs(entropy[erm] - teacher),
        }
        assert {name: of[one.seed] for name, of in values.items()} == pytest.approx(expected)
        assert (record.arrays["nll"] >= record.metrics["held_out_entropy"] - 0.1).all()


def test_the_matched_control_has_the_nearest_entropy(committed):
    rows = prefixes.table(committed)
    control = prefixes.matched_ls(rows)
    for row in control.itertuples():
        mine = rows[rows.seed == row.seed].set_index("arm")
        away = [abs(mine.entropy[name] - mine.entropy[prefixes.WORD]) for name in prefixes.LS.values()]
        assert abs(row.entropy - mine.entropy[prefixes.WORD]) == pytest.approx(min(away))


def test_prompts_used_again(committed):
    """H21.1: same start, teacher and budget on a fiftieth of the prompts; the effect anew from the arrays."""
    few = prefixes.results("cpu", few=True)
    assert [(one.seed, one.rows, one.arms) for one in few] == [(seed, 64, prefixes.REUSED) for seed in (0, 1, 2)]
    values = claims_prefixes.of_reuse(committed | few)["H21.1"]
    for (whole, before), (one, record) in zip(committed.items(), few.items(), strict=True):
        assert record.metrics["teacher_nll"] == pytest.approx(before.metrics["teacher_nll"], abs=1e-6)
        lost = [
            record.arrays["teacher_kl"][one.arms.index(arm)] - before.arrays["teacher_kl"][whole.arms.index(arm)]
            for arm in (prefixes.SAMPLES, prefixes.ON_REVERSE)
        ]
        assert values[one.seed] == pytest.approx(lost[0] - lost[1])
    assert claims_prefixes.of_reuse(committed) == {}
