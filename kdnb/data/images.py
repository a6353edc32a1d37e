"""The image tasks: scikit-learn's digits, 5,000 MNIST images from a package, then MNIST, CIFAR, Tiny ImageNet.

All but the first two come from the hub. Every set is cut into train, validation and test once, the
same way everywhere. Images are bytes; what normalises them is in kdnb.data.pixels.
"""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kdnb import paths
from kdnb.catalog import Task
from kdnb.data import hub
from kdnb.data.assets import asset
from kdnb.data.glue import holdout
from kdnb.errors import HubUnreachable
from kdnb.files import sha256, write_atomically

SEED = 42  # of the cuts of digits and mnist5k
Parts = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> images (N, C, H, W) uint8, labels (N,) int64


@dataclass(frozen=True)
class HubSet:
    """An image set on the hub: its commit, the patterns of its two labelled splits' Parquet files, its columns."""

    repo: str
    revision: str
    train: str
    test: str
    image: str
    label: str
    config: str = ""  # as datasets.load_dataset calls it
    held: int = 5000  # rows cut out of train for validation


HUB_SETS = {
    "mnist": HubSet(
        "ylecun/mnist", "77f3279092a1c1579b2250db8eafed0ad422088c",
        "mnist/train-*.parquet", "mnist/test-*.parquet", "image", "label", "mnist",
    ),
    "cifar10": HubSet(
        "uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2",
        "plain_text/train-*.parquet", "plain_text/test-*.parquet", "img", "label", "plain_text",
    ),
    "cifar100": HubSet(
        "uoft-cs/cifar100", "aadb3af77e9048adbea6b47c21a81e47dd092ae5",
        "cifar100/train-*.parquet", "cifar100/test-*.parquet", "img", "fine_label", "cifar100",
    ),
    "tinyimagenet": HubSet(  # the labels of its test split are hidden: the validation split is the test here
        "zh-plus/tiny-imagenet", "5a77092c28e51558c5586e9c5eb71a7e17a5e43f",
        "data/train-*.parquet", "data/valid-*.parquet", "image", "label", "default", held=10000,
    ),
}  # fmt: skip


def read(task: Task) -> Parts:
    """All examples of an image task.

    Raises:
        MissingAsset, HubUnreachable: the images are not on this machine and cannot be fetched.
        ValueError: a file lacks a column, or holds an image of another size.
    """
    if task.name in HUB_SETS:
        return _held_out(_from_hub(task, HUB_SETS[task.name]), HUB_SETS[task.name].held)
    images, labels = _digits() if task.name == "digits" else _mnist5k()
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


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits of 8 by 8 pixels, 0 to 16."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """500 images of each digit out of MNIST: lines of 784 pixels and the label."""
    table = pd.read_csv(asset("mnist5k") / "mnist_5k.csv.gz", header=None).to_numpy()
    return table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)


def _held_out(parts: Parts, held: int) -> Parts:
    """Validation cut out of train, at random, always the same rows."""
    images, labels = parts["train"]
    if len(labels) <= held:
        raise ValueError(f"the train split has {len(labels)} rows, {held} of them are for validation: expected more")
    kept, out = holdout(len(labels), held)
    return {"train": (images[kept], labels[kept]), "validation": (images[out], labels[out]), "test": parts["test"]}


def _from_hub(task: Task, where: HubSet) -> Parts:
    """Train and test from Parquet at the pinned commit: fetched, else from a local mirror, else from the hub."""
    patterns = {"train": where.train, "test": where.test}
    folder = hub.local(where.repo, where.revision, tuple(patterns.values()))
    try:
        if not folder:
            return {split: _decoded(task, where, table, split) for split, table in _downloaded(where).items()}
        files = {split: sorted(folder.glob(pattern)) for split, pattern in patterns.items()}
        if missing := [split for split in files if not files[split]]:
            raise FileNotFoundError(f"no file {folder / patterns[missing[0]]}")
    except (OSError, RuntimeError) as error:
        raise HubUnreachable(
            f"{task.title}: nothing of {where.repo} here and nothing from the hub ({str(error).splitlines()[0]}); "
            f"bring it with `kdnb fetch --tasks {task.name}`, or take digits or mnist5k"
        ) from None
    return _kept(task, where, files)


def _downloaded(where: HubSet) -> dict[str, pd.DataFrame]:
    """split -> table with encoded images, through the hub's own client and its cache."""
    hub.prepare()
    from datasets import Image, load_dataset

    test = Path(where.test).name.partition("-")[0]
    try:
        found = load_dataset(where.repo, where.config, revision=where.revision)
    except ValueError as error:  # so the client says that its cache holds nothing
        raise RuntimeError(str(error)) from None
    encoded = {"train": found["train"], "test": found[test]}
    return {s: part.cast_column(where.image, Image(decode=False)).to_pandas() for s, part in encoded.items()}


def _kept(task: Task, where: HubSet, files: dict[str, list[Path]]) -> Parts:
    """The decoded images, kept in the data cache under a name made of the files' own hashes: decoding takes a while."""
    digest = hashlib.sha256("".join(map(sha256, files["train"] + files["test"])).encode()).hexdigest()[:16]
    path = paths.DATA_CACHE / "built" / f"{task.name}-{digest}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return {split: (kept[f"{split}_images"], kept[f"{split}_labels"]) for split in files}
    parts = {}
    for split, found in files.items():
        tables = [_columns(pd.read_parquet(file), where, file) for file in found]
        parts[split] = _decoded(task, where, pd.concat(tables, ignore_index=True), f"{where.repo} {split}")
    arrays = {f"{s}_{what}": a for s, pair in parts.items() for what, a in zip(("images", "labels"), pair, strict=True)}
    if os.access(paths.DATA_CACHE, os.W_OK):  # a shared cache may be read-only
        write_atomically(path, lambda file: np.savez(file, **arrays))
    return parts


def _columns(table: pd.DataFrame, where: HubSet, file: Path) -> pd.DataFrame:
    for column in (where.image, where.label):
        if column not in table:
            raise ValueError(f"{file}: no column {column!r}, found {', '.join(map(str, table.columns))}")
    return table[[where.image, where.label]]


def _decoded(task: Task, where: HubSet, table: pd.DataFrame, told: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) uint8 from encoded files, and labels (N,); grey ones among colored ones become colored."""
    from PIL import Image

    images = np.empty((len(table), *task.shape), dtype=np.uint8)
    for row, cell in enumerate(table[where.image]):
        try:
            with Image.open(io.BytesIO(cell["bytes"])) as picture:
                pixels = np.asarray(picture.convert("RGB" if task.shape[0] == 3 else "L"))
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{told}: row {row + 1} holds no image ({error})") from None
        if pixels.shape[:2] != task.shape[1:]:
            size = " by ".join(map(str, pixels.shape[:2]))
            raise ValueError(f"{told}: row {row + 1} is {size} pixels, expected {task.shape[1]} by {task.shape[2]}")
        images[row] = pixels.reshape(*task.shape[1:], -1).transpose(2, 0, 1)
    return images, table[where.label].to_numpy(dtype=np.int64)
