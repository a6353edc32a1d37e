"""Toy problems with known answers: TOY-A, TOY-B, and scikit-learn's digits; torch only.

TOY-A has calibrated noise: the labels are drawn from known posteriors. TOY-B has label noise and a decaying
spectrum. Everything drawn from these is a simulation and says so where it is shown.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdnb.data import images


@dataclass(frozen=True)
class Toy:
    """Train and test examples: inputs (N, D) float64, labels (N,) in 0..K-1."""

    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    num_classes: int


def _toy(train: tuple, test: tuple, num_classes: int) -> Toy:
    return Toy(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (*train, *test)), num_classes)


def _redraw(labels: np.ndarray, share: float, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """The labels with a share of them, on average, drawn anew from all classes.

    Each label on its own, as the theory of the toys has it: P(true) = 1 - share + share / K for every example. The
    tasks of kdnb.data.splits ("digits@0.2") redraw the share exactly instead, since their name says it.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"label_noise must be in [0, 1], got {share}")
    return np.where(rng.random(len(labels)) < share, rng.integers(num_classes, size=len(labels)), labels)


def toy_a(seed: int = 0, rows: int = 1500, test_rows: int = 4000) -> Toy:
    """TOY-A, calibrated noise: x ~ N(0, I_10), y ~ softmax(2 tanh(x W1) W2), three classes.

    The two matrices are the same for every seed (default_rng(123)); the seed draws the examples.
    """
    fixed, rng = np.random.default_rng(123), np.random.default_rng(seed)
    first = fixed.normal(size=(10, 16)) * 2 / np.sqrt(10)
    second = fixed.normal(size=(16, 3))

    def draw(count: int) -> tuple:
        x = rng.normal(size=(count, 10))
        noise = rng.gumbel(size=(count, 3))  # argmax of logits plus Gumbel noise is a draw from their softmax
        return x, np.argmax(2 * np.tanh(x @ first) @ second + noise, axis=1)

    return _toy(draw(rows), draw(test_rows), 3)


def toy_b(
    seed: int = 0, rows: int = 400, test_rows: int = 4000, label_noise: float = 0.2, exponent: float = 0.5
) -> Toy:
    """TOY-B, label noise over a decaying spectrum: five classes in 200 dimensions; test labels are clean.

    Coordinate j = 1..200 has noise 2 j^-exponent N(0, 1); the first ten also carry the class center, the same
    for every seed (default_rng(7)). label_noise: share of train labels redrawn from all classes.
    """
    centers, rng = np.random.default_rng(7).normal(size=(5, 10)), np.random.default_rng(seed)
    scale = 2 * np.arange(1, 201) ** -exponent

    def draw(count: int) -> tuple:
        labels = rng.integers(5, size=count)
        x = scale * rng.normal(size=(count, 200))
        x[:, :10] += centers[labels]
        return x, labels

    (x, labels), test = draw(rows), draw(test_rows)
    return _toy((x, _redraw(labels, label_noise, 5, rng)), test, 5)


def digits(seed: int = 0, rows: int = 1200, label_noise: float = 0.0) -> Toy:
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels in [0, 1]: `rows` for train, the rest for test.

    The seed draws the split and the noise; test labels are clean.
    """
    levels, labels = images.digits()
    if not 10 <= rows < len(levels):
        raise ValueError(f"rows must be in 10..{len(levels) - 1}, got {rows}")
    pixels = levels.reshape(len(levels), -1) / 16
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pixels))
    train, test = order[:rows], order[rows:]
    noisy = _redraw(labels[train], label_noise, 10, rng)
    return _toy((pixels[train], noisy), (pixels[test], labels[test]), 10)
