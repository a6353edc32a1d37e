"""Multilayer perceptrons of this study's image tasks, trained by the core's loop from an identity's settings."""

from typing import Any

import numpy as np

from kdnb.catalog import Source
from kdnb.core.batches import Inputs
from kdnb.core.config import RunConfig
from kdnb.core.device import deterministic, device
from kdnb.core.loop import fit
from kdnb.core.predict import predict
from kdnb.data.pixels import normalized
from kdnb.data.splits import TaskData
from kdnb.models.vision import untrained


def config_of(identity: Any, seed: int, **method: Any) -> RunConfig:
    """Adam at a constant learning rate, without weight decay, clipping or dropout, in float32.

    Args:
        identity: its task, profile, data, epochs, batch_size and lr.
        seed: of the weights and of the order of the batches.
        method: "method" and its fields, and what differs from the identity's.
    """
    fixed = {
        "task": identity.task,
        "profile": identity.profile,
        "data": identity.data,
        "student": "small",
        "epochs": identity.epochs,
        "batch_size": identity.batch_size,
        "lr": identity.lr,
        "schedule": "constant",
        "clip": 0.0,
        "dropout": 0.0,
        "precision": "fp32",
        "history_points": 0,
        "seed": seed,
        "order_seed": seed,
    }
    return RunConfig(**{**fixed, **method})


def trained_logits(
    config: RunConfig, width: int, data: TaskData, rows: np.ndarray | None = None, teacher: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Logits (N, K) float32 on every split of a network with one hidden layer, after training it.

    Args:
        config: of `config_of`.
        width: of the hidden layer [units].
        data: the task's splits.
        rows: of the train split, the only ones trained on; None for all.
        teacher: its logits (N, K) on all of the train split.
    """
    train = data.splits["train"]
    inputs: dict[str, Inputs] = dict(normalized(data.splits))
    rows = np.arange(len(train)) if rows is None else rows
    images = train.images
    assert images is not None, "a network for images on a task of texts"
    with deterministic():
        source = Source("image", "mlp", layers=(width,))
        model = untrained(source, images.shape[1:], data.task.num_classes, config.dropout, config.seed).to(device())
        given = inputs | {"train": inputs["train"].take(rows)}
        soft_targets = None if teacher is None else np.ascontiguousarray(teacher[rows], dtype=np.float32)
        fit(config, model, given, train.labels[rows], soft_targets)
        return {split: predict(model, part, "fp32").numpy() for split, part in inputs.items()}
