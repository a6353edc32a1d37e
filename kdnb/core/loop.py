"""One fine-tuning loop for all methods. It trains the model it is given and stores nothing."""

import functools
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.core.batches import Inputs, plan_batches
from kdnb.core.config import RunConfig
from kdnb.core.device import autocast, device, on_device, precision
from kdnb.core.entropy import posterior_entropy
from kdnb.core.methods import batch_loss
from kdnb.core.optimizer import Optimizer
from kdnb.core.predict import predict
from kdnb.errors import Diverged

Sample = dict[str, float]  # of the entropy curves: step, epoch, loss, running_entropy, train_entropy, test_entropy
OnStep = Callable[[int, int, Tensor], object]  # (step, total, mean loss)
Targets = tuple[Tensor, Callable[[], Tensor], nn.Module | None]  # labels, the teacher's logits, what trains beside
OnEnd = Callable[[RunConfig, list[Sample], float], object]  # (config, its samples, seconds of training so far)


def fit(  # noqa: PLR0913 - what is trained, what on, and who hears of it
    config: RunConfig,
    model: nn.Module,
    inputs: dict[str, Inputs],
    labels: np.ndarray,
    soft_targets: np.ndarray | Callable[[], np.ndarray] | None = None,
    *,
    shorter: Sequence[RunConfig] = (),
    plan: list[list[np.ndarray]] | None = None,
    beside: nn.Module | None = None,
    on_step: OnStep | None = None,
    on_end: OnEnd | None = None,
) -> list[Sample]:
    """Fine-tune a model on a config's method; returns the samples of the entropy curves.

    The config's optimizer on the mean loss of each batch. The teacher is never run: its logits are given.

    Args:
        config: what to train; its `training()` decides all but where it ends.
        model: a classifier on the training device, trained in place.
        inputs: split -> what the model reads; "train" is trained on, "train" and "test" are sampled.
        labels: (N,) int64 of the train split.
        soft_targets: (N, K) float32 logits of the teacher on the train split, or a function that gives them, called
            once and not before a loss needs them.
        shorter: configs of the same training that end after fewer epochs.
        plan: an epoch's batches of row numbers for each epoch; None draws them from the config's order_seed.
        beside: trains with the model and adds a loss, a scalar from row numbers (B,): see `Method.beside`.
        on_step: called after each optimiser step.
        on_end: called where each config's training ends, the model then being what it trained.
    """
    generator = np.random.default_rng(config.order_seed)
    plan = plan or [plan_batches(inputs["train"].lengths, config.batch_size, generator) for _ in range(config.epochs)]
    batches = [rows for epoch in plan for rows in epoch]
    ends = {one.epochs * len(plan[0]): one for one in shorter} | {len(batches): config}
    curves = {end: History(one, inputs, end, len(plan[0])) for end, one in sorted(ends.items())}
    targets = _targets(labels, soft_targets, beside)
    take_step = _stepper(config, model, inputs["train"], targets, len(batches))
    spent, started, last = 0.0, time.perf_counter(), curves[len(batches)]
    for history in curves.values():
        history.sample(model, 0)
    for step, rows in enumerate(batches, 1):
        logits, loss = take_step(step - 1, rows)
        for history in curves.values():
            history.batch(logits, loss)
            history.sample(model, step)
        if on_step:
            on_step(step, len(batches), loss)
        if step in ends:
            spent += time.perf_counter() - started
            finished = curves.pop(step)
            if on_end:
                on_end(ends[step], finished.rows, spent)
            started = time.perf_counter()
    return last.rows


def diverged(config: RunConfig, how: str) -> Diverged:
    """The error that ends a training whose numbers are none, with what may be to blame."""
    blame = f"learning rate {config.lr:g}, alpha {config.alpha:g}, tau {config.tau:g}"
    return Diverged(f"{config.prefix()} diverged: {how}, with {blame}; nothing is stored")


