"""Switched losses on data small enough to train anew for every seed: TOY-B by a linear model, digits by a network.

Student and teacher have one architecture. Sizes, switch points and ramp are our reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kdnb.core.entropy import posterior_entropy
from kdnb.core.methods import share_after
from kdnb.core.metrics import accuracy
from kdnb.studies.deviations import toys
from kdnb.studies.deviations.eigendirections import NETWORKS, STUDENT
from kdnb.studies.deviations.grids import RAMP, SWITCHES
from kdnb.studies.deviations.scatter import deviation, teacher_class_pair
from kdnb.studies.deviations.switching import COLUMNS, WAYS, ends_of, labels_last
from kdnb.studies.deviations.toys import Toy
from kdnb.studies.deviations.trainers import (
    Alpha,
    Descent,
    Teaching,
    fit_linear,
    fit_networks,
    init_networks,
    network_logits,
    stacked,
)

NOISE = 0.4  # share of the noisy digits' train labels that are redrawn
BATCH, LR = 32, 0.2  # of SGD on digits

Student = Callable[[Alpha], tuple[Tensor, Tensor]]  # alpha(t) -> logits on train and on test, (R, N, K)


@dataclass(frozen=True)
class Trained:
    """What switched students have in common."""

    student: Student
    seeds: Sequence[int]
    toys: list[Toy]  # one per seed
    teacher: Tensor  # logits (R, N, K) on train
    steps: int  # of each student


@dataclass(frozen=True)
class DigitsSetup:
    """How students of digits are trained."""

    rows: int = 600  # of train
    epochs: int = 60  # of each student
    teacher_epochs: int = 0  # where the teacher stops, 0 for `epochs`
    tau: float = 4.0  # of KD


def switched(before: float, after: float, switch: float, ramp: float = 0) -> Callable[[int], float]:
    """alpha(t), the weight of the soft target at step t, that goes from `before` to `after` at `switch`.

    One-hot -> KD is `switched(0, alpha, s)`, KD -> one-hot `switched(alpha, 0, s)`. Both ends are exact, so a
    switch at 0 and one after the last step give the pure methods, bit by bit.
    """

    def alpha(step: int) -> float:
        share = share_after(step, switch, ramp)
        return (1 - share) * before + share * after

    return alpha


def toy_b_switches(
    seeds: Sequence[int], at: Sequence[float] = SWITCHES, rows: int = 400, steps: int = 300, ramp: float = RAMP
) -> pd.DataFrame:
    """TOY-B, a linear student of a linear teacher, both stopped after `steps` of full-batch descent; tau 1.

    Args:
        seeds: of the examples.
        at: switch points, shares of the steps, besides 0 and 1.
        rows: train examples.
        steps: of the teacher and of each student.
        ramp: share of the steps over which the second loss takes over.
    Returns:
        The columns of `switching.table`, run_id empty.
    """
    drawn = [toys.toy_b(seed, rows) for seed in seeds]
    teacher = [toy.inputs @ fit_linear(toy, steps) for toy in drawn]

    def student(alpha: Alpha) -> tuple[Tensor, Tensor]:
        ends = [fit_linear(toy, steps, teaching=Teaching(z, alpha)) for toy, z in zip(drawn, teacher, strict=True)]
        pairs = list(zip(drawn, ends, strict=True))
        train = torch.stack([toy.inputs @ end for toy, end in pairs])
        return train, torch.stack([toy.test_inputs @ end for toy, end in pairs])

    return _table(Trained(student, seeds, drawn, torch.stack(teacher), steps), at, ramp)


def digits_switches(
    label_noise: float,
    seeds: Sequence[int],
    at: Sequence[float] = SWITCHES,
    setup: DigitsSetup = DigitsSetup(),
) -> pd.DataFrame:
    """Digits, an MLP taught by an MLP that saw the labels in another order from another start; SGD on batches of 32.

    Args:
        label_noise: share of train labels redrawn.
        seeds: of split, noise, starts and orders.
        at: as `toy_b_switches`; the ramp is RAMP.
        setup: rows, epochs, tau.
    Returns:
        The columns of `switching.table`, run_id empty.
    """
    drawn = [toys.digits(seed, setup.rows, label_noise) for seed in seeds]
    x, y, test_x, _ = stacked(drawn)
    own = [seed + STUDENT for seed in seeds]
    start = init_networks(NETWORKS["MLP"], own)
    first = Descent(setup.teacher_epochs or setup.epochs, LR, BATCH, "sgd", seeds)
    teacher = network_logits(fit_networks(init_networks(NETWORKS["MLP"], seeds), (x, y), first), x)
    descent = Descent(setup.epochs, LR, BATCH, "sgd", own)

    def student(alpha: Alpha) -> tuple[Tensor, Tensor]:
        end = fit_networks(start, (x, y), descent, Teaching(teacher, alpha, setup.tau))
        return network_logits(end, x), network_logits(end, test_x)

    steps = setup.epochs * -(-setup.rows // BATCH)
    return _table(Trained(student, seeds, drawn, teacher, steps), at, RAMP)


def labels_last_by_teacher(seeds: Sequence[int]) -> np.ndarray:
    """H7.4 by seed: what labels in the last quarter bring over KD alone [share of test], noisy minus clean digits.

    The teacher of clean digits fits its train labels all but completely, that of noisy ones does not.
    """
    noisy, clean = (labels_last(digits_switches(noise, seeds, at=(0.75,))) for noise in (NOISE, 0.0))
    return (noisy - clean).to_numpy()


def _table(trained: Trained, at: Sequence[float], ramp: float) -> pd.DataFrame:
    """The pure methods, and a training per way and switch point."""

    def measured(alpha: Alpha) -> list[tuple]:
        parts = (trained.seeds, trained.toys, trained.teacher, *trained.student(alpha))
        return [_row(*each) for each in zip(*parts, strict=True)]

    rows = []
    for method, alpha in (("erm", 0.0), ("kd", 1.0)):
        rows += [end for row in measured(alpha) for end in ends_of(method, row)]
    for way, (before, after) in WAYS.items():
        for share in at:
            schedule = switched(
                float(before == "kd"), float(after == "kd"), share * trained.steps, ramp * trained.steps
            )
            rows += [(way, share, *row) for row in measured(schedule)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["way", "switch_at", "seed"]).reset_index(drop=True)


def _row(seed: int, toy: Toy, teacher: Tensor, logits: Tensor, test: Tensor) -> tuple:
    """A training's part of the columns, from seed on."""
    right = accuracy(test.numpy(), toy.test_labels.numpy())
    teacher_fit = accuracy(teacher.numpy(), toy.labels.numpy())
    low_gap = deviation(*teacher_class_pair(teacher.numpy(), logits.numpy())).low.gap
    return seed, right, posterior_entropy(test).mean().item(), low_gap, teacher_fit, ""
