"""Checked splits of any task at any profile's size, and their fingerprint."""

import functools
import hashlib
import os
import uuid
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdnb import embedded, glue
from kdnb.config import SPLITS
from kdnb.paths import DATA_CACHE
from kdnb.profiles import PROFILES
from kdnb.tasks import Task, task_named

BUILD = 4  # of the embedded tasks; raise it when kdnb.embedded changes what it makes
SUBSET_SEED = 42


@dataclass(frozen=True)
class Split:
    """Examples in a fixed order: texts, second texts (None for single-text tasks), labels (N,) int64."""

    text: list[str]
    text2: list[str] | None
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task's three splits, the fingerprint that names them, and how many train rows there were to choose from."""

    task: Task
    splits: dict[str, Split]
    fingerprint: str
    available: int = 0


@functools.lru_cache(maxsize=16)
def load(task: str, profile: str, train_rows: int | None = None) -> TaskData:
    """The splits of a task at a profile's size.

    Args:
        task: a key of TASKS. profile: a key of PROFILES; "toy" generates its examples.
        train_rows: train rows to keep instead of the profile's, 0 = all.
    Raises:
        ValueError: unknown task, a broken file, a hidden label (-1) or an empty split.
        MissingAsset, HubUnreachable: the text is not on this machine and cannot be fetched.
    """
    what = task_named(task)
    if profile == "toy":
        table = _toy_table(what)
    elif what.source == "glue":
        table = glue.read(what)
    else:
        table = _built(what)
    return make(what, table, profile, train_rows)


def make(task: Task, table: pd.DataFrame, profile: str, train_rows: int | None = None) -> TaskData:
    """TaskData from a table with columns split, text, text2, label; checks and caps each split.

    Rows beyond a cap are dropped at random, always the same ones. Raises ValueError as `load`.
    """
    size = PROFILES[profile]
    caps = dict(zip(SPLITS, (size.train_rows, size.validation_rows, size.test_rows), strict=True))
    if train_rows is not None:
        caps["train"] = train_rows
    splits = {}
    for name in SPLITS:
        part = table[table.split == name]
        if part.empty:
            raise ValueError(f"{task.name}: the {name} split is empty")
        labels = part.label.to_numpy(dtype=np.int64)
        if labels.min() < 0 or labels.max() >= task.num_classes:
            raise ValueError(
                f"{task.name}: labels of the {name} split must be 0..{task.num_classes - 1}, "
                f"got {labels.min()}..{labels.max()} (-1 marks hidden labels, which are never scored)"
            )
        rows = np.arange(len(part))
        if 0 < caps[name] < len(part):
            rows = np.sort(np.random.default_rng(SUBSET_SEED).permutation(len(part))[: caps[name]])
        text2 = part.text2.iloc[rows].tolist() if task.pair else None
        splits[name] = Split(part.text.iloc[rows].tolist(), text2, labels[rows])
    return TaskData(task, splits, _fingerprint(task, splits), int((table.split == "train").sum()))


def _fingerprint(task: Task, splits: dict[str, Split]) -> str:
    """Hash of everything a model sees: label order, texts, labels, in order."""
    digest = hashlib.sha256(repr(task.labels).encode())
    for name, split in splits.items():
        digest.update(f"\0{name}\0{len(split)}\0".encode())
        for text in (split.text, split.text2 or ()):
            digest.update("\0".join(text).encode())
            digest.update(b"\1")
        digest.update(split.labels.tobytes())
    return digest.hexdigest()[:16]


def _built(task: Task) -> pd.DataFrame:
    """An embedded task, built once and kept as Parquet."""
    path = DATA_CACHE / "built" / f"{task.name}-{BUILD}.parquet"
    if not path.exists():
        table = embedded.build(task.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid.uuid4().hex}")
        table.to_parquet(partial, index=False)
        os.replace(partial, path)
    return pd.read_parquet(path)


def _toy_table(task: Task) -> pd.DataFrame:
    """Generated sentences in which some words go with a class; one label in ten is wrong."""
    rng = np.random.default_rng(task.num_classes + 10 * task.pair)
    words = np.array([f"word{i}" for i in range(40)])
    rows = []
    for split, count in zip(SPLITS, (64, 32, 32), strict=True):
        for label in rng.permutation(np.arange(count) % task.num_classes):
            texts = ["", ""]
            for i in range(1 + task.pair):
                chosen = words[rng.integers(0, len(words), rng.integers(4, 12))]
                texts[i] = " ".join([*chosen, f"sign{label}", f"sign{(label + i) % task.num_classes}"])
            wrong = rng.random() < 0.1
            rows.append((split, *texts, int(rng.integers(task.num_classes)) if wrong else int(label)))
    return pd.DataFrame(rows, columns=["split", "text", "text2", "label"])
