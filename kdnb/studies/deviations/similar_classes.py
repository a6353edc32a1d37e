"""Gradient denoising: how well distillation's gradient points at the truth, in two models of our own; torch only.

arXiv 2301.12923 is said to hold a theorem on class similarity whose setting we could not read. What stands here
is our formalisation: an exact linear regression, and a simulation with similar classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdnb.core.losses import one_hot_targets
from kdnb.studies.deviations.spectral import gf_progress
from kdnb.studies.deviations.toys import Toy, toy_of


def alignment(lam: np.ndarray, a: np.ndarray, sigma2: float, f: np.ndarray) -> float:
    """Cosine, in expectation of numerator and norm, between the direction f(X^T X) X^T y and the truth b*.

    rho(f) = sum f lam a^2 / sqrt(sum a^2 sum f^2 (lam^2 a^2 + lam sigma^2)), for y = X b* + noise.

    Args:
        lam: (D,) eigenvalues of X^T X, > 0.
        a: (D,) coordinates of b* along its eigenvectors.
        sigma2: variance of the noise, >= 0.
        f: (D,) filter, see `directions`.
    Returns:
        In [-1, 1].
    Raises:
        ValueError: shapes differ, or b* or the direction is zero.
    """
    lam, a, f = (np.asarray(value, dtype=float) for value in (lam, a, f))
    if not lam.shape == a.shape == f.shape:
        raise ValueError(f"lam, a and f must have one shape, got {lam.shape}, {a.shape} and {f.shape}")
    length = np.sum(a**2) * np.sum(f**2 * (lam**2 * a**2 + lam * sigma2))
    if not length > 0:
        raise ValueError("the truth or the direction is zero: no angle between them")
    return float(np.sum(f * lam * a**2) / np.sqrt(length))


def directions(lam: np.ndarray, T: float) -> dict[str, np.ndarray]:
    """Filters f of what could tell a student, still at b = 0, the way; by name.

    "one-hot" is X^T y, the gradient from the targets; "KD" is X^T X b(T), the gradient from a teacher stopped at
    T; "teacher" is b(T), the teacher's weights.
    """
    progress = gf_progress(np.asarray(lam, dtype=float), T)
    return {"one-hot": np.ones_like(progress), "KD": progress, "teacher": progress / lam}


def sampled_cosines(  # noqa: PLR0913  (the formula's own arguments)
    lam: np.ndarray, a: np.ndarray, sigma2: float, f: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Cosines (draws,) between f(X^T X) X^T y and b* for drawn noise: the Monte Carlo beside `alignment`."""
    noise = rng.normal(size=(draws, len(lam))) * np.sqrt(sigma2 * lam)  # X^T noise in the eigenbasis
    directions_drawn = f * (lam * a + noise)
    return directions_drawn @ a / (np.linalg.norm(directions_drawn, axis=1) * np.linalg.norm(a))


@dataclass(frozen=True)
class SimilarClasses:
    """Examples x = phi_y + rho phi_s + noise: a label y, and a second class s that x resembles by rho."""

    toy: Toy
    similar: Tensor  # (N,) the class s of each train example
    features: Tensor  # (K, D) orthonormal phi_k
    rho: float


@dataclass(frozen=True)
class Resemblance:
    """How examples are drawn, and how much they resemble a second class.

    Raises:
        ValueError: rho is outside [0, 1], or the classes do not divide into groups of 2 or more.
    """

    rho: float = 0.8  # size of the similar class's feature in x, 0 (none) to 1 (as large as the label's)
    noise: float = 0.2  # standard deviation of each coordinate
    num_classes: int = 10  # K
    dim: int = 1000  # of the inputs
    group: int = 0  # s comes from the label's group of this many neighbouring classes (2: pairs); 0 is all of them

    def __post_init__(self):
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho must be in [0, 1], got {self.rho}")
        group = self.group or self.num_classes
        if group < 2 or self.num_classes % group:
            raise ValueError(
                f"group must be 0 or divide {self.num_classes} classes into groups of 2 or more, got {group}"
            )


def similar_classes(
    seed: int = 0,
    rows: int = 1000,
    how: Resemblance = Resemblance(),
    test_rows: int = 1000,
) -> SimilarClasses:
    """The simulation: K orthonormal features in R^dim, y uniform, s uniform over the other classes.

    Args:
        seed: draws features, examples and noise.
        rows: train examples.
        test_rows: test examples.
        how: K, dim, and how much x resembles s.
    """
    num_classes, dim, group = how.num_classes, how.dim, how.group or how.num_classes
    rng = np.random.default_rng(seed)
    features = np.linalg.qr(rng.normal(size=(dim, num_classes)))[0].T

    def draw(count: int) -> tuple[np.ndarray, ...]:
        labels = rng.integers(num_classes, size=count)
        similar = labels - labels % group + (labels + rng.integers(1, group, size=count)) % group
        x = features[labels] + how.rho * features[similar] + how.noise * rng.normal(size=(count, dim))
        return x, labels, similar

    (x, y, s), (test_x, test_y, _) = draw(rows), draw(test_rows)
    return SimilarClasses(
        toy_of((x, y), (test_x, test_y), num_classes),
        torch.from_numpy(s),
        torch.from_numpy(np.ascontiguousarray(features)),
        how.rho,
    )


