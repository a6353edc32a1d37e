"""Trainers small enough to read: a linear softmax model, and ReLU networks of which several train side by side.

For toys and simulations (`kdnb.studies.deviations.toys`), in seconds on a CPU. The study's models have their own
loop, `kdnb.core.loop`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdnb.core.losses import check_alpha_tau, erm_loss, kd_loss
from kdnb.core.theory import kd_gradient
from kdnb.studies.deviations.similar_classes import without_gradient
from kdnb.studies.deviations.toys import Toy

Alpha: TypeAlias = float | Callable[[int], float]  # weight of the soft target, or one per step
Teacher: TypeAlias = Tensor | Callable[[], Tensor] | None  # logits, or what computes them at the first alpha above 0
Mask: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # (logits (..., N, K), labels (..., N)) -> (..., N, K) bool
LR = 0.5  # of full-batch descent
PATCH = 5  # side of a patch [pixels]


@dataclass(frozen=True)
class Teaching:
    """What a student is told besides its labels, and where it hears nothing."""

    teacher: Teacher = None  # logits (..., N, K) on the train inputs, or what computes them; None: the labels alone
    alpha: Alpha = 1.0  # weight of the soft target, 0..1
    tau: float = 1.0  # temperature of both, with tau^2 on the soft term
    mask: Mask | None = None  # True where no gradient flows into a logit (`similar_classes.without_gradient`)


LABELS = Teaching()  # nothing but the labels


@dataclass(frozen=True)
class Descent:
    """How networks descend: passes over the examples in batches, of which an epoch's last, short one is kept."""

    epochs: int
    lr: float
    batch_size: int = 32
    optimizer: Literal["adam", "sgd"] = "adam"
    seeds: Sequence[int] | None = None  # of the orders, one per network; 0..R-1 for None

    def __post_init__(self):
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer must be 'adam' or 'sgd', got {self.optimizer!r}")


class _Along:
    """A teaching along training; asks the teacher when it is first needed, and once."""

    def __init__(self, teaching: Teaching):
        self.teacher, self.alpha = teaching.teacher, teaching.alpha

    def at(self, step: int) -> tuple[float, Tensor | None]:
        """(alpha, teacher logits) at a step; (0, None) where only the labels teach."""
        if self.teacher is None:
            return 0.0, None
        alpha = self.alpha(step) if callable(self.alpha) else self.alpha
        check_alpha_tau(alpha)
        if not alpha:
            return 0.0, None
        if not isinstance(self.teacher, Tensor):
            self.teacher = self.teacher()
        return alpha, self.teacher


