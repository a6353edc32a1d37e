"""Speculative decoding: the published rule as a pure function, its law enumerated, and what it promises in formulas.

Leviathan et al. 2022 (arXiv 2211.17192). The letters are that paper's: p is the target's law, q the draft's. In
distillation the target is the teacher; the notebooks on losses call its law q. Code here says target and draft.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Weights = Callable[[np.ndarray, np.ndarray], np.ndarray]  # p (N, V), q (N, V) -> what the next token is drawn from
Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
Tree = Sequence[np.ndarray]  # [i] (V,) * (i + 1): the law of token i after each prefix of i tokens
Cuts = Callable[[np.ndarray, np.ndarray, np.ndarray], list[np.ndarray]]  # p, q, drafted -> where a rule may change


def acceptance(target: np.ndarray, draft: np.ndarray) -> np.ndarray:
    """Chance that a drafted token is accepted, sum_v min(p_v, q_v) = 1 - TV(p, q), of laws (..., V): (...)."""
    return np.minimum(target, draft).sum(axis=-1)


def residual(target: np.ndarray, draft: np.ndarray) -> np.ndarray:
    """What is drawn from after a rejection, not normalised: max(0, p - q); p itself where rounding leaves nothing."""
    left = np.maximum(target - draft, 0)
    return np.where(left.sum(axis=-1, keepdims=True) > 0, left, target)


def pick(weights: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Tokens drawn by inversion: the first whose running sum of weights is above u times all of it.

    Args:
        weights: (N, V) >= 0, any positive sum.
        uniforms: (N,) in [0, 1).
    Returns:
        (N,) int64; never a token of weight 0.
    """
    running = weights.cumsum(axis=-1)
    above = running > uniforms[:, None] * running[:, -1:]
    last = weights.shape[-1] - 1 - (weights[:, ::-1] > 0).argmax(axis=-1)
    return np.where(above.any(axis=-1), above.argmax(axis=-1), last)


def verify(
    target: np.ndarray, draft: np.ndarray, drafted: np.ndarray, uniforms: np.ndarray, *, weights: Weights = residual
) -> tuple[np.ndarray, np.ndarray]:
    """Which drafted tokens stay, and the token after them (algorithm 1 of arXiv 2211.17192), for N calls at once.

    Token i is accepted if r_i < p_i(x_i) / q_i(x_i); the first that is not ends the call with a draw from
    norm(max(0, p - q)) in its place; after gamma accepted ones a token of the target's own follows.

    Args:
        target: (N, gamma + 1, V) the target's laws after the prefix and each drafted token.
        draft: (N, gamma, V) the laws that the drafted tokens were *drawn from*.
        drafted: (N, gamma) int.
        uniforms: (N, gamma + 1) in [0, 1): one for each drafted token, the last for the token after.
        weights: of the draw after a rejection; another than `residual` is for mutants.
    Returns:
        Accepted tokens (N,) in 0..gamma, and the token after them (N,).
    Raises:
        ValueError: shapes that do not fit.
    """
    calls, gamma = drafted.shape
    if gamma < 1:
        raise ValueError("a call drafts at least one token, got gamma 0")
    if target.shape[:2] != (calls, gamma + 1) or draft.shape != (calls, gamma, target.shape[-1]):
        raise ValueError(
            f"of {calls} calls with gamma {gamma} expected target ({calls}, {gamma + 1}, V) and draft "
            f"({calls}, {gamma}, V), got {target.shape} and {draft.shape}"
        )
    if uniforms.shape != (calls, gamma + 1):
        raise ValueError(f"uniforms must be ({calls}, {gamma + 1}), got {uniforms.shape}")
    p, q = (np.take_along_axis(law[:, :gamma], drafted[..., None], -1)[..., 0] for law in (target, draft))
    stays = uniforms[:, :gamma] * q < p
    accepted = stays.cumprod(axis=-1).sum(axis=-1)
    row = np.arange(calls)
    own = target[row, accepted]
    left = weights(own, draft[row, np.minimum(accepted, gamma - 1)])
    return accepted, pick(np.where((accepted < gamma)[:, None], left, own), uniforms[:, gamma])


@dataclass(frozen=True)
class Way:
    """A way to decode.

    rule: judges drafted tokens.
    drawn: the laws that drafted tokens really have, of those that the rule is told.
    """

    rule: Rule = verify
    drawn: Callable[[Tree], Tree] = lambda told: told


PUBLISHED = Way()


# the law of what comes out, without a random number


def random_tree(vocabulary: int, depth: int, seed: int) -> list[np.ndarray]:
    """Laws of `depth` tokens, each after every prefix, drawn from a Dirichlet distribution of concentration 2."""
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.full(vocabulary, 2.0), size=(vocabulary,) * i) for i in range(depth)]


def joint(tree: Tree) -> np.ndarray:
    """Law of the whole sequence (V,) * depth."""
    law = tree[0]
    for after in tree[1:]:
        law = law[..., None] * after
    return law


