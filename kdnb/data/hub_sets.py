"""Labelled sets on the hub, as Parquet at a pinned commit: what they are, their tables, and the cut of validation.

Train is cut into train and validation once, for all. What the tables hold is made into texts here, into images by
kdnb.data.images; GLUE, which is cut in its own way, is kdnb.data.glue's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kdnb import plain
from kdnb.catalog import Task
from kdnb.data import download, hub
from kdnb.data.hub import Part
from kdnb.errors import DamagedFetch, HubUnreachable, first_line

HOLDOUT_SEED = 42


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """A set on the hub: its commit, the patterns of its labelled splits' Parquet files, its columns."""

    repo: str
    revision: str
    files: dict[str, str]  # our split -> pattern
    config: str = ""  # as datasets.load_dataset calls it
    example: str = "text"  # column of the text, or of the encoded image
    second: str = ""  # column of the second text, where a task has pairs
    label: str = "label"
    held: int = 5000  # rows cut out of train for validation


HUB_SETS = {
    "agnews": HubSet(
        repo="fancyzhx/ag_news", revision="eb185aade064a813bc0b7f42de02595523103ca4",
        files={"train": "data/train-*.parquet", "test": "data/test-*.parquet"},
    ),
    "mnist": HubSet(
        repo="ylecun/mnist", revision="77f3279092a1c1579b2250db8eafed0ad422088c", config="mnist", example="image",
        files={"train": "mnist/train-*.parquet", "test": "mnist/test-*.parquet"},
    ),
    "cifar10": HubSet(
        repo="uoft-cs/cifar10", revision="0b2714987fa478483af9968de7c934580d0bb9a2", config="plain_text",
        files={"train": "plain_text/train-*.parquet", "test": "plain_text/test-*.parquet"}, example="img",
    ),
    "cifar100": HubSet(
        repo="uoft-cs/cifar100", revision="aadb3af77e9048adbea6b47c21a81e47dd092ae5", config="cifar100",
        files={"train": "cifar100/train-*.parquet", "test": "cifar100/test-*.parquet"}, example="img",
        label="fine_label",
    ),
    "tinyimagenet": HubSet(  # the labels of its test split are hidden: the validation split is the test here
        repo="zh-plus/tiny-imagenet", revision="5a77092c28e51558c5586e9c5eb71a7e17a5e43f", config="default",
        files={"train": "data/train-*.parquet", "test": "data/valid-*.parquet"}, example="image", held=10000,
    ),
}  # fmt: skip


def read(task: Task) -> pd.DataFrame:
    """All examples of a task of texts: columns split, text, text2, label.

    Raises:
        HubUnreachable: the texts are not on this machine and cannot be fetched.
        ValueError: a file lacks a column, holds an unknown label or too few rows.
    """
    where = HUB_SETS[task.name]
    columns = (where.example, where.second) if task.pair else (where.example,)
    tables = load(where, task.title, instead=way_out(task, "take an embedded task such as section"))
    parts = {
        split: tidy(table, task, columns, where.label, f"{where.repo}/{where.files[split]}")
        for split, table in tables.items()
    }
    kept, held = holdout(len(parts["train"]), where.held, where.repo)
    cut = {"train": parts["train"].iloc[kept], "validation": parts["train"].iloc[held], "test": parts["test"]}
    return stacked(cut)


def load(where: HubSet, title: str, missing: str = "", instead: str = "") -> dict[str, pd.DataFrame]:
    """Split -> its table: fetched, now if need be, else from a local mirror, else from the cache of the hub's client.

    Args:
        where: the set.
        title: of the task, for the message.
        missing: what else would have served and is not there, for the message.
        instead: the way out, for the message.
    Raises:
        HubUnreachable: the files are not on this machine and cannot be fetched.
    """
    try:
        download.obtain(Part(where.repo, "dataset", where.revision, tuple(where.files.values())))
        local = local_files(where)
        return {split: stacked_files(parts) for split, parts in local.items()} if local else _cached(where)
    except DamagedFetch:
        raise
    except (OSError, RuntimeError) as error:
        raise unreachable(where, title, error, missing, instead) from None


