"""Constrained students: a deviation from the teacher made on purpose, or kept away; torch only.

Is a student's deviation from its teacher the cause of its gain? arXiv 2301.12923 raises the question; this way of
asking it is our reconstruction. X = phi(p_y) is a teacher's log odds of its own class y, phi(u) = ln(u / (1 - u)).
Since phi(p_y) = z_y - logsumexp of the other logits, taking delta off z_y takes exactly delta off X and leaves the
other classes' ratios alone: the target phi^-1(phi(p_y) - delta) with the rest rescaled, never leaving the logits.
What is made here are teacher logits (..., N, K) for `kdnb.studies.deviations.trainers`, to be learnt at alpha 1 and
tau 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor

from kdnb.analysis.statistics import t_interval
from kdnb.core.metrics import accuracy, agreement, kl_to_teacher
from kdnb.studies.deviations import toys
from kdnb.studies.deviations.eigendirections import NETWORKS, STUDENT
from kdnb.studies.deviations.scatter import deviation, teacher_class_pair
from kdnb.studies.deviations.toys import Toy
from kdnb.studies.deviations.trainers import (
    Descent,
    Teaching,
    fit_linear,
    fit_linears,
    fit_networks,
    init_networks,
    network_logits,
    stacked,
)

LOWEST = 0.25  # share of examples, those of lowest X, on which a student is made to underfit
BISECTIONS = 60  # halvings of [0, 1000] nats: below the precision of float64


def log_odds(logits: Tensor, chosen: Tensor | None = None) -> Tensor:
    """phi of a class's posterior [nats]: z_k - logsumexp of the others; (..., N, K) -> (..., N).

    Args:
        logits: (..., N, K >= 2).
        chosen: (..., N) the classes; None for each row's largest logit.
    Raises:
        ValueError: fewer than two classes.
    """
    if logits.shape[-1] < 2:
        raise ValueError(f"logits must be (..., N, K >= 2), got {tuple(logits.shape)}")
    chosen = (logits.argmax(dim=-1) if chosen is None else chosen)[..., None]
    others = logits.scatter(-1, chosen, -torch.inf)
    return logits.gather(-1, chosen)[..., 0] - others.logsumexp(dim=-1)


def lowest(teacher_logits: Tensor) -> Tensor:
    """The quarter of the examples of lowest X, where the teacher is least sure; (..., N, K) -> (..., N) bool."""
    x = log_odds(teacher_logits)
    return _first(x, torch.full(x.shape[:-1], round(LOWEST * x.shape[-1])))


def at_random(where: Tensor, seeds: Sequence[int], outside: bool = False) -> Tensor:
    """The placebo's examples: as many as in `where`, drawn at random; (R, N) bool -> (R, N) bool.

    Args:
        where: the examples of the R students whose placebo it is.
        seeds: one per student.
        outside: draw among the others only; else among all, so that some are the same.
    Raises:
        ValueError: not one seed per student, or too few others.
    """
    if where.ndim != 2 or len(seeds) != len(where):
        raise ValueError(
            f"where must be (R, N) with a seed for each R, got {tuple(where.shape)} and {len(seeds)} seeds"
        )
    count = where.sum(dim=-1)
    if outside and (2 * count > where.shape[-1]).any():
        raise ValueError(f"{int(count.max())} of {where.shape[-1]} examples leave too few others to draw as many")
    drawn = [torch.rand(where.shape[-1], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return _first(torch.stack(drawn) + (where if outside else 0), count)


def _first(values: Tensor, count: Tensor) -> Tensor:
    """True for the `count` smallest of each row, the earlier one of equals."""
    rank = values.argsort(dim=-1, stable=True).argsort(dim=-1)
    return rank < count[..., None]


def lowered(teacher_logits: Tensor, where: Tensor, delta: float | Tensor) -> Tensor:
    """Teacher logits whose X is exactly delta lower on the examples in `where`, the others as they were.

    Args:
        teacher_logits: (..., N, K).
        where: (..., N) bool.
        delta: >= 0 [nats], a number or one per student (R,); 0 changes no bit. Beyond z_y's lead over the second
            largest logit, the largest is another class.
    Raises:
        ValueError: delta is negative, or the shapes differ.
    """
    delta = torch.as_tensor(delta, dtype=teacher_logits.dtype)
    if not (delta >= 0).all():
        raise ValueError(f"delta must be >= 0 nats, got {delta.min():g}")
    if where.shape != teacher_logits.shape[:-1]:
        raise ValueError(f"where {tuple(where.shape)} must be teacher_logits' {tuple(teacher_logits.shape)} without K")
    chosen = teacher_logits.argmax(dim=-1, keepdim=True)
    off = (where * delta[..., None])[..., None].to(teacher_logits.dtype)
    return teacher_logits.scatter_add(-1, chosen, -off)


def sloped(teacher_logits: Tensor, m: float) -> Tensor:
    """m times the teacher logits, m > 0: for two classes a line of slope m in the scatter; 1 changes no bit."""
    if not m > 0:
        raise ValueError(f"m must be > 0, got {m}")
    return teacher_logits * m


def dose(teacher_logits: Tensor, where: Tensor, delta: float | Tensor) -> Tensor:
    """How far `lowered` moves the targets: mean over all N examples of KL(teacher || target) [nats]; (R, N, K) -> (R,).

    In closed form p_y delta + ln(1 - p_y + p_y e^-delta) on an example of `where`: for the same delta next to
    nothing where the teacher is sure.
    """
    p = log_odds(teacher_logits).double().sigmoid()
    delta = torch.as_tensor(delta, dtype=p.dtype)[..., None]
    moved = p * delta + torch.log1p(p * torch.expm1(-delta))
    return (where * moved).mean(dim=-1)


def same_dose(teacher_logits: Tensor, where: Tensor, wanted: Tensor) -> Tensor:
    """The delta (R,) at which `dose` on the examples in `where` is what is wanted, by bisection.

    Args:
        teacher_logits: (R, N, K).
        where: (R, N).
        wanted: (R,) > 0 [nats].
    Raises:
        ValueError: no delta up to 1,000 nats does it.
    """
    low, high = torch.zeros_like(wanted), torch.full_like(wanted, 1000.0)
    if (dose(teacher_logits, where, high) < wanted).any():
        raise ValueError(
            f"no delta up to 1000 moves the targets by {wanted.max():g} nats on {int(where.sum())} examples"
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = dose(teacher_logits, where, middle) >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def toward(start: list[Tensor], teacher: list[Tensor], share: float) -> list[Tensor]:
    """A student's start moved toward its teacher's weights: (1 - share) start + share teacher, part by part.

    Args:
        start: parameters of one architecture (`trainers.init_networks`).
        teacher: of the same architecture.
        share: lambda, 0..1; 0 is the start and 1 the teacher, bit by bit.
    Raises:
        ValueError: share lies outside, or the architectures differ.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    if [part.shape for part in start] != [part.shape for part in teacher]:
        raise ValueError("start and teacher must be of one architecture: their shapes differ")
    return [(1 - share) * own + share * other for own, other in zip(start, teacher, strict=True)]


