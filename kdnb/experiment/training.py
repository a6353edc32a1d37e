"""From a config to a finished run: check, encode, build the model, run the loop, read off the logits."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from kdnb.catalog import model_behind, source_of
from kdnb.core import device
from kdnb.core.batches import Inputs
from kdnb.core.config import SPLITS, RunConfig
from kdnb.core.loop import OnStep, Sample, diverged, fit
from kdnb.core.methods import METHODS
from kdnb.core.optimizer import fast_path
from kdnb.core.predict import predict
from kdnb.core.store import Run
from kdnb.data.pixels import Pixels, augmented
from kdnb.data.splits import TaskData
from kdnb.experiment import teachers
from kdnb.experiment.surroundings import fresh_peak, surroundings
from kdnb.experiment.teachers import Teacher
from kdnb.models import classifiers

OnModel = Callable[[nn.Module, dict[str, Inputs]], object]  # (a trained model, what it reads of each split)


def train(
    config: RunConfig,
    data: TaskData,
    teacher: Run | Teacher | None = None,
    on_step: OnStep | None = None,
    on_model: OnModel | None = None,
) -> Run:
    """Fine-tune one model and read off its logits on all three splits.

    Args:
        config: what to train.
        data: the task's splits; its fingerprint must be the config's.
        teacher: what config.teacher_run names, for methods that need one.
        on_step: called as on_step(step, total, loss) after each optimiser step.
        on_model: called with the trained model, which is not stored, and what it reads of each split.
    Returns:
        The finished run, not yet stored. Same config, same machine: identical logits.
    Raises:
        ValueError: data or teacher do not belong to the config.
    """
    (run,) = train_each([config], data, teacher, on_step, lambda _run, *trained: on_model and on_model(*trained))
    return run


def train_epochs(
    configs: list[RunConfig],
    data: TaskData,
    teacher: Run | Teacher | None = None,
    on_step: OnStep | None = None,
    on_run: Callable[[Run], object] | None = None,
) -> list[Run]:
    """Runs that differ in their number of epochs alone, from the one training that passes through all of them.

    Each is what `train` gives for its config, bit for bit; its cost is what was spent until it was read off.

    Args:
        configs: with one `RunConfig.training()`.
        data: as `train`.
        teacher: as `train`.
        on_step: as `train`.
        on_run: called with each run as soon as it is finished, the shortest first.
    Raises:
        ValueError: as `train`, and if the configs do not lie on one training.
    """
    return train_each(configs, data, teacher, on_step, lambda run, *_: on_run and on_run(run))


def train_each(configs: list[RunConfig], data: TaskData, taught_by: Run | Teacher | None, *hearers: Any) -> list[Run]:
    """As `train_epochs`, and each run is handed over with its model and inputs, which are not stored.

    Memory is handed back when the model is gone.
    """
    configs = sorted(configs, key=lambda config: config.epochs)
    teacher = teachers.of_run(taught_by) if isinstance(taught_by, Run) else taught_by
    check_inputs(configs, data, teacher)
    device.keep_memory()
    runs = _train(configs, data, teacher, *hearers)
    device.release_memory()
    return runs


def _train(
    configs: list[RunConfig],
    data: TaskData,
    teacher: Teacher | None,
    on_step: OnStep | None,
    on_trained: Callable[[Run, nn.Module, dict[str, Inputs]], object],
) -> list[Run]:
    """`train_epochs` of checked configs, the longest last; each run is handed over with model and inputs."""
    *shorter, longest = configs
    started, kind, runs = time.perf_counter(), device.precision(longest.precision), []
    inputs = encoded(longest, data)
    fresh_peak()
    steps = longest.epochs * -(-len(inputs["train"]) // longest.batch_size)
    device.set_up(kind)
    with torch.random.fork_rng(), device.deterministic():
        torch.manual_seed(longest.seed)
        model = classifiers.build(longest, data).to(device.device())
        method, labels = METHODS[longest.method].of(longest), data.splits["train"].labels
        beside = method.beside(model, longest, data)
        compiled = device.compile_layers(fast_path(model).compiled, steps)

        def finish(config: RunConfig, history: list[Sample], train_seconds: float) -> None:
            logits = {split: predict(model, inputs[split], kind).numpy() for split in SPLITS}
            run = _read_off(config, data, teacher, logits, history)
            seconds = {"seconds": round(time.perf_counter() - started, 3), "train_seconds": round(train_seconds, 3)}
            run.metrics["cost"] = {**seconds, "compiled": compiled, **surroundings(kind)}
            runs.append(run)
            on_trained(run, model, inputs)

        if source_of(model_behind(longest)).as_it_is:
            finish(longest, [], 0.0)
            return runs
        soft_targets = (lambda: method.taught(teacher.logits["train"], labels, longest.seed)) if teacher else None
        read = dict(inputs)  # what the loop reads; logits are always of images as they are
        if longest.augment != "none" and isinstance(inputs["train"], Pixels):
            read["train"] = augmented(inputs["train"], longest.order_seed)
        more: dict[str, Any] = {"shorter": shorter, "beside": beside, "on_step": on_step, "on_end": finish}
        with contextlib.ExitStack() as block:
            if isinstance(beside, contextlib.AbstractContextManager):
                block.enter_context(beside)  # what it hooks into the model is there while it trains
            fit(longest, model, read, labels, soft_targets, **more)
    return runs


def _read_off(
    config: RunConfig, data: TaskData, teacher: Teacher | None, logits: dict[str, np.ndarray], history: list[Sample]
) -> Run:
    """The run of a finished training: its logits with their metrics; the cost is still to come."""
    if not all(np.isfinite(part).all() for part in logits.values()):
        raise diverged(config, f"its logits are no numbers after {config.epochs} epochs")
    labels = {split: data.splits[split].labels for split in SPLITS}
    values: dict[str, Any] = {split: teachers.summary(logits[split], labels[split], teacher, split) for split in SPLITS}
    return Run(config, logits, labels, values, history)


def check_inputs(configs: list[RunConfig], data: TaskData, teacher: Teacher | None) -> None:
    """Raise ValueError unless the configs lie on one training, and data and teacher belong to it."""
    config = configs[-1]
    if len({config.training() for config in configs}) > 1:
        raise ValueError(f"not on one training: {', '.join(config.run_id() for config in configs)}")
    if data.fingerprint != config.data:
        raise ValueError(f"run {config.run_id()} is for data {config.data}, got {data.fingerprint} ({data.task.name})")
    if "tfkd" in config.methods and not 1 / data.task.num_classes < config.confidence < 1:
        raise ValueError(f"confidence must be in (1/{data.task.num_classes}, 1), got {config.confidence}")
    if not any(METHODS[name].needs_teacher for name in config.methods):
        return
    if teacher is None or teacher.run_id != config.teacher_run:
        raise ValueError(f"teacher run {config.teacher_run} is needed, got {teacher.run_id if teacher else 'none'}")
    if teacher.data != config.data:
        raise ValueError(
            f"teacher {teacher.run_id} was trained on {teacher.task} (data {teacher.data}), the student "
            f"on {config.task} (data {config.data}): task, rows and label order must be the same"
        )


def encoded(config: RunConfig, data: TaskData) -> dict[str, Inputs]:
    """What the model of a config reads of each split."""
    return encode(model_behind(config), data, config.max_length)


@functools.lru_cache(maxsize=8)
def encode(model: str, data: TaskData, max_length: int) -> dict[str, Inputs]:
    """What a model reads of each split: `classifiers.encode`, kept, so that a process tokenises once."""
    return classifiers.encode(model, data, max_length)