def unreachable(where: HubSet, title: str, error: Exception, missing: str = "", instead: str = "") -> HubUnreachable:
    """The one message of a set that is nowhere; arguments as `load`."""
    missing = missing or f"nothing of {where.repo} here"
    return HubUnreachable(f"{title}: {missing} and nothing from the hub ({first_line(error)}); {instead}")


def way_out(task: Task, other: str) -> str:
    """What to do where a task's set is nowhere: bring it, or another task."""
    return f"bring it with `kdnb fetch --tasks {task.name}`, or {other}"


def local_files(where: HubSet) -> dict[str, list[Path]]:
    """Split -> its files on this machine, fetched or mirrored; {} if only the hub has them.

    Raises:
        FileNotFoundError: the repository is here, but a split of it is not.
        DamagedFetch: a fetched file is missing or altered.
    """
    folder = hub.local(where.repo, where.revision, tuple(where.files.values()))
    if not folder:
        return {}
    local = {split: sorted(folder.glob(pattern)) for split, pattern in where.files.items()}
    if missing := [split for split in local if not local[split]]:
        raise FileNotFoundError(f"no file {folder / where.files[missing[0]]}")
    return local


def stacked_files(paths: list[Path]) -> pd.DataFrame:
    """The rows of some Parquet files, one after another."""
    return pd.concat(map(pd.read_parquet, paths), ignore_index=True)


def stacked(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Tidy tables by split as one: columns split, text, text2, label."""
    table = pd.concat([part.assign(split=split) for split, part in parts.items()], ignore_index=True)
    return table[["split", "text", "text2", "label"]]


def holdout(rows: int, held: int, where: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (kept, held out): the last `held` of a seeded permutation, each part in file order.

    Args:
        rows: of the train split.
        held: how many of them serve as another split.
        where: whose they are, for the message.
    Raises:
        ValueError: nothing would be kept, or nothing held.
    """
    if not 0 < held < rows:
        raise ValueError(f"{where or 'the data'}: train has {rows} rows, {held} of them are held out: expected more")
    order = np.random.default_rng(HOLDOUT_SEED).permutation(rows)
    return np.sort(order[:-held]), np.sort(order[-held:])


def tidy(table: pd.DataFrame, task: Task, columns: tuple[str, ...], label: str, where: object) -> pd.DataFrame:
    """A file's table as columns text, text2, label.

    Args:
        table: as read.
        task: decides the labels, by name or number, and whether there are two texts.
        columns: of the texts, one or two.
        label: column of the labels.
        where: the file, for messages.
    Raises:
        ValueError: a column is missing, or a label is none of the task's.
    """
    missing = [column for column in (*columns, label) if column not in table]
    if missing:
        raise ValueError(f"{where}: no column {missing[0]!r}, found {', '.join(map(str, table.columns))}")
    if twice := [column for column in (*columns, label) if list(table.columns).count(column) > 1]:
        raise ValueError(f"{where}: two columns are named {twice[0]!r}")
    names = {name: i for i, name in enumerate(task.labels)} | {str(i): i for i in range(task.num_classes)}
    labels = table[label].astype(str).map(names)
    if labels.isna().any():
        wrong = str(table[label][labels.isna()].iloc[0])
        raise ValueError(f"{where}: label {wrong!r} is none of {', '.join(task.labels)}")
    second = table[columns[1]].astype(str) if task.pair else ""
    return pd.DataFrame({"text": table[columns[0]].astype(str), "text2": second, "label": labels.astype(int)})


def _cached(where: HubSet) -> dict[str, pd.DataFrame]:
    """Split -> table, from what the hub's own client has in its cache; images stay encoded."""
    hub.prepare_process()
    from datasets import Image, load_dataset

    try:
        with plain.quiet("datasets"):
            dataset = load_dataset(where.repo, where.config or None, revision=where.revision)
    except ValueError as error:  # so the client says that its cache holds nothing
        raise RuntimeError(str(error)) from None
    tables = {}
    for split, pattern in where.files.items():
        part = dataset[Path(pattern).name.partition("-")[0]]
        if isinstance(part.features.get(where.example), Image):
            part = part.cast_column(where.example, Image(decode=False))
        tables[split] = part.to_pandas()
    return tables