def with_unlabelled(toy: Toy, extra: Tensor) -> Toy:
    """The toy with M train inputs more, (M, D), which only a teacher answers.

    Class 0 fills the place of their labels: at alpha 1 no gradient comes from a label.
    """
    filler = toy.labels.new_zeros(len(extra))
    return replace(toy, inputs=torch.cat([toy.inputs, extra]), labels=torch.cat([toy.labels, filler]))


def hold_out(toy: Toy, count: int) -> tuple[Toy, Tensor]:
    """The toy without its first `count` test examples, and their inputs (count, D): the extra ones, unlabelled.

    Raises ValueError if that leaves nothing to test on.
    """
    if not 0 <= count < len(toy.test_labels):
        raise ValueError(f"count must be in 0..{len(toy.test_labels) - 1}, got {count}")
    rest = {name: getattr(toy, name)[count:] for name in ("test_inputs", "test_labels")}
    return replace(toy, **rest), toy.test_inputs[:count]


DELTAS = (0.5, 1.0, 2.0)  # how far the teacher's log odds are lowered [nats]
SLOPES = (0.5, 1.5, 2.0)  # m, besides 1, which is KD
SHARES = (0.0, 0.25, 0.5)  # lambda: how far the start is moved toward the teacher; the last for all forced arms
LONGER = 3  # times as many epochs in the conditions of match
PLACEBO = 5000  # added to the seed: the placebo's examples
MORE = "match, more inputs"
RIVALS = ("match", "placebo", "placebo, same dose")  # what the forced student is compared with