def fit_linear(
    toy: Toy,
    steps: int,
    lr: float = LR,
    teaching: Teaching = LABELS,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Linear softmax model without bias by full-batch gradient descent from 0: its weights (D, K), float64.

    Args:
        toy: its train examples.
        steps: number of steps.
        lr: step size on the mean loss.
        teaching: a teacher of logits (N, K), its weight, tau and mask.
        on_step: hears (steps done, weights) after each step.
    """
    weights = torch.zeros(toy.inputs.shape[1], toy.num_classes, dtype=torch.float64)
    along, mask = _Along(teaching), teaching.mask
    for step in range(steps):
        logits = toy.inputs @ weights
        share, soft = along.at(step)
        pull = kd_gradient(logits, toy.labels, logits if soft is None else soft, share, teaching.tau)
        pull = pull if mask is None else pull.masked_fill(mask(logits, toy.labels), 0)
        weights = weights - lr * toy.inputs.T @ pull / len(logits)
        if on_step:
            on_step(step + 1, weights)
    return weights


def fit_linears(toy: Toy, steps: int, teachers: Tensor, starts: Tensor) -> Tensor:
    """A linear students of one toy side by side, as A times `fit_linear` at alpha 1 and tau 1 would go.

    Args:
        toy: its train inputs.
        steps: number of steps.
        teachers: logits (A, N, K) on the train inputs.
        starts: weights (A, D, K), where each student starts.
    Returns:
        The weights (A, D, K), float64.
    """
    arms, x = len(teachers), toy.inputs
    targets = teachers.transpose(0, 1).softmax(dim=-1)
    weights = starts.transpose(0, 1).flatten(1)  # (D, A K): one product with the inputs for all students
    for _ in range(steps):
        pull = (x @ weights).unflatten(1, (arms, -1)).softmax(dim=-1) - targets
        weights = weights - LR * x.T @ pull.flatten(1) / len(x)
    return weights.unflatten(1, (arms, -1)).transpose(0, 1)


def stacked(toys: Sequence[Toy]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs (R, N, D) float32 and labels (R, N) of R toys of one size, for R networks: train, then test."""
    parts = [[getattr(toy, name) for toy in toys] for name in ("inputs", "labels", "test_inputs", "test_labels")]
    x, y, test_x, test_y = (torch.stack(part) for part in parts)
    return x.float(), y, test_x.float(), test_y


def patches(images: Tensor) -> Tensor:
    """All patches of square images, PATCH wide: (..., side^2) -> (..., (side - PATCH + 1)^2, PATCH^2)."""
    side = round(images.shape[-1] ** 0.5)
    if side**2 != images.shape[-1] or side < PATCH:
        raise ValueError(f"images must be square and at least {PATCH} wide, got {images.shape[-1]} pixels")
    square = images.unflatten(-1, (side, side))
    return square.unfold(-2, PATCH, 1).unfold(-2, PATCH, 1).flatten(-4, -3).flatten(-2)


def init_networks(layers: Sequence[tuple[int, int]], seeds: Sequence[int]) -> list[Tensor]:
    """One network per seed, stacked: for each (in, out) He-normal weights (R, in, out) and zero biases (R, 1, out)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    parameters = []
    for wide, narrow in layers:
        drawn = [torch.randn(wide, narrow, generator=generator) * (2 / wide) ** 0.5 for generator in generators]
        parameters += [torch.stack(drawn), torch.zeros(len(seeds), 1, narrow)]
    return parameters


def network_logits(parameters: list[Tensor], inputs: Tensor) -> Tensor:
    """Logits (R, N, K) of R stacked ReLU networks.

    Args:
        parameters: as from `init_networks`.
        inputs: (R, N, D) float32, or (R, N, P, D) for P patches per image: then the first layer is a convolution, and
            the second sees its P outputs side by side.
    """
    runs, rows = inputs.shape[:2]
    hidden = inputs.reshape(runs, -1, inputs.shape[-1])
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        hidden = torch.baddbmm(bias, hidden, weight).relu().reshape(runs, rows, -1)
    return torch.baddbmm(parameters[-1], hidden, parameters[-2])


def fit_networks(
    parameters: list[Tensor],
    examples: tuple[Tensor, Tensor],
    descent: Descent,
    teaching: Teaching = LABELS,
    on_step: Callable[[int, list[Tensor]], None] | None = None,
) -> list[Tensor]:
    """Train R networks side by side, each on its own examples and in its own order; as R trainings would go.

    Args:
        parameters: where training starts; they are left as they are.
        examples: inputs (R, N, D) or (R, N, P, D) float32, labels (R, N).
        descent: epochs, lr, batch size, optimizer, seeds of the orders.
        teaching: a teacher of logits (R, N, K), its weight, tau and mask.
        on_step: hears (steps done, parameters) after each step; training goes on in them, so copy what is kept.
    Returns:
        The trained parameters.
    """
    inputs, labels = examples
    runs, rows = labels.shape
    parameters = [part.clone().requires_grad_(True) for part in parameters]
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[descent.optimizer](parameters, lr=descent.lr)
    generators = [torch.Generator().manual_seed(seed) for seed in descent.seeds or range(runs)]
    along, mask, which = _Along(teaching), teaching.mask, torch.arange(runs)[:, None]
    step = 0
    for _ in range(descent.epochs):
        order = torch.stack([torch.randperm(rows, generator=generator) for generator in generators])
        for batch in order.split(descent.batch_size, dim=1):
            share, teacher_logits = along.at(step)
            logits, batch_labels = network_logits(parameters, inputs[which, batch]), labels[which, batch]
            if mask is not None:
                logits = without_gradient(logits, mask(logits, batch_labels))
            soft = None if teacher_logits is None else teacher_logits[which, batch].flatten(0, 1)
            loss = _loss(logits.flatten(0, 1), batch_labels.flatten(), soft, share, teaching.tau)
            optimizer.zero_grad()
            (runs * loss).backward()
            optimizer.step()
            step += 1
            if on_step:
                on_step(step, [part.detach() for part in parameters])
    return [part.detach() for part in parameters]


def _loss(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, alpha: float, tau: float) -> Tensor:
    if teacher_logits is None:
        return erm_loss(logits, labels)
    return kd_loss(logits, labels, teacher_logits, alpha, tau)
