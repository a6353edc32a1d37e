"""IDX files as MNIST and Fashion-MNIST ship them, made tiny here."""

import gzip
import hashlib
import re
import sys

import numpy as np
import pytest

from kdnb import paths
from kdnb.catalog import TASKS
from kdnb.cli import main
from kdnb.data import hub_sets, idx, images
from kdnb.data import splits as data
from kdnb.errors import MissingAsset

REAL = idx.folder(TASKS["fashion"])


def as_idx(array):
    """An array of bytes as an IDX file, by the format's own words."""
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def drawn(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty data cache; validation takes 4 rows, and no content is known."""
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path)
    monkeypatch.setattr(paths, "DATASETS", tmp_path / "datasets")
    monkeypatch.setattr(images, "HELD", 4)
    monkeypatch.setattr(idx, "KNOWN", {})
    data.load.cache_clear()
    yield tmp_path
    data.load.cache_clear()


def write(folder, packed=True, **changes):
    """A set of four files; `changes` replace a file's content by its name's first two words."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"train": drawn(12, 0), "t10k": drawn(6, 1)}
    for part, (pixels, labels) in made.items():
        for kind, array in (("images", pixels), ("labels", labels)):
            content = changes.get(f"{part}_{kind}", as_idx(array))
            name = f"{part}-{kind}-idx{array.ndim}-ubyte"
            (folder / f"{name}.gz" if packed else folder / name).write_bytes(
                gzip.compress(content) if packed else content
            )
    return made


@pytest.mark.parametrize("packed", [True, False], ids=["gzipped", "plain"])
@pytest.mark.parametrize("name", ["fashion", "mnist"])
def test_files_are_read_byte_by_byte_and_cut(cache, name, packed):
    made = write(cache / name, packed)
    what = data.load(name, "paper")
    held = hub_sets.holdout(12, 4)[1]
    rows = {"train": np.setdiff1d(np.arange(12), held), "validation": held, "test": np.arange(6)}
    for split, part in what.splits.items():
        pixels, labels = made["t10k" if split == "test" else "train"]
        np.testing.assert_array_equal(part.images[:, 0], pixels[rows[split]])
        np.testing.assert_array_equal(part.labels, labels[rows[split]])
    assert part.labels.dtype == np.int64


def test_debians_folder_is_looked_into(cache):
    write(cache / "datasets" / "fashion-mnist")
    assert len(data.load("fashion", "paper").splits["test"]) == 6
    assert idx.folder(TASKS["mnist"]) is None


FULL = as_idx(drawn(12, 0)[0])
BROKEN = {
    "magic": ({"train_images": b"\0\0\x0d\3" + FULL[4:]}, "no IDX file of bytes with 3 dimensions (begins 00000d03)"),
    "dimensions": ({"train_labels": FULL}, "no IDX file of bytes with 1 dimensions (begins 00000803)"),
    "empty": ({"t10k_labels": b""}, "no IDX file of bytes with 1 dimensions (begins empty)"),
    "header": ({"train_images": FULL[:10]}, "10 bytes, cut short within its sizes"),
    "truncated": ({"train_images": FULL[:-1]}, "9,423 bytes, expected 9,424 for 12 by 28 by 28"),
    "longer": ({"train_images": FULL + b"\0"}, "9,425 bytes, expected 9,424 for 12 by 28 by 28"),
    "sizes": ({"train_images": FULL[:4] + b"\xff" * 12}, "16 bytes, expected 79,228,162,458,924,105,385,300,197,391"),
    "counts": ({"train_labels": as_idx(np.zeros(11))}, "12 train images and 11 labels"),
    "pixels": ({"t10k_images": as_idx(np.zeros((6, 8, 9)))}, "test images are 8 by 9 pixels, expected 28 by 28"),
    "label": ({"t10k_labels": as_idx(np.full(6, 10))}, "labels of the test split must be 0..9, got 10..10"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_told_in_one_line(cache, case):
    changes, words = BROKEN[case]
    write(cache / "fashion", **changes)
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        data.load("fashion", "paper")
    assert "\n" not in str(refused.value)


def test_a_damaged_archive_is_named(cache):
    write(cache / "fashion")
    path = cache / "fashion" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: not readable as gzip \("):
        data.load("fashion", "paper")


def test_another_content_than_the_published_one_is_refused(cache, monkeypatch):
    write(cache / "fashion", packed=False)
    content = (cache / "fashion" / "t10k-labels-idx1-ubyte").read_bytes()
    key = ("fashion", "t10k-labels-idx1-ubyte")
    monkeypatch.setattr(idx, "KNOWN", {key: hashlib.sha256(content).hexdigest()})
    idx.read(TASKS["fashion"])
    monkeypatch.setattr(idx, "KNOWN", {key: "0" * 64})
    with pytest.raises(ValueError, match="not the file that Fashion-MNIST is published as"):
        idx.read(TASKS["fashion"])


def test_missing_files_name_the_way_out(cache):
    with pytest.raises(MissingAsset, match=r"no IDX .*fashion; install Debian's dataset-fashion-mnist, or put"):
        data.load("fashion", "paper")
    write(cache / "fashion")
    (cache / "fashion" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(MissingAsset, match=r"no t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz in "):
        data.load("fashion", "paper")


def test_the_command_says_it_in_one_line(cache, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdnb", "train", "fashion", "--profile", "demo"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason=f"no Fashion-MNIST in {paths.DATA_CACHE} or {paths.DATASETS}")
def test_fashion_mnist_has_its_sizes_and_balance():
    what = data.load("fashion", "paper")
    assert tuple(map(len, what.splits.values())) == what.task.sizes
    train = np.concatenate([what.splits["train"].labels, what.splits["validation"].labels])
    np.testing.assert_array_equal(np.bincount(train), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(what.splits["test"].labels), [1000] * 10)
