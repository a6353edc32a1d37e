"""Classifiers by name, whatever a task is made of: what builds one, and what makes its inputs of the splits."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from kdnb.catalog import model_behind, source_of
from kdnb.core.batches import Inputs
from kdnb.core.config import RunConfig
from kdnb.data.splits import TaskData
from kdnb.models import text, vision


@dataclass(frozen=True)
class Parts:
    """What one modality is trained with.

    build: the untrained classifier of a run on some data.
    encode: split -> what a model of that name, a name of `source_of`, reads of it; at most so many tokens.
    """

    build: Callable[[RunConfig, TaskData], nn.Module]
    encode: Callable[[str, TaskData, int], dict[str, Inputs]]


PARTS = {"text": Parts(text.build, text.encode), "image": Parts(vision.build, vision.encode)}


def build(config: RunConfig, data: TaskData) -> nn.Module:
    """The untrained classifier of a run: pretrained where its source is, the rest from the seed.

    Raises:
        ValueError: the student does not read what the task is made of.
        MissingAsset: its weights come in a package, which is neither on this machine nor to be fetched.
        ModelUnavailable: the same of weights from the hub.
    """
    name = model_behind(config)
    return PARTS[source_of(name).modality].build(config, data)


def encode(model: str, data: TaskData, max_length: int) -> dict[str, Inputs]:
    """What a model reads of each split.

    Args:
        model: a name of `source_of`.
        data: the splits.
        max_length: of a text [tokens].
    Raises:
        ModelUnavailable: its tokenizer cannot be had.
    """
    return PARTS[source_of(model).modality].encode(model, data, max_length)
