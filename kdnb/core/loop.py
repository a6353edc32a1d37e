"""One fine-tuning loop for all methods: ERM, LS, KD and teacher-free KD. Returns a run, writes nothing."""

import functools
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.catalog import model_of
from kdnb.core import device as gpu
from kdnb.core import metrics
from kdnb.core.batches import plan_batches
from kdnb.core.config import RunConfig
from kdnb.core.device import autocast, device, keep_memory, precision, release_memory, surroundings
from kdnb.core.history import History
from kdnb.core.methods import batch_loss, learning_rate
from kdnb.core.optimizer import Optimizer
from kdnb.core.predict import predict
from kdnb.core.store import Run
from kdnb.data.pixels import Pixels
from kdnb.data.splits import SPLITS, TaskData
from kdnb.data.tokens import Tokens
from kdnb.models import classifiers


def fit(config: RunConfig, data: TaskData, teacher: Run | None = None, on_step: Callable | None = None) -> Run:
    """Fine-tune one model and read off its logits on all three splits.

    AdamW with bias correction on the mean loss of each batch; the teacher is never run: its train
    logits come from its stored run.

    Args:
        config: what to train. data: the task's splits; its fingerprint must be the config's.
        teacher: the run named by config.teacher_run, for kd.
        on_step: called as on_step(step, total, loss) after each optimiser step.
    Returns:
        The finished run, not yet stored. Same config, same machine: identical logits.
    Raises:
        ValueError: data or teacher do not belong to the config.
    """
    (run,) = fit_epochs([config], data, teacher, on_step)
    return run