def published_cuts(target: np.ndarray, draft: np.ndarray, drafted: np.ndarray) -> list[np.ndarray]:
    """Where the published rule changes its answer, for each uniform: thresholds, and running sums of the draws.

    Args:
        target: (gamma + 1, V).
        draft: (gamma, V).
        drafted: (gamma,).
    """
    ratios = [[target[i, x] / draft[i, x]] for i, x in enumerate(drafted)]
    draws = [*(residual(target[i], draft[i]) for i in range(len(drafted))), target[-1]]
    return [*map(np.array, ratios), np.concatenate([w.cumsum() / w.sum() for w in draws])]


def all_cuts(target: np.ndarray, draft: np.ndarray, drafted: np.ndarray) -> list[np.ndarray]:
    """The same for rules that mix up rows or do not clamp: every row of the target with every one of the draft."""
    pairs = list(itertools.product(target, draft))
    ratios = [np.array([p[x] / q[x] for p, q in pairs]) for x in drafted]
    draws = [w for p, q in pairs for w in (residual(p, q), np.abs(p - q))] + list(target)
    return [*ratios, np.concatenate([w.cumsum() / w.sum() for w in draws])]


def output_law(target: Tree, draft: Tree, way: Way = PUBLISHED, cuts: Cuts = published_cuts) -> np.ndarray:
    """Law of the first gamma + 1 tokens, by enumeration: every draft, and every cell of the uniforms.

    Between two cuts nothing changes, so a rule's answer inside a cell, weighted by the cell's volume, is exact. What
    a call leaves open of the gamma + 1 tokens is the target's, as further calls of an exact rule would give it.

    Args:
        target: laws of gamma + 1 tokens, `target[i]` after each prefix of i.
        draft: laws of gamma tokens that the rule is told.
        way: the rule, and what is drawn.
        cuts: where the rule may change its answer.
    Returns:
        (V,) * (gamma + 1).
    Raises:
        ValueError: the rule changes its answer within a cell: `cuts` are not all.
    """
    gamma, vocabulary = len(draft), target[0].shape[-1]
    law, drafts = np.zeros((vocabulary,) * (gamma + 1)), joint(way.drawn(draft))
    for drafted in map(tuple, np.argwhere(drafts)):
        p = np.array([target[i][drafted[:i]] for i in range(gamma + 1)])
        q = np.array([draft[i][drafted[:i]] for i in range(gamma)])
        low, high = _cells(cuts(p, q, np.array(drafted)))
        accepted, last = _answers(way.rule, p, q, np.array(drafted), (low, high))
        volume = (high - low).prod(axis=-1) * drafts[drafted]
        for n, token in set(zip(accepted.tolist(), last.tolist(), strict=True)):
            begun = (*drafted[:n], token)
            rest = np.ones(())
            for i in range(n + 1, gamma + 1):
                rest = rest[..., None] * target[i][begun]
            law[begun] += volume[(accepted == n) & (last == token)].sum() * rest
    return law


def _answers(rule: Rule, p: np.ndarray, q: np.ndarray, drafted: np.ndarray, cells: tuple) -> tuple:
    """A rule's answers in cells of the uniforms, the same near both corners of each."""
    low, high = cells
    p, q, drafted = (np.broadcast_to(one, (len(low), *one.shape)) for one in (p, q, drafted))
    one, other = (rule(p, q, drafted, low + share * (high - low)) for share in (0.1, 0.9))
    if any((a != b).any() for a, b in zip(one, other, strict=True)):
        raise ValueError("the rule changes its answer within a cell: more cuts are needed")
    return one


