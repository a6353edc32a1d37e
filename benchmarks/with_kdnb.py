"""kdnb's own training loop on the reference work."""

import contextlib
import types

import numpy as np
from hf import ALPHA, BATCH, LR, MAX_LENGTH, TAU, Work, synced

from kdnb.catalog import PROFILES, task_named
from kdnb.core.batches import plan_batches
from kdnb.core.config import RunConfig
from kdnb.core.device import device
from kdnb.core.loop import fit
from kdnb.data.splits import Split, TaskData
from kdnb.data.tokens import Tokens
from kdnb.experiment.arms import arm_config
from kdnb.models import text


def config_of(work: Work, **changes) -> RunConfig:
    """The reference work as a kdnb config."""
    profile = work.facts["profile"]
    fields = {
        "task": work.facts["task"],
        "profile": profile,
        "data": work.facts["data"],
        "seed": 0,
        "teacher_run": "benchmark",
        "alpha": ALPHA,
        "tau": TAU,
        "lr": LR,
        "batch_size": BATCH,
        "epochs": 1,
        "max_length": min(MAX_LENGTH, PROFILES[profile].max_length),
        "history_points": 0,
    }
    return arm_config("kd_standard", **{**fields, **changes})


def inputs(work: Work, rows) -> tuple[TaskData, dict[str, Tokens], types.SimpleNamespace]:
    """Data, tokens and teacher of some rows, for `kdnb.core.loop.fit`."""
    tokens = Tokens(work.ids, work.starts, work.second, work.facts["pad_id"]).take(rows)
    split = Split([], None, work.labels[rows])
    data = TaskData(task_named(work.facts["task"]), {"train": split}, work.facts["data"])
    teacher = types.SimpleNamespace(logits={"train": work.teacher_logits[rows]})
    return data, {"train": tokens, "test": tokens}, teacher


def train(work: Work, rows, around=contextlib.nullcontext()) -> tuple[float, float]:  # noqa: B008
    """Train the student on some rows once; seconds (batch planning and set-up included) and share of padding."""
    config = config_of(work)
    data, tokens, teacher = inputs(work, rows)
    model = text.build(config, data).to(device())
    with around:
        started = synced()
        fit(config, model, tokens, data.splits["train"].labels, teacher.logits["train"])
        seconds = synced() - started
    return seconds, padding(tokens["train"].lengths, config)


def padding(lengths: np.ndarray, config: RunConfig) -> float:
    """Share of padding in the batches that training planned."""
    batches = plan_batches(lengths, config.batch_size, np.random.default_rng(config.order_seed))
    return 1 - lengths.sum() / sum(len(rows) * lengths[rows].max() for rows in batches)