def fit_epochs(
    configs: list[RunConfig],
    data: TaskData,
    teacher: Run | None = None,
    on_step: Callable | None = None,
    on_run: Callable[[Run], None] | None = None,
) -> list[Run]:
    """Runs that differ in their number of epochs alone, from the one training that passes through all of them.

    Each is what `fit` gives for its config, bit for bit; its cost is what was spent until it was read off.

    Args:
        configs: with one `RunConfig.training()`. data, teacher, on_step: as `fit`.
        on_run: called with each run as soon as it is finished, the shortest first.
    Raises: as `fit`; ValueError too if the configs do not lie on one training.
    """
    configs = sorted(configs, key=lambda config: config.epochs)
    check_inputs(configs, data, teacher)
    longest = configs[-1]
    started, kind, found = time.perf_counter(), precision(longest.precision), []
    inputs = encode(model_of(longest.profile, longest.student, longest.task), data, longest.max_length)

    def finish(config: RunConfig, model: nn.Module, history: list[dict], train_seconds: float) -> None:
        logits = {split: predict(model, inputs[split], kind).numpy() for split in SPLITS}
        cost = {"seconds": round(time.perf_counter() - started, 3), "train_seconds": round(train_seconds, 3)}
        cost |= {"compiled": compiled, **surroundings(kind)}
        found.append(_run(config, data, teacher, logits, history, cost))
        if on_run:
            on_run(found[-1])

    keep_memory()
    gpu.set_up(kind)
    with torch.random.fork_rng(), gpu.deterministic():
        torch.manual_seed(longest.seed)
        model = classifiers.build(longest, data).to(device())
        compiled = gpu.compile_layers(model, longest.epochs * -(-len(inputs["train"]) // longest.batch_size))
        _train(model, configs, data, inputs, kind, teacher, on_step, finish)
    del model
    release_memory()
    return found


def _run(config, data: TaskData, teacher: Run | None, logits: dict, history: list[dict], cost: dict) -> Run:
    """The run of a finished training: its logits with their metrics and what they cost."""
    labels = {split: data.splits[split].labels for split in SPLITS}
    values = {s: metrics.summary(logits[s], labels[s], teacher.logits[s] if teacher else None) for s in SPLITS}
    return Run(config, logits, labels, {**values, "cost": cost}, history)


def check_inputs(configs: list[RunConfig], data: TaskData, teacher: Run | None) -> None:
    """Raise ValueError unless the configs lie on one training, and data and teacher belong to it."""
    config = configs[-1]
    if len({config.training() for config in configs}) > 1:
        raise ValueError(f"not on one training: {', '.join(config.run_id() for config in configs)}")
    if data.fingerprint != config.data:
        raise ValueError(f"run {config.run_id()} is for data {config.data}, got {data.fingerprint} ({data.task.name})")
    if "tfkd" in config.methods and not 1 / data.task.num_classes < config.confidence < 1:
        raise ValueError(f"confidence must be in (1/{data.task.num_classes}, 1), got {config.confidence}")
    if "kd" not in config.methods:
        return
    if teacher is None or teacher.run_id != config.teacher_run:
        raise ValueError(f"teacher run {config.teacher_run} is needed, got {teacher.run_id if teacher else 'none'}")
    if teacher.config.data != config.data:
        raise ValueError(
            f"teacher {teacher.run_id} was trained on {teacher.config.task} (data {teacher.config.data}), the student "
            f"on {config.task} (data {config.data}): task, rows and label order must be the same"
        )


@functools.lru_cache(maxsize=8)
def encode(encoder: str, data: TaskData, max_length: int) -> dict[str, Tokens] | dict[str, Pixels]:
    """Token ids of all splits for an encoder, or their images; kept, so that a process tokenises once."""
    return classifiers.encode(encoder, data, max_length)


def _train(model, configs, data, inputs, kind, teacher, on_step=None, finish=None, epochs=None) -> None:
    """Train through all configs; finish(config, model, history, seconds) is called where each of them ends.

    `epochs`, lists of batches of row numbers, replaces those drawn for the config: for tests and benchmarks.
    """
    config, rng, spent, started = configs[-1], np.random.default_rng(configs[-1].order_seed), 0.0, time.perf_counter()
    epochs = epochs or [plan_batches(inputs["train"].lengths, config.batch_size, rng) for _ in range(config.epochs)]
    batches = [rows for epoch in epochs for rows in epoch]
    ends = {len(batches) if c is config else c.epochs * len(epochs[0]): c for c in configs}
    histories = [History(c, inputs, kind, end, len(epochs[0])) for end, c in ends.items()]
    take_step = _stepper(model, config, data, inputs["train"], kind, teacher, len(batches))
    for history in histories:
        history.sample(model, 0)
    for step, rows in enumerate(batches, 1):
        logits, loss = take_step(step - 1, rows)
        for history in histories:
            history.batch(logits, loss)
            history.sample(model, step)
        if on_step:
            on_step(step, len(batches), loss)
        if step in ends:
            spent += time.perf_counter() - started
            if finish:
                finish(ends[step], model, histories.pop(0).rows, spent)
            started = time.perf_counter()


def _stepper(model, config, data, tokens, kind, teacher, total) -> Callable:
    """step(number, rows): one optimiser step on some rows; returns detached logits (B, K) and the mean loss."""
    labels = torch.from_numpy(data.splits["train"].labels).to(device())
    taught = functools.cache(lambda: torch.from_numpy(teacher.logits["train"]).to(device()))  # not before it is needed
    restrict = getattr(model, "restrict_to", None)
    if restrict and not config.weight_decay:  # with it, words that never occur decay too
        restrict(tokens)
    optimizer = Optimizer(model, config, kind)
    model.train()

    def step(number: int, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        inputs = gpu.on_device({**tokens.batch(rows), "rows": torch.from_numpy(rows)})
        index = inputs.pop("rows")
        with autocast(kind):
            logits = model(**inputs)
        loss = batch_loss(config, logits, labels[index], lambda: taught()[index], number, total)
        loss.backward()
        optimizer.step(learning_rate(config, number, total))
        return logits.detach(), loss.detach()

    return step