Parameters = list[Tensor]  # of R models, stacked: one tensor for each part of the architecture


class Fit(Protocol):
    """Trains R models of each of A arms, side by side."""

    def __call__(
        self,
        drawn: list[Toy],
        starts: list[Parameters],
        *,
        shift: int = 0,
        longer: int = 1,
        targets: list[Tensor] | None = None,
    ) -> list[Parameters]:
        """The parameters at the end, an entry per arm.

        Args:
            drawn: R toys.
            starts: where each arm starts.
            shift: added to the seeds of the order.
            longer: times as many steps or epochs.
            targets: logits (R, N, K) of each arm; None trains a single arm on the labels.
        """


@dataclass(frozen=True)
class Bench:
    """A data set drawn once per seed, and how its models start and train, side by side."""

    seeds: tuple[int, ...]
    toys: list[Toy]
    clean: Tensor  # (R, N) the train labels before some were redrawn
    extra: list[Tensor]  # (M, D) each: inputs that only the teacher answers
    start: Callable[[int], Parameters]  # shift of the seeds -> parameters to start from
    fit: Fit

    def teacher(self) -> Parameters:
        """The models trained on the labels, which teach."""
        (taught,) = self.fit(self.toys, [self.start(0)])
        return taught

    def logits(self, parameters: Parameters, split: str, drawn: list[Toy] | None = None) -> Tensor:
        """(R, N, K) on the "train" or "test" inputs of the toys, or of others of the same kind."""
        name = {"train": "inputs", "test": "test_inputs"}[split]
        inputs = torch.stack([getattr(toy, name) for toy in drawn or self.toys])
        return inputs @ parameters[0] if len(parameters) == 1 else network_logits(parameters, inputs.float())


def toy_b_bench(seeds: Sequence[int], rows: int = 400, steps: int = 300, label_noise: float = 0.2) -> Bench:
    """TOY-B: linear models from 0 by full-batch descent, stopped after `steps`; nothing but the targets can differ."""
    drawn_toys = [toys.toy_b(seed, rows, 2000, label_noise) for seed in seeds]
    clean = torch.stack([toys.toy_b(seed, rows, 1, 0.0).labels for seed in seeds])
    extra = [toys.toy_b(seed + STUDENT, rows, 1).inputs for seed in seeds]

    def fit(drawn, starts, *, shift=0, longer=1, targets=None):
        if targets is None:
            return [[torch.stack([fit_linear(toy, longer * steps) for toy in drawn])]]
        teachers = torch.stack(targets, dim=1)  # (R, A, N, K)
        weights = torch.stack([start[0] for start in starts], dim=1)  # (R, A, D, K)
        ends = [fit_linears(toy, longer * steps, teachers[run], weights[run]) for run, toy in enumerate(drawn)]
        return [[arm] for arm in torch.stack(ends, dim=1)]

    def start(shift: int) -> Parameters:
        return [torch.zeros(len(seeds), 200, 5, dtype=torch.float64)]

    return Bench(seeds=tuple(seeds), toys=drawn_toys, clean=clean, extra=extra, start=start, fit=fit)


