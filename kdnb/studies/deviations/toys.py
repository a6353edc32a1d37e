"""Small problems with known answers: TOY-B, which has label noise and a decaying spectrum, and the digits; torch only.

Everything drawn from these is a simulation and says so where it is shown.
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


def toy_of(train: tuple, test: tuple, num_classes: int) -> Toy:
    """A toy of numpy arrays: (inputs (N, D), labels (N,)) for train and for test."""
    x, y, test_x, test_y = (torch.from_numpy(np.ascontiguousarray(part)) for part in (*train, *test))
    return Toy(x, y, test_x, test_y, num_classes)


def _redraw(labels: np.ndarray, share: float, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """The labels with a share of them, on average, drawn anew from all classes.

    Each label on its own, as the theory of the toys has it: P(true) = 1 - share + share / K for every example. The
    tasks of kdnb.data.splits ("digits@0.2") redraw the share exactly instead, since their name says it.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"label_noise must be in [0, 1], got {share}")
    return np.where(rng.random(len(labels)) < share, rng.integers(num_classes, size=len(labels)), labels)


def toy_b(seed: int = 0, rows: int = 400, test_rows: int = 4000, label_noise: float = 0.2) -> Toy:
    """TOY-B, label noise over a decaying spectrum: five classes in 200 dimensions; test labels are clean.

    Coordinate j = 1..200 has noise 2 j^-1/2 N(0, 1); the first ten also carry the class center, the same for every
    seed (default_rng(7)).

    Args:
        seed: draws the examples and the noise.
        rows: train examples.
        test_rows: test examples.
        label_noise: share of train labels redrawn from all classes, 0..1.
    """
    centers, rng = np.random.default_rng(7).normal(size=(5, 10)), np.random.default_rng(seed)
    scale = 2 * np.arange(1, 201) ** -0.5

    def draw(count: int) -> tuple:
        labels = rng.integers(5, size=count)
        x = scale * rng.normal(size=(count, 200))
        x[:, :10] += centers[labels]
        return x, labels

    (x, labels), test = draw(rows), draw(test_rows)
    return toy_of((x, _redraw(labels, label_noise, 5, rng)), test, 5)


def digits(seed: int = 0, rows: int = 1200, label_noise: float = 0.0) -> Toy:
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels in [0, 1]; test labels are clean.

    Args:
        seed: draws the split and the noise.
        rows: of train; the rest is for test.
        label_noise: share of train labels redrawn from all classes, 0..1.
    Raises:
        ValueError: rows or label_noise is out of range.
    """
    levels, labels = images.digits()
    if not 10 <= rows < len(levels):
        raise ValueError(f"rows must be in 10..{len(levels) - 1}, got {rows}")
    pixels = levels.reshape(len(levels), -1) / 16
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pixels))
    train, test = order[:rows], order[rows:]
    noisy = _redraw(labels[train], label_noise, 10, rng)
    return toy_of((pixels[train], noisy), (pixels[test], labels[test]), 10)