def _cells(cuts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners (M, D) of the boxes that cuts divide [0, 1]^D into."""
    edges = [np.unique(np.clip([0.0, 1.0, *one], 0, 1)) for one in cuts]
    edges = [e[np.append(True, np.diff(e) > 1e-14)] for e in edges]  # cuts that rounding set apart are one
    edges = [np.append(e[:-1], 1.0) if len(e) > 1 else np.array([0.0, 1.0]) for e in edges]
    low = np.stack([g.ravel() for g in np.meshgrid(*(e[:-1] for e in edges), indexing="ij")], axis=-1)
    high = np.stack([g.ravel() for g in np.meshgrid(*(e[1:] for e in edges), indexing="ij")], axis=-1)
    return low, high


def total_variation(one: np.ndarray, other: np.ndarray) -> float:
    """TV distance of two laws of one shape, half the sum of absolute differences, in [0, 1]."""
    return float(np.abs(one - other).sum() / 2)


# the law of what comes out, by sampling


def sample_tree(tree: Tree, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Sequences (draws, depth) of a tree's law."""
    tokens = np.empty((draws, 0), dtype=np.int64)
    for law in tree:
        rows = np.broadcast_to(law[tuple(tokens.T)], (draws, law.shape[-1]))
        tokens = np.column_stack([tokens, pick(rows, rng.random(draws))])
    return tokens


def sample_rule(
    target: Tree, draft: Tree, draws: int, seed: int, way: Way = PUBLISHED
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of gamma + 1 tokens made by a rule; arguments as `output_law`.

    Returns:
        Tokens (draws, gamma + 1), and how many of the drafted ones each call accepted (draws,).
    """
    rng, gamma = np.random.default_rng(seed), len(draft)
    drafted = sample_tree(way.drawn(draft), draws, rng)
    prefixes = [tuple(drafted[:, :i].T) for i in range(gamma + 1)]
    wide = draws, target[0].shape[-1]
    p = np.stack([np.broadcast_to(target[i][prefixes[i]], wide) for i in range(gamma + 1)], axis=1)
    q = np.stack([np.broadcast_to(draft[i][prefixes[i]], wide) for i in range(gamma)], axis=1)
    accepted, last = way.rule(p, q, drafted, rng.random((draws, gamma + 1)))
    tokens = np.column_stack([drafted, np.zeros(draws, dtype=np.int64)])
    tokens[np.arange(draws), accepted] = last
    for i in range(1, gamma + 1):
        own = pick(np.broadcast_to(target[i][tuple(tokens[:, :i].T)], wide), rng.random(draws))
        tokens[:, i] = np.where(i > accepted, own, tokens[:, i])
    return tokens, accepted


def chi_square(tokens: np.ndarray, law: np.ndarray) -> float:
    """p-value of Pearson's test that sequences (N, D) have a law (V,) * D; no cell of it may expect fewer than 5."""
    from scipy.stats import chisquare

    counts = np.bincount(np.ravel_multi_index(tuple(tokens.T), law.shape), minlength=law.size)
    expected = len(tokens) * law.ravel() / law.sum()
    if expected.min() < 5:
        raise ValueError(f"a sequence is expected {expected.min():.2g} times, the test needs 5: more draws")
    return float(chisquare(counts, expected).pvalue)


# rules that are not the published one


def unclamped(target: np.ndarray, draft: np.ndarray, drafted: np.ndarray, uniforms: np.ndarray):
    """After a rejection draws from |p - q|: what is below 0 loses its sign and is not clamped."""
    return verify(target, draft, drafted, uniforms, weights=lambda p, q: np.abs(p - q))


def off_by_one(target: np.ndarray, draft: np.ndarray, drafted: np.ndarray, uniforms: np.ndarray):
    """Judges each drafted token by the target's law of the token before it."""
    return verify(np.concatenate([target[:, :1], target[:, :-1]], axis=1), draft, drafted, uniforms)


def no_residual(target: np.ndarray, draft: np.ndarray, drafted: np.ndarray, uniforms: np.ndarray):
    """After a rejection draws from p, not from what the draft left of it."""
    return verify(target, draft, drafted, uniforms, weights=lambda p, _: p)


def greedy(tree: Tree) -> list[np.ndarray]:
    """A draft that takes its likeliest token always: what is drawn; the rule is still told the tree itself."""
    return [np.eye(law.shape[-1])[law.argmax(axis=-1)] for law in tree]


MUTANTS = {
    "greedy draft, q a softmax": Way(drawn=greedy),
    "unclamped residual": Way(unclamped),
    "no residual": Way(no_residual),
    "off by one": Way(off_by_one),
}


# what it promises, if every drafted token is accepted with one chance, whatever came before


def expected_tokens(alpha, gamma):
    """Tokens per call of the target, (1 - alpha^(gamma + 1)) / (1 - alpha); gamma + 1 at alpha 1 (Eq. 1)."""
    alpha = np.asarray(alpha, dtype=np.float64)
    if (alpha < 0).any() or (alpha > 1).any() or (np.asarray(gamma) < 0).any():
        raise ValueError(f"alpha must be in [0, 1] and gamma >= 0, got {alpha} and {gamma}")
    rest = np.where(alpha < 1, 1 - alpha, 1)
    return np.where(alpha < 1, (1 - alpha ** (np.asarray(gamma) + 1)) / rest, np.asarray(gamma) + 1.0)


def walltime_factor(alpha, gamma, c):
    """How many times faster (theorem 3.8): tokens per call over gamma c + 1, c = a draft's step in target's steps."""
    return expected_tokens(alpha, gamma) / (np.asarray(gamma) * c + 1)


def operations_factor(alpha, gamma, c):
    """How many times the operations (theorem 3.11): (gamma c + gamma + 1) / tokens per call, c in operations."""
    gamma = np.asarray(gamma)
    return (gamma * c + gamma + 1) / expected_tokens(alpha, gamma)


def best_gamma(alpha: float, c: float) -> int:
    """The draft length up to 20 of the largest wall-time factor; 0 where drafting never pays."""
    return int(np.argmax(walltime_factor(alpha, np.arange(21), c)))


def acceptance_bound(kl):
    """Lower bound 1 - sqrt(KL(p || q) / 2) of a prefix's acceptance (Pinsker), KL in nats."""
    return 1 - np.sqrt(np.asarray(kl) / 2)