def digits_bench(seeds: Sequence[int], rows: int = 400, epochs: int = 60, label_noise: float = 0.4) -> Bench:
    """Digits: networks with one hidden layer, a start and an order of their own; Adam at 3e-3 on batches of 32."""
    split = [hold_out(toys.digits(seed, rows, label_noise), rows) for seed in seeds]
    clean = torch.stack([toys.digits(seed, rows).labels for seed in seeds])

    def fit(drawn, starts, *, shift=0, longer=1, targets=None):
        arms = len(starts)
        inputs, labels, *_ = stacked(drawn * arms)  # (A R, N, ...): the arms one after another
        parameters = [torch.cat(parts) for parts in zip(*starts, strict=True)]
        ends = fit_networks(
            parameters,
            (inputs, labels),
            Descent(longer * epochs, 3e-3, seeds=[seed + shift for seed in seeds] * arms),
            Teaching(torch.cat(targets) if targets else None),
        )
        parts = [end.chunk(arms) for end in ends]
        return [[part[arm] for part in parts] for arm in range(arms)]

    def start(shift: int) -> Parameters:
        return init_networks(NETWORKS["MLP"], [seed + shift for seed in seeds])

    return Bench(
        seeds=tuple(seeds),
        toys=[toy for toy, _ in split],
        clean=clean,
        extra=[held_out for _, held_out in split],
        start=start,
        fit=fit,
    )


def forced(teacher_logits: Tensor, seeds: Sequence[int], delta: float) -> dict[str, Tensor]:
    """Targets as logits: underfit on the lowest quarter of X, and its two placebos on random examples.

    The first placebo has the same delta. Where the teacher is sure that moves its posterior less, so the second has
    the same mean KL between teacher and target.
    """
    low = lowest(teacher_logits)
    drawn = at_random(low, [seed + PLACEBO for seed in seeds])
    even = same_dose(teacher_logits, drawn, dose(teacher_logits, low, delta)) if delta else 0.0
    return {
        "underfit": lowered(teacher_logits, low, delta),
        "placebo": lowered(teacher_logits, drawn, delta),
        "placebo, same dose": lowered(teacher_logits, drawn, even),
    }


@dataclass(frozen=True)
class Training:
    """One kind of student: what it is told, and from where it starts."""

    name: str
    strength: float  # delta, m or lambda
    targets: Tensor | None  # logits (R, N, K); None for the labels
    share: float = 0.0  # lambda: how far its start is moved toward the teacher


@dataclass(frozen=True)
class Strengths:
    """Of the arms that `constrained_students` trains."""

    deltas: Sequence[float] = DELTAS  # of the forced arms, in the conditions of KD
    slopes: Sequence[float] = SLOPES  # the same; the last is also their m in the conditions of match
    shares: Sequence[float] = SHARES  # lambda of match
    longer: int = LONGER  # times as many epochs in the conditions of match
    main: float = 1.0  # the delta of the arms forced in them


def constrained_students(bench: Bench, strengths: Strengths = Strengths()) -> pd.DataFrame:
    """Train every arm for every seed, at alpha 1 and tau 1.

    Args:
        bench: data and models.
        strengths: which arms.
    Returns:
        A row per arm, conditions, strength (delta, m or lambda) and seed: accuracy, and on train and test
        kl [nats] and agreement with the teacher, gap and below (mean of Y - X [nats] and share with Y < X in the
        lowest quarter of X) and slope.
    """
    slopes, shares = strengths.slopes, strengths.shares
    taught, own = bench.teacher(), bench.start(STUDENT)
    teacher, last = bench.logits(taught, "train"), shares[-1]
    rows = [("teacher", "-", 0.0, *row) for row in measured(bench, taught, taught)]

    def train(conditions: str, arms: list[Training], drawn: list[Toy]) -> None:
        """Add the rows of some arms, trained side by side."""
        ends = bench.fit(
            drawn,
            [toward(own, taught, arm.share) for arm in arms],
            shift=STUDENT,
            longer=strengths.longer if conditions == "match" else 1,
            targets=[arm.targets for arm in arms if arm.targets is not None] or None,
        )
        for arm, end in zip(arms, ends, strict=True):
            rows.extend((arm.name, conditions, arm.strength, *row) for row in measured(bench, taught, end))

    def force(delta: float, share: float) -> list[Training]:
        return [Training(name, delta, targets, share) for name, targets in forced(teacher, bench.seeds, delta).items()]

    train("KD", [Training("ERM", 0.0, None)], bench.toys)
    as_kd = [Training("KD", 0.0, teacher), *(Training("slope", m, sloped(teacher, m)) for m in slopes)]
    train("KD", as_kd + [arm for delta in strengths.deltas for arm in force(delta, 0.0)], bench.toys)
    as_match = [Training("match", share, teacher, share) for share in shares] + force(strengths.main, last)
    train("match", [*as_match, Training("slope", slopes[-1], sloped(teacher, slopes[-1]), last)], bench.toys)
    more = [with_unlabelled(toy, extra) for toy, extra in zip(bench.toys, bench.extra, strict=True)]
    train("match", [Training(MORE, last, bench.logits(taught, "train", more), last)], more)
    return pd.DataFrame(rows, columns=["arm", "conditions", "strength", "seed", *COLUMNS])


