"""IDX files, as MNIST and Fashion-MNIST ship them, gzipped or not: a magic number, the sizes, bytes.

They are looked for in data_cache/<task>/ and where Debian's package puts them; nothing is fetched here.
"""

import hashlib
from pathlib import Path

import numpy as np

from kdnb import files, paths
from kdnb.catalog import Task
from kdnb.data.table_files import unzipped
from kdnb.errors import MissingAsset

PARTS = {"train": "train", "test": "t10k"}  # our split -> how its files begin
KINDS = {"images": 3, "labels": 1}  # dimensions of each file of a split
PACKAGES = {"fashion": ("dataset-fashion-mnist", "fashion-mnist")}  # Debian's package, and its folder in DATASETS
KNOWN = {  # sha256 of what the files hold, gzipped or not
    ("fashion", "train-images-idx3-ubyte"): "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ("fashion", "train-labels-idx1-ubyte"): "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ("fashion", "t10k-images-idx3-ubyte"): "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ("fashion", "t10k-labels-idx1-ubyte"): "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def folder(task: Task) -> Path | None:
    """The folder that holds a task's IDX files, or some of them; None if there is none."""
    places = [paths.DATA_CACHE / task.name, *(paths.DATASETS / where for _, where in _package(task))]
    names = [_name(split, kind) for split in PARTS for kind in KINDS]
    return next((place for place in places if any(_file(place, name) for name in names)), None)


def read(task: Task) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Train and test: images (N, C, H, W) uint8 and labels (N,) int64, in the files' order.

    Raises:
        MissingAsset: a file is not there.
        ValueError: a file is no IDX file, is cut short, is not the published one where that is known, or images and
            labels do not belong together.
    """
    where, parts = folder(task), {}
    if where is None:
        raise MissingAsset(f"{task.title}: no IDX files in {paths.DATA_CACHE / task.name}; {way_out(task)}")
    for split in PARTS:
        images, labels = (_array(task, where, split, kind) for kind in KINDS)
        if len(images) != len(labels):
            raise ValueError(f"{where}: {len(images):,} {split} images and {len(labels):,} labels")
        if images.shape[1:] != task.shape[1:]:
            size = " by ".join(map(str, images.shape[1:]))
            raise ValueError(f"{where}: {split} images are {size} pixels, expected {task.shape[1]} by {task.shape[2]}")
        parts[split] = images[:, None], labels.astype(np.int64)
    return parts


def way_out(task: Task) -> str:
    """How to come by a task's files, in words."""
    package = "".join(f"install Debian's {name}, or " for name, _ in _package(task))
    return f"{package}put {_name('train', 'images')}.gz and its three companions there, or take digits or mnist5k"


def parsed(content: bytes, dimensions: int, where: object) -> np.ndarray:
    """The array of an IDX file of bytes.

    Args:
        content: two zeros, type 8 (unsigned bytes), the number of dimensions, each size as four bytes, big end first,
            then the values, the last dimension fastest.
        dimensions: expected.
        where: the file, for messages.
    Raises:
        ValueError: another type or number of dimensions, too few values or too many.
    """
    magic, expected = content[:4], bytes((0, 0, 8, dimensions))
    if magic != expected:
        raise ValueError(
            f"{where}: no IDX file of bytes with {dimensions} dimensions (begins {magic.hex() or 'empty'})"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"{where}: {len(content):,} bytes, cut short within its sizes")
    sizes = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    promised = start + int(np.prod(sizes, dtype=object))
    if len(content) != promised:
        raise ValueError(f"{where}: {len(content):,} bytes, expected {promised:,} for {' by '.join(map(str, sizes))}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


def _array(task: Task, where: Path, split: str, kind: str) -> np.ndarray:
    """One file's array, checked against the published one where that is known."""
    name = _name(split, kind)
    path = _file(where, name)
    if path is None:
        raise MissingAsset(f"{task.title}: no {name} or {name}.gz in {where}; {way_out(task)}")
    raw = files.given(path)
    content = unzipped(str(path), raw) if raw[:2] == b"\x1f\x8b" else raw
    array = parsed(content, KINDS[kind], path)
    known = KNOWN.get((task.name, name))
    if known and hashlib.sha256(content).hexdigest() != known:
        raise ValueError(f"{path}: not the file that {task.title} is published as (sha256 differs)")
    return array


def _name(split: str, kind: str) -> str:
    """train-images-idx3-ubyte and its companions."""
    return f"{PARTS[split]}-{kind}-idx{KINDS[kind]}-ubyte"


def _file(where: Path, name: str) -> Path | None:
    """The file of a name in a folder, gzipped or not."""
    return next((path for path in (where / f"{name}.gz", where / name) if path.is_file()), None)


def _package(task: Task) -> list[tuple[str, str]]:
    """Debian's package of a task and its folder, if there is one."""
    return [PACKAGES[task.name]] if task.name in PACKAGES else []
