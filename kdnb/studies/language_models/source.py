"""A generated language whose every conditional entropy is known: a Markov chain over pairs of tokens."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from kdnb.studies.language_models.text import Blocks, smallest_dtype

BURN_IN = 200  # tokens left out, after which the chain forgets how it began


@dataclass(frozen=True)
class MarkovSource:
    """Token t follows the pair (a, b) before it with law P[a, b] = softmax(scale (A_a + B_b) / sqrt 2).

    A and B (V, V) are standard normal, drawn once: a table of V^2 laws that a small transformer can learn, since what
    each token of the pair says adds up.

    vocabulary: V.
    seed: of A and B.
    scale: the larger, the surer the next token.
    """

    vocabulary: int = 64
    seed: int = 0
    scale: float = 2.5

    @functools.cached_property
    def laws(self) -> np.ndarray:
        """P (V, V, V) float64: laws[a, b] is the law of what follows a, b."""
        rng = np.random.default_rng((self.seed, self.vocabulary))
        first, second = rng.standard_normal((2, self.vocabulary, self.vocabulary))
        return softmax(self.scale * (first[:, None] + second[None]) / np.sqrt(2), axis=-1)

    @functools.cached_property
    def stationary(self) -> np.ndarray:
        """Share of each pair in the long run (V, V), by power iteration."""
        share = np.full((self.vocabulary, self.vocabulary), self.vocabulary**-2.0)
        for _ in range(500):
            after = np.einsum("ab,abc->bc", share, self.laws)
            if np.abs(after - share).sum() < 1e-13:
                break
            share = after
        return after

    @property
    def conditional_entropy(self) -> float:
        """Mean entropy of the next token given all before it, in the long run [nats]: no model's NLL is below it."""
        return float((self.stationary * entropies(self.laws)).sum())

    def entropies(self, ids: np.ndarray) -> np.ndarray:
        """True entropy of the token after each pair of a text (..., T): (..., T - 2) [nats], of tokens 2 to T - 1."""
        return entropies(self.laws)[ids[..., :-2], ids[..., 1:-1]]

    def sample(self, tokens: int, seed: int) -> np.ndarray:
        """A text of so many tokens (tokens,) int64.

        Args:
            tokens: how many.
            seed: of the draws; another one is another text of the same language.
        """
        rng = np.random.default_rng((self.seed, 1, seed))
        totals, draws = self._totals, rng.random(tokens + BURN_IN)
        a, b, text = 0, 0, np.empty(tokens + BURN_IN, dtype=np.int64)
        for i, draw in enumerate(draws):
            a, b = b, min(int(np.searchsorted(totals[a, b], draw, side="right")), self.vocabulary - 1)
            text[i] = b
        return text[BURN_IN:]

    @functools.cached_property
    def _totals(self) -> np.ndarray:
        return self.laws.cumsum(axis=-1)

    def blocks(self, rows: int, length: int, seed: int) -> Blocks:
        """A text as sequences (rows, length), ids in place of words, without a separator."""
        ids = self.sample(rows * length, seed).reshape(rows, length).astype(smallest_dtype(self.vocabulary))
        name = f"markov {self.vocabulary} {self.seed} {self.scale:g}"
        return Blocks(ids, hashlib.sha256(name.encode()).hexdigest(), self.vocabulary)


def entropies(laws: np.ndarray) -> np.ndarray:
    """Entropy of each law (..., V) [nats]: (...)."""
    return -(laws * np.log(laws, where=laws > 0, out=np.zeros_like(laws))).sum(axis=-1)
