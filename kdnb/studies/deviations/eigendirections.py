"""The network version of the eigendirection claim: how a first layer moves, along inputs' top and bottom directions.

Digits, with or without label noise; a network with one hidden layer (MLP) or with one convolution (CNN). Layers,
directions and the rule are our reconstruction: the source's own verification could not be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kdnb.studies.deviations import spectral, toys
from kdnb.studies.deviations.trainers import (
    Descent,
    Teaching,
    fit_networks,
    init_networks,
    network_logits,
    patches,
    stacked,
)

NETWORKS = {"MLP": ((64, 64), (64, 10)), "CNN": ((25, 16), (16 * 16, 10))}  # (in, out) of each layer
BATCH, LR = 32, 0.2  # of SGD
TOP = 10  # eigenvectors that count as top
ENOUGH = 0.8  # of common top progress: from here on the claim holds for a run
STUDENT, CONTROL = 1000, 2000  # added to the seed: a start or an order of its own


@dataclass(frozen=True)
class Curve:
    """One training: movement and accuracy at each recorded step."""

    role: str  # "teacher", "student" or "control"
    seed: int
    step: np.ndarray  # (S,)
    top: np.ndarray  # (S,) mean movement along the top eigenvectors
    bottom: np.ndarray  # (S,) along the lowest tenth
    accuracy: np.ndarray  # (S,) on test
    train_accuracy: float  # at the end, on the labels trained with


@dataclass(frozen=True)
class Setup:
    """How the three trainings go."""

    rows: int = 600  # train examples
    epochs: int = 60  # of each
    every: int = 10  # steps between records
    shared_start: bool = True  # from the teacher's weights, as the theorem has it; else each but the teacher its own


def network_curves(
    network: str,
    label_noise: float,
    seeds: Sequence[int],
    setup: Setup = Setup(),
) -> list[Curve]:
    """Teacher, student and control for each seed, by SGD on batches of 32; the student sees soft targets only, tau 1.

    The control is to the student what an independently seeded ERM model is in the scatter: it differs from the
    teacher by all that the student differs by, but for the targets.

    Args:
        network: "MLP" or "CNN".
        label_noise: share of train labels redrawn.
        seeds: of split, start and order.
        setup: rows, epochs, records and starts; from a shared one the three differ in the order of batches.
    Raises:
        ValueError: another network.
    """
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}")
    x, y, test_x, test_y = stacked([toys.digits(seed, setup.rows, label_noise) for seed in seeds])
    if network == "CNN":
        x, test_x = patches(x), patches(test_x)
    directions = [spectral.input_eigenvectors(part.flatten(0, -2).double().numpy())[1] for part in x]
    curves: list[Curve] = []
    teacher = None
    for role, shift in (("teacher", 0), ("student", STUDENT), ("control", CONTROL)):
        own = [seed + shift for seed in seeds]
        start = init_networks(NETWORKS[network], seeds if setup.shared_start else own)
        record = _Record(start[0], test_x, test_y, setup.every)
        teaching = Teaching(teacher if role == "student" else None)
        end = fit_networks(start, (x, y), Descent(setup.epochs, LR, BATCH, "sgd", own), teaching, record)
        logits = network_logits(end, x)
        if role == "teacher":
            teacher = logits
        curves += record.curves(role, seeds, directions, _accuracy(logits, y))
    return curves


class _Record:
    """What is kept of a training: first-layer movement and test accuracy, every so many steps."""

    def __init__(self, start: Tensor, test_inputs: Tensor, test_labels: Tensor, every: int):
        self.start, self.test, self.every = start, (test_inputs, test_labels), every
        self.steps: list[int] = []
        self.changes: list[np.ndarray] = []
        self.accuracies: list[np.ndarray] = []

    def __call__(self, step: int, parameters: list[Tensor]) -> None:
        if step % self.every == 0:
            self.steps.append(step)
            self.changes.append((parameters[0] - self.start).double().numpy())
            self.accuracies.append(_accuracy(network_logits(parameters, self.test[0]), self.test[1]))

    def curves(self, role: str, seeds: Sequence[int], directions: list[np.ndarray], fitted: np.ndarray) -> list[Curve]:
        """One Curve per seed."""
        changes, accuracies, steps = np.stack(self.changes), np.stack(self.accuracies), np.array(self.steps)
        moved = [spectral.movement(changes[:, r], directions[r], TOP) for r in range(len(seeds))]
        return [Curve(role, seed, steps, *moved[r], accuracies[:, r], float(fitted[r])) for r, seed in enumerate(seeds)]


def _accuracy(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Share of right answers of each stacked network; (R, N, K) and (R, N) -> (R,)."""
    return (logits.argmax(dim=-1) == labels).double().mean(dim=-1).numpy()


def shares_below(curves: list[Curve], role: str) -> dict[int, float]:
    """By seed: share of common top progress at which the curve of a role lies below its teacher's."""
    teachers = {curve.seed: (curve.top, curve.bottom) for curve in curves if curve.role == "teacher"}
    return {
        curve.seed: spectral.share_below(teachers[curve.seed], (curve.top, curve.bottom))
        for curve in curves
        if curve.role == role
    }