MEASURES = ("kl", "agreement", "gap", "below", "slope")
COLUMNS = ["accuracy", *(f"{name}_{split}" for split in ("train", "test") for name in MEASURES)]


def measured(bench: Bench, taught: Parameters, end: Parameters) -> list[tuple]:
    """Seed and COLUMNS of each of R students of as many teachers."""
    logits = {split: bench.logits(end, split).numpy() for split in ("train", "test")}
    teacher = {split: bench.logits(taught, split).numpy() for split in ("train", "test")}
    rows = []
    for run, (seed, toy) in enumerate(zip(bench.seeds, bench.toys, strict=True)):
        row = [seed, accuracy(logits["test"][run], toy.test_labels.numpy())]
        for split in ("train", "test"):
            z_teacher, z = teacher[split][run], logits[split][run]
            line = deviation(*teacher_class_pair(z_teacher, z))
            row += [kl_to_teacher(z, z_teacher), agreement(z, z_teacher), line.low.gap, line.low.below, line.slope]
        rows.append(tuple(row))
    return rows


def pick(table: pd.DataFrame, arm: str, conditions: str, strength: float, column: str = "accuracy") -> pd.Series:
    """A column of one arm, by seed; ValueError if the table has no such arm."""
    rows = table[(table.arm == arm) & (table.conditions == conditions) & (table.strength == strength)]
    if rows.empty:
        raise ValueError(f"no arm {arm!r} in the conditions of {conditions!r} with strength {strength:g}")
    return rows.set_index("seed")[column]


def comparisons(table: pd.DataFrame, delta: float = 1.0) -> pd.DataFrame:
    """Forced underfit less each of RIVALS, in both conditions: paired by seed, with 95 % t intervals.

    Match is always match at the last of SHARES, trained in its own conditions: in those of KD this is the comparison
    as a reader of the question might make it, and the conditions differ with the targets.

    Args:
        table: from `constrained_students`.
        delta: of the forced arms.
    Returns:
        Columns conditions, rival, mean and half [points], n, beats: whether the interval lies above 0.
    """
    rows = []
    for conditions in ("KD", "match"):
        underfit = pick(table, "underfit", conditions, delta)
        for rival in RIVALS:
            where = ("match", SHARES[-1]) if rival == "match" else (conditions, delta)
            points = 100 * (underfit - pick(table, rival, *where))
            mean, half = t_interval(points)
            rows.append((conditions, rival, mean, half, len(points), mean - half > 0))
    return pd.DataFrame(rows, columns=["conditions", "rival", "mean", "half", "n", "beats"])


def is_cause(compared: pd.DataFrame) -> bool:
    """The rule: a deviation may be called a cause only if forcing it beats match and placebo, in both conditions.

    The placebo of the same dose is reported, and is no part of the rule.
    """
    return bool(compared[compared.rival.isin(("match", "placebo"))].beats.all())
