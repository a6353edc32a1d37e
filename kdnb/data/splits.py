"""Checked splits of any task at any profile's size, and their fingerprint."""

import functools
import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kdnb import files, paths
from kdnb.catalog import PROFILES, Task, task_named
from kdnb.core.config import SPLITS
from kdnb.data import embedded, glue, hub_sets, images

BUILD = 4  # of the embedded tasks; raise it when kdnb.data.embedded changes what it makes
SUBSET_SEED, NOISE_SEED = 42, 43


@dataclass(frozen=True)
class Split:
    """Examples in a fixed order: texts, second texts (None for single-text tasks), labels (N,) int64.

    images: (N, C, H, W) uint8 for image tasks, which have no texts (an empty list); None for the others.
    """

    text: list[str]
    text2: list[str] | None
    labels: np.ndarray
    images: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Split":
        """Some rows, in their order."""
        text = [self.text[i] for i in rows] if self.text else []
        text2 = [self.text2[i] for i in rows] if self.text2 is not None else None
        return Split(text, text2, self.labels[rows], self.images[rows] if self.images is not None else None)


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
        task: a key of TASKS, with "@0.2" behind it for label noise. profile: a key of PROFILES; "toy" generates
            its examples.
        train_rows: train rows to keep instead of the profile's, 0 = all.
    Raises:
        ValueError: unknown task, a broken file, a hidden label (-1) or an empty split.
        MissingAsset, HubUnreachable: the examples are not on this machine and cannot be fetched.
    """
    what, clean = task_named(task), task_named(task.partition("@")[0])
    if what.source == "image":
        return make_images(what, images.toy(what) if profile == "toy" else images.read(clean), profile, train_rows)
    if profile == "toy":
        table = _toy_table(what)
    elif what.source == "glue":
        table = glue.read(clean)
    elif what.source == "hub":
        table = hub_sets.read(clean)
    else:
        table = _built(clean)
    return make(what, table, profile, train_rows)


def make(task: Task, table: pd.DataFrame, profile: str, train_rows: int | None = None) -> TaskData:
    """TaskData from a table with columns split, text, text2, label; checks and caps each split.

    Rows beyond a cap are dropped at random, always the same ones. Raises ValueError as `load`.
    """
    splits = {}
    for name in SPLITS:
        part = table[table.split == name]
        text2 = part.text2.tolist() if task.pair else None
        splits[name] = Split(part.text.tolist(), text2, np.array(part.label, dtype=np.int64))
    return _finished(task, splits, profile, PROFILES[profile].train_rows if train_rows is None else train_rows)


def make_images(task: Task, parts: images.Parts, profile: str, train_rows: int | None = None) -> TaskData:
    """TaskData from images (N, C, H, W) uint8 and labels (N,) of each split; otherwise as `make`."""
    splits = {name: Split([], None, labels, pixels) for name, (pixels, labels) in parts.items()}
    return _finished(task, splits, profile, PROFILES[profile].images.train_rows if train_rows is None else train_rows)


def _finished(task: Task, splits: dict[str, Split], profile: str, train_rows: int) -> TaskData:
    """Splits checked and capped, with the task's label noise, and named by their content."""
    size, available = PROFILES[profile], len(splits["train"])
    caps = {"train": train_rows, "validation": size.validation_rows, "test": size.test_rows}
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"{task.name}: the {name} split is empty")
        if split.labels.min() < 0 or split.labels.max() >= task.num_classes:
            raise ValueError(
                f"{task.name}: labels of the {name} split must be 0..{task.num_classes - 1}, "
                f"got {split.labels.min()}..{split.labels.max()} (-1 marks hidden labels, which are never scored)"
            )
        if 0 < caps[name] < len(split):
            rows = np.random.default_rng(SUBSET_SEED).permutation(len(split))[: caps[name]]
            splits[name] = split.take(np.sort(rows))
    if task.label_noise:
        splits["train"] = _noisy(splits["train"], task)
    return TaskData(task, splits, _fingerprint(task, splits), available)


def _noisy(split: Split, task: Task) -> Split:
    """The split with a share of its labels, exactly, drawn anew from all classes, the true one among them."""
    rng, labels = np.random.default_rng(NOISE_SEED), split.labels.copy()
    rows = rng.permutation(len(labels))[: round(task.label_noise * len(labels))]
    labels[rows] = rng.integers(task.num_classes, size=len(rows))
    return replace(split, labels=labels)


def _fingerprint(task: Task, splits: dict[str, Split]) -> str:
    """Hash of everything a model sees: label order, texts or pixels, labels, in order."""
    digest = hashlib.sha256(repr(task.labels).encode())
    for name, split in splits.items():
        digest.update(f"\0{name}\0{len(split)}\0".encode())
        for text in (split.text, split.text2 or ()):
            digest.update("\0".join(text).encode())
            digest.update(b"\1")
        if split.images is not None:
            digest.update(repr(split.images.shape).encode())
            digest.update(np.ascontiguousarray(split.images))
        digest.update(split.labels.tobytes())
    return digest.hexdigest()[:16]


def _built(task: Task) -> pd.DataFrame:
    """An embedded task, built once and kept as Parquet."""
    path = paths.DATA_CACHE / "built" / f"{task.name}-{BUILD}.parquet"
    if not path.exists():
        table = embedded.build(task.name)
        files.write_atomically(path, lambda file: table.to_parquet(file, index=False))
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