def learning_rate(config: RunConfig, step: int, total: int) -> float:
    """Learning rate of step 0..total-1: warm-up, then linear decay to 0 or constant."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.lr * step / warmup
    return config.lr if config.schedule == "constant" else config.lr * (total - step) / max(1, total - warmup)


class History:
    """Entropy over training (Figures 1 and 2 of arXiv 2301.12609), sampled rarely and on few rows.

    Fixed random rows of train and test in eval mode, and the running batches in train mode (dropout on), averaged
    since the last sample.
    """

    def __init__(self, config: RunConfig, inputs: dict[str, Inputs], steps: int, per_epoch: int):
        """Samples at equal distances over a training.

        Args:
            config: its history_points, history_rows and precision.
            inputs: split -> what the model reads, "train" and "test" among them.
            steps: optimiser steps of the whole training.
            per_epoch: steps of an epoch.
        """
        rng = np.random.default_rng(0)
        self.subsets = {}
        for split in ("train", "test"):
            rows = rng.permutation(len(inputs[split]))[: config.history_rows]
            self.subsets[split] = inputs[split].take(np.sort(rows))
        marks = np.linspace(0, steps, config.history_points + 1).round() if config.history_points else []
        self.marks = {int(mark) for mark in marks}
        self.config, self.kind, self.per_epoch = config, precision(config.precision), per_epoch
        self.rows: list[Sample] = []
        self.running: list[Tensor] = []

    def batch(self, logits: Tensor, loss: Tensor) -> None:
        """Note a batch's logits (B, K) and mean loss, if anything is sampled at all."""
        if self.marks:
            self.running.append(torch.stack([posterior_entropy(logits).mean(), loss]))

    def sample(self, model: nn.Module, step: int) -> None:
        """Sample after an optimiser step, if it is one of those that are sampled; raises Diverged."""
        if step not in self.marks:
            return
        running = torch.stack(self.running).mean(dim=0).tolist() if self.running else [float("nan")] * 2
        row = {"step": step, "epoch": step / self.per_epoch, "loss": running[1], "running_entropy": running[0]}
        for split, subset in self.subsets.items():
            row[f"{split}_entropy"] = float(posterior_entropy(predict(model, subset, self.kind)).mean())
        if step and not np.isfinite([*row.values()]).all():
            raise diverged(self.config, f"its loss is {row['loss']} by step {step}")
        self.rows.append(row)
        self.running = []


def _targets(labels: np.ndarray, soft_targets, beside: nn.Module | None) -> Targets:
    """Labels (N,) on the training device, what gives the teacher's logits (N, K) there, made once when asked, and
    what else adds to the loss."""

    @functools.cache
    def taught() -> Tensor:
        logits = soft_targets() if callable(soft_targets) else soft_targets
        return torch.from_numpy(logits).to(device())

    return torch.from_numpy(labels).to(device()), taught, beside


def _stepper(
    config: RunConfig, model: nn.Module, inputs: Inputs, targets: Targets, total: int
) -> Callable[[int, np.ndarray], tuple[Tensor, Tensor]]:
    """step(number, rows): one optimiser step on some rows; gives detached logits (B, K) and the mean loss."""
    kind, (labels, taught, beside) = precision(config.precision), targets
    restrict = getattr(model, "restrict_to", None)
    if restrict and not config.weight_decay:  # with it, words that never occur decay too
        restrict(inputs)
    optimizer = Optimizer(model, config, kind, beside)
    model.train()

    def step(number: int, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        batch = on_device({**inputs.batch(rows), "rows": torch.from_numpy(rows)})
        index = batch.pop("rows")
        with autocast(kind):
            logits = model(**batch)
        loss = batch_loss(config, logits, labels[index], lambda: taught()[index], number, total)
        if beside is not None:
            loss = loss + beside(index)
        loss.backward()
        optimizer.step(learning_rate(config, number, total))
        return logits.detach(), loss.detach()

    return step
