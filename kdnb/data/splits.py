"""Checked splits of any task at any profile's size, and their fingerprint."""

import functools
import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from kdnb import files, paths
from kdnb.catalog import PROFILES, Task, defaults, task_named
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
    """A task's three splits, and the fingerprint that names them.

    available: split -> how many rows there were to choose from.
    notes: what there is to tell of the files they come from, a line each.
    """

    task: Task
    splits: dict[str, Split]
    fingerprint: str
    available: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How many rows of each split are kept at most: None for the profile's number, 0 for all.

    Raises ValueError for a number below 0.
    """

    train: int | None = None
    validation: int | None = None
    test: int | None = None

    def __post_init__(self):
        for split, count in vars(self).items():
            if count is not None and count < 0:
                raise ValueError(f"--{split}-rows must be >= 0 (0 takes all), got {count}")


AS_PROFILE = Rows()


@functools.lru_cache(maxsize=16)
def load(task: str, profile: str, rows: Rows = AS_PROFILE) -> TaskData:
    """The splits of a task at a profile's size.

    Args:
        task: a key of TASKS, with "@0.2" behind it for label noise.
        profile: a key of PROFILES; "toy" generates its examples.
        rows: to keep instead of the profile's.
    Raises:
        ValueError: unknown task, a broken file, a hidden label (-1) or an empty split.
        MissingAsset: the examples come in a package, which is neither on this machine nor to be fetched.
        HubUnreachable: the same of examples from the hub.
    """
    what, clean = task_named(task), task_named(task.partition("@")[0])
    splits = TOYS[what.modality](what) if profile == "toy" else READERS[what.modality, what.source](clean)
    return checked(what, splits, profile, rows)


def make(task: Task, table: pd.DataFrame, profile: str, rows: Rows = AS_PROFILE) -> TaskData:
    """TaskData from a table with columns split, text, text2, label; otherwise as `checked`."""
    return checked(task, of_texts(task, table), profile, rows)


def of_texts(task: Task, table: pd.DataFrame) -> dict[str, Split]:
    """The splits in a table with columns split, text, text2, label."""
    splits = {}
    for name in SPLITS:
        part = table[table.split == name]
        text2 = part.text2.tolist() if task.pair else None
        splits[name] = Split(part.text.tolist(), text2, np.array(part.label, dtype=np.int64))
    return splits


def of_images(parts: images.Parts) -> dict[str, Split]:
    """The splits of images (N, C, H, W) uint8 and labels (N,)."""
    return {name: Split([], None, labels, pixels) for name, (pixels, labels) in parts.items()}


def checked(task: Task, splits: dict[str, Split], profile: str, rows: Rows = AS_PROFILE) -> TaskData:
    """TaskData from all examples of a task: each split checked and capped, label noise in train, a fingerprint.

    Rows beyond a cap are dropped at random, always the same ones.

    Args:
        task: whose labels they are.
        splits: train, validation and test, in this order.
        profile: decides the caps.
        rows: to keep instead of the profile's.
    Raises:
        ValueError: an empty split, or a label that is not in 0..K-1.
    """
    size, capped = PROFILES[profile], dict(splits)
    caps = {
        "train": defaults(profile, task.name).train_rows,
        "validation": size.validation_rows,
        "test": size.test_rows,
    }
    caps |= {name: count for name, count in vars(rows).items() if count is not None}
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"{task.name}: the {name} split is empty")
        if split.labels.min() < 0 or split.labels.max() >= task.num_classes:
            raise ValueError(
                f"{task.name}: labels of the {name} split must be 0..{task.num_classes - 1}, "
                f"got {split.labels.min()}..{split.labels.max()} (-1 marks hidden labels, which are never scored)"
            )
        if 0 < caps[name] < len(split):
            chosen = np.random.default_rng(SUBSET_SEED).permutation(len(split))[: caps[name]]
            capped[name] = split.take(np.sort(chosen))
    if task.label_noise:
        capped["train"] = _noisy(capped["train"], task)
    available = {name: len(split) for name, split in splits.items()}
    return TaskData(task, capped, _fingerprint(task, capped), available)


def _noisy(split: Split, task: Task) -> Split:
    """The split with a share of its labels, exactly, drawn anew from all classes, the true one among them.

    Exactly, since the task's name says the share and two seeds of the study are to meet one amount of noise. The toys
    of kdnb.studies.deviations.toys draw it for each example instead, as their theory has it.
    """
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


READERS = {  # all examples of a task, by its modality and source
    ("text", "glue"): lambda task: of_texts(task, glue.read(task)),
    ("text", "embedded"): lambda task: of_texts(task, _built(task)),
    ("text", "hub"): lambda task: of_texts(task, hub_sets.read(task)),
    ("image", "package"): lambda task: of_images(images.read(task)),
    ("image", "files"): lambda task: of_images(images.read(task)),
    ("image", "hub"): lambda task: of_images(images.read(task)),
}
TOYS = {  # generated examples of a task, by its modality
    "text": lambda task: of_texts(task, _toy_table(task)),
    "image": lambda task: of_images(images.toy(task)),
}
