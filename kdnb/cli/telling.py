"""What is told of a task's examples before anything is trained on them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kdnb.catalog import AS_IT_IS, model_behind
from kdnb.data.splits import TaskData
from kdnb.errors import printable

if TYPE_CHECKING:
    from kdnb.core.config import RunConfig
    from kdnb.data.tokens import Tokens
    from kdnb.experiment.points import Point

UNKNOWN = 0.05  # share of tokens that are [UNK] from which on it is told


def of_data(data: TaskData) -> Iterator[str]:
    """Lines: the task, how many rows each split has and what was left out, the classes, what the files brought."""
    rows = {split: len(part) for split, part in data.splits.items()}
    listed = ", ".join(f"{count:,} {split}" for split, count in rows.items())
    yield f"{printable(data.task.caption)}: {printable(data.task.question)} K = {data.task.num_classes}; {listed}"
    yield from (f"  {note}" for note in data.notes)
    for split, count in rows.items():
        if count < (whole := data.available.get(split, count)):
            yield f"  {split}: {count:,} of {whole:,} rows; --{split}-rows 0 takes all"
    counts = [np.bincount(part.labels, minlength=data.task.num_classes) for part in data.splits.values()]
    classes = [
        f"{printable(name)[:60]} ({' + '.join(f'{count:,}' for count in of_class)})"
        for name, *of_class in zip(data.task.labels, *counts, strict=True)
    ]
    yield f"  classes, rows in {' + '.join(rows)}: {', '.join(classes)}"
    if absent := [printable(name)[:60] for name, count in zip(data.task.labels, counts[0], strict=True) if not count]:
        yield f"  no train row of {', '.join(absent[:20])}{f' and {len(absent) - 20} more' if len(absent) > 20 else ''}"


def of_texts(data: TaskData, configs: "list[RunConfig]") -> Iterator[str]:
    """Lines: what the models of some configs do not see of the texts, or do not know.

    Args:
        data: of texts.
        configs: what is to be trained on it.
    Raises:
        ModelUnavailable: a tokenizer cannot be had.
    """
    from kdnb.data.tokens import Tokens
    from kdnb.experiment.training import encode  # they bring torch

    read = dict.fromkeys((model_behind(one), one.max_length) for one in configs)
    for model, length in read:
        splits = [part for part in encode(model, data, length).values() if isinstance(part, Tokens)]
        yield from (f"  {model.removeprefix(AS_IT_IS)}: {line}" for line in of_tokens(splits, length))


def of_runs(points: "list[Point]", rows: int, keep: bool) -> str:
    """A line: how many runs a comparison has, and how many of them are to be trained, in how many steps.

    Args:
        points: of the comparison.
        rows: of the train split.
        keep: whether weights are kept.
    """
    from kdnb.experiment.pace import Pace, epochs
    from kdnb.experiment.points import trainings

    groups = trainings(point for point in points if not point.given)
    left = Pace(groups, keep).left.values()
    steps = sum(epochs(group) * -(-rows // group[0].config.batch_size) for group in left)
    arms, seeds = (len({*of}) for of in ([one.arm for one in points], [one.config.seed for one in points]))
    of = f"{len(points)} runs: {arms} arm{'s' * (arms > 1)} x {seeds} seed{'s' * (seeds > 1)}"
    if not left:
        return f"{of}, all of them stored"
    stored = " (the others are stored)" if len(left) < len(groups) else ""
    return f"{of}; {len(left)} to train{stored}, {steps:,} steps; the time left is told after the first of each model"


def of_tokens(splits: "list[Tokens]", length: int) -> Iterator[str]:
    """Lines: how many texts are cut, and the share of unknown tokens from `UNKNOWN` on.

    Args:
        splits: what a model reads of each.
        length: tokens to which texts are cut.
    """
    texts = sum(map(len, splits))
    if cut := sum(int(tokens.cut.sum()) for tokens in splits if tokens.cut is not None):
        yield f"{cut:,} of {texts:,} texts are cut to {length} tokens (--max-length)"
    unknown = sum(int((tokens.ids == tokens.unknown_id).sum()) for tokens in splits)
    read = sum(len(tokens.ids) for tokens in splits) - 2 * texts  # but for the special ones around each
    if read > 0 and unknown > UNKNOWN * read:  # some tokenizers put none around a text
        yield f"{100 * unknown / read:.0f} % of the tokens are [UNK]: signs or words that it does not know"
