"""The image tasks: scikit-learn's digits, 5,000 MNIST images from a package, MNIST, Fashion-MNIST, CIFAR and others.

Fashion-MNIST comes in IDX files, MNIST too where these are there, the others from the hub. Every set is cut into
train, validation and test once, the same way everywhere. Images are bytes; what normalises them is in
kdnb.data.pixels.
"""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd

from kdnb import files, paths
from kdnb.catalog import Task
from kdnb.data import hub_sets, idx
from kdnb.data.assets import asset
from kdnb.data.hub_sets import HUB_SETS, HubSet

SEED = 42  # of the cuts of digits and mnist5k
HELD = 5000  # rows of train in IDX files that serve as validation
Parts = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> images (N, C, H, W) uint8, labels (N,) int64


def read(task: Task) -> Parts:
    """All examples of an image task.

    Raises:
        MissingAsset: the images come in a package, which is neither on this machine nor to be fetched.
        HubUnreachable: the same of images from the hub.
        ValueError: a file lacks a column, is no IDX file or damaged, or holds an image of another size.
    """
    if task.source == "files" or (task.name == "mnist" and idx.folder(task)):
        return _cut(idx.read(task), HELD, task.title)
    if task.source == "hub":
        where = HUB_SETS[task.name]
        return _cut(_decoded_parts(task, where), where.held, where.repo)
    images, labels = digits() if task.name == "digits" else _mnist5k()
    order, (_, validation, test) = np.random.default_rng(SEED).permutation(len(labels)), task.sizes
    cuts = {"train": order[test + validation :], "validation": order[test:][:validation], "test": order[:test]}
    return {split: (images[rows], labels[rows]) for split, rows in cuts.items()}


def toy(task: Task) -> Parts:
    """Generated images of 8 by 8 pixels: a random pattern per class under as much noise; one label in ten is wrong."""
    rng, size = np.random.default_rng(task.num_classes + 10 * task.shape[0]), (task.shape[0], 8, 8)
    patterns, parts = rng.integers(0, 128, (task.num_classes, *size)), {}
    for split, count in {"train": 64, "validation": 32, "test": 32}.items():
        labels = rng.permutation(np.arange(count) % min(task.num_classes, 10))
        images = patterns[labels] + rng.integers(0, 128, (count, *size))
        wrong = rng.random(count) < 0.1
        labels = np.where(wrong, rng.integers(task.num_classes, size=count), labels)
        parts[split] = images.astype(np.uint8), labels.astype(np.int64)
    return parts


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits: images (1797, 1, 8, 8) uint8 of levels 0 to 16, labels (1797,) int64."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """500 images of each digit out of MNIST: lines of 784 pixels and the label."""
    table = pd.read_csv(asset("mnist5k") / "mnist_5k.csv.gz", header=None).to_numpy()
    return table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)


def _cut(parts: Parts, held_rows: int, where: str) -> Parts:
    """Train, cut into train and validation, and test, from train and test as they are published."""
    images, labels = parts["train"]
    kept, held = hub_sets.holdout(len(labels), held_rows, where)
    train, validation = (images[kept], labels[kept]), (images[held], labels[held])
    return {"train": train, "validation": validation, "test": parts["test"]}


def _decoded_parts(task: Task, where: HubSet) -> Parts:
    """The decoded images, kept in the data cache under a name made of their files' own hashes: decoding takes a while.

    What comes through the hub's own client lies in that one's cache and is decoded anew.
    """
    path = _kept_at(task, where)
    if path and (kept := files.kept_arrays(path)):
        return {split: (kept[f"{split}_images"], kept[f"{split}_labels"]) for split in where.files}
    instead = hub_sets.way_out(task, "take digits or mnist5k")
    tables = hub_sets.load(where, task.title, instead=instead)
    parts = {split: _decoded(task, where, table, f"{where.repo} {split}") for split, table in tables.items()}
    if path and os.access(paths.DATA_CACHE, os.W_OK):  # a shared cache may be read-only
        arrays = {f"{split}_images": images for split, (images, _) in parts.items()}
        arrays |= {f"{split}_labels": labels for split, (_, labels) in parts.items()}
        files.write_atomically(path, lambda file: np.savez(file, **arrays))
    return parts


def _kept_at(task: Task, where: HubSet) -> Path | None:
    """Where the decoded images of the files on this machine are kept; None without such files."""
    try:
        local = hub_sets.local_files(where)
    except FileNotFoundError:  # told when they are read
        return None
    if not local:
        return None
    sums = "".join(files.sha256(path) for split in ("train", "test") for path in local[split])
    return paths.DATA_CACHE / "built" / f"{task.name}-{hashlib.sha256(sums.encode()).hexdigest()[:16]}.npz"


def _decoded(task: Task, where: HubSet, table: pd.DataFrame, whose: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) uint8 from encoded files, and labels (N,); grey ones among colored ones become colored."""
    from PIL import Image

    for column in (where.example, where.label):
        if column not in table:
            raise ValueError(f"{whose}: no column {column!r}, found {', '.join(map(str, table.columns))}")
    images = np.empty((len(table), *task.shape), dtype=np.uint8)
    for row, cell in enumerate(table[where.example]):
        try:
            with Image.open(io.BytesIO(cell["bytes"])) as picture:
                pixels = np.asarray(picture.convert("RGB" if task.shape[0] == 3 else "L"))
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{whose}: row {row + 1} holds no image ({error})") from None
        if pixels.shape[:2] != task.shape[1:]:
            size = " by ".join(map(str, pixels.shape[:2]))
            raise ValueError(f"{whose}: row {row + 1} is {size} pixels, expected {task.shape[1]} by {task.shape[2]}")
        images[row] = pixels.reshape(*task.shape[1:], -1).transpose(2, 0, 1)
    return images, table[where.label].to_numpy(dtype=np.int64)