def first_gradient(toy: Toy, targets: Tensor) -> Tensor:
    """Minus the gradient of the mean cross-entropy at W = 0, where p = 1/K: X^T (t - 1/K) / N; (N, K) -> (D, K)."""
    return toy.inputs.T @ (targets - 1 / toy.num_classes) / len(toy.inputs)


def similar_push(simulation: SimilarClasses, targets: Tensor) -> float:
    """How a first step moves the similar class's logit along its own feature: mean of (t_s - 1/K) x . phi_s.

    One-hot targets give -rho/K in expectation: they push the class that x truly contains *down*. A positive value
    pushes it up.
    """
    every = torch.arange(len(targets))
    along = (simulation.toy.inputs * simulation.features[simulation.similar]).sum(1)
    return float(((targets[every, simulation.similar] - 1 / targets.shape[1]) * along).mean())


def flipped_share(simulation: SimilarClasses, targets: Tensor) -> float:
    """Share of examples whose target gives the similar class more than 1/K: there the push changes its sign."""
    return float((targets[torch.arange(len(targets)), simulation.similar] > 1 / targets.shape[1]).double().mean())


def cosine_to_features(weights: Tensor, features: Tensor) -> float:
    """Cosine between weights (D, K), or a direction for them, and the centred features (K, D): the truth here.

    Centred over classes, since adding a vector to every column changes no posterior.
    """
    truth, direction = (part - part.mean(dim=1, keepdim=True) for part in (features.T, weights))
    return float((truth * direction).sum() / (truth.norm() * direction.norm()))


def measures(simulation: SimilarClasses, weights: Tensor) -> dict[str, float]:
    """What a teacher of the given weights (D, K) does to the first gradient, beside the labels.

    The pushes on the similar class, the share of examples where the teacher flips the sign, and the cosines to the
    features of four directions: KD's gradient, the labels', the labels' without the similar class, the weights.
    """
    toy = simulation.toy
    hard = one_hot_targets(toy.labels, toy.num_classes, torch.float64)
    soft = (toy.inputs @ weights).softmax(dim=1)
    similar = one_hot_targets(simulation.similar, toy.num_classes).bool()
    ways = {
        "KD": first_gradient(toy, soft),
        "one-hot": first_gradient(toy, hard),
        "teacher": weights,
        "zeroed": first_gradient(toy, hard.masked_fill(similar, 1 / toy.num_classes)),
    }
    return {
        "push one-hot": similar_push(simulation, hard),
        "push KD": similar_push(simulation, soft),
        "flipped": flipped_share(simulation, soft),
        **{f"cosine {name}": cosine_to_features(way, simulation.features) for name, way in ways.items()},
    }


def confusion(posteriors: Tensor, labels: Tensor) -> Tensor:
    """Mean posterior by true class, the diagonal 0: how similar class j (column) looks to class i (row).

    Args:
        posteriors: (..., N, K).
        labels: (..., N).
    Returns:
        (..., K, K); a class with no example has a row of zeros.
    """
    one_hot = one_hot_targets(labels, posteriors.shape[-1], posteriors.dtype)
    mean = one_hot.mT @ posteriors / one_hot.sum(dim=-2).clamp(min=1)[..., None]
    return mean * (1 - torch.eye(posteriors.shape[-1], dtype=mean.dtype))


def most_similar(similarity: Tensor, m: int) -> Tensor:
    """Mask (..., K, K): the m classes most similar to each class, by `confusion`; never the class itself.

    Raises:
        ValueError: m is outside 0..K-1.
    """
    size = similarity.shape[-1]
    if not 0 <= m < size:
        raise ValueError(f"m must be in 0..{size - 1}, got {m}")
    others = similarity.masked_fill(torch.eye(size, dtype=torch.bool), -torch.inf)
    mask = torch.zeros(similarity.shape, dtype=torch.bool)
    return mask.scatter_(-1, others.topk(m, dim=-1).indices, True)


class RunningSimilarity:
    """Teacher-free zeroing's choice of classes: the m that the model itself has lately taken for the label's.

    Called with logits (..., N, K) and labels (..., N) of a batch, it takes their confusion into a running mean and
    answers with the mask (..., N, K) for `without_gradient`. Choice and decay are our reconstruction.
    """

    def __init__(self, m: int, decay: float = 0.95):
        self.m, self.decay = m, decay
        self.mean: Tensor | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mask for this batch, after its confusion has been taken in."""
        seen = confusion(logits.detach().softmax(dim=-1), labels)
        before = torch.zeros_like(seen) if self.mean is None else self.mean
        present = seen.sum(dim=-1, keepdim=True) > 0
        self.mean = torch.where(present, self.decay * before + (1 - self.decay) * seen, before)
        return torch.take_along_dim(most_similar(self.mean, self.m), labels[..., None], dim=-2)


def without_gradient(logits: Tensor, mask: Tensor) -> Tensor:
    """The same logits, but no gradient flows back where the mask, of one shape, is True.

    Under cross-entropy the masked gradients are exactly 0 and the others stay p - q: the posterior is the same.
    """
    return torch.where(mask, logits.detach(), logits)
