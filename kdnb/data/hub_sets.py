"""The tasks of texts on the hub that are not GLUE's: AG News. Train is cut into train and validation once, for all."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kdnb.catalog import Task
from kdnb.data import hub
from kdnb.data.glue import holdout, parquet, tidy
from kdnb.errors import HubUnreachable


@dataclass(frozen=True)
class HubTexts:
    """A set of texts on the hub: its commit, and the patterns of its two labelled splits' Parquet files."""

    repo: str
    revision: str
    train: str
    test: str
    held: int  # rows cut out of train for validation

    @property
    def files(self) -> dict[str, str]:
        """Split -> pattern."""
        return {"train": self.train, "test": self.test}


HUB_TEXTS = {
    "agnews": HubTexts(
        "fancyzhx/ag_news", "eb185aade064a813bc0b7f42de02595523103ca4",
        "data/train-*.parquet", "data/test-*.parquet", held=5000,
    ),
}  # fmt: skip


def read(task: Task) -> pd.DataFrame:
    """All examples of a task: columns split, text, text2, label.

    Raises:
        HubUnreachable: the texts are not on this machine and cannot be fetched.
        ValueError: a file lacks a column, holds an unknown label or too few rows.
    """
    where = HUB_TEXTS[task.name]
    folder = hub.local(where.repo, where.revision, tuple(where.files.values()))
    try:
        tables = parquet(folder, where.files) if folder else _downloaded(where)
    except (OSError, RuntimeError) as error:
        raise HubUnreachable(
            f"{task.title}: nothing of {where.repo} here and nothing from the hub ({str(error).splitlines()[0]}); "
            f"bring it with `kdnb fetch --tasks {task.name}`, or take an embedded task such as section"
        ) from None
    parts = {
        split: tidy(table, task, task.columns, "label", f"{where.repo}/{where.files[split]}")
        for split, table in tables.items()
    }
    train = parts["train"]
    if len(train) <= where.held:
        raise ValueError(
            f"{where.repo}: train has {len(train)} rows, {where.held} of them are for validation: expected more"
        )
    kept, held = holdout(len(train), where.held)
    cut = {"train": train.iloc[kept], "validation": train.iloc[held], "test": parts["test"]}
    found = pd.concat([part.assign(split=split) for split, part in cut.items()], ignore_index=True)
    return found[["split", "text", "text2", "label"]]


def _downloaded(where: HubTexts) -> dict[str, pd.DataFrame]:
    """split -> table, through the hub's own client and its cache."""
    hub.prepare()
    from datasets import load_dataset

    try:
        found = load_dataset(where.repo, revision=where.revision)
    except ValueError as error:  # so the client says that its cache holds nothing
        raise RuntimeError(str(error)) from None
    return {split: found[Path(pattern).name.partition("-")[0]].to_pandas() for split, pattern in where.files.items()}
