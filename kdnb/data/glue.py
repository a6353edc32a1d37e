"""GLUE as the paper splits it (arXiv 2301.12609, A.1, Table 6), and QQP, which it has not, in the same way.

Read from GLUE's own files, else from the hub.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from kdnb import files, paths
from kdnb.catalog import Task
from kdnb.data.hub_sets import HOLDOUT_SEED, HubSet, holdout, load, stacked, tidy

HUB_REPO = "nyu-mll/glue"
HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
# How many rows are cut out of GLUE's train split, and as which split.
HELD_OUT = {
    "mrpc": None, "qnli": ("validation", 5000), "sst2": ("test", 1800), "mnli": ("validation", 9815),
    "qqp": ("validation", 10000),
}  # fmt: skip

# sha256 of the held-out row numbers (ascending, little-endian int64) at GLUE's official sizes.
HELD_OUT_SHA256 = {
    "qnli": "e4881998e6056eedd02dcbc6c1c03799fd10a1517593d2a1a9fd58b23b865253",
    "sst2": "8958ad6163f76b26a825f1e24d98181119559ef80264a1820708744e839f05bd",
    "mnli": "7d219754c3d41253b00e4594377f6c57d1af95fb1f4bf7cee3494dbdeded840d",
    "qqp": "c16b440eac1f9291cdd14b0e226556f081e95141e33e970e3b132596a357d104",
}


def read(task: Task) -> pd.DataFrame:
    """All examples of a GLUE task, cut as in `HELD_OUT`: columns split, text, text2, label.

    Raises:
        HubUnreachable: neither GLUE's files nor the hub are to be had.
        ValueError: a file lacks a column or holds an unknown label.
    """
    folder = paths.GLUE / task.glue_folder
    parts = _from_files(task, folder) if folder.is_dir() else _from_hub(task, folder)
    if cut := HELD_OUT[task.name]:
        split, size = cut
        train = parts["train"]
        kept, held = holdout(len(train), size, task.title)
        if len(train) == task.sizes[0] + size:
            _keep(task, held, split)
        parts[split], parts["train"] = train.iloc[held], train.iloc[kept]
    return stacked(parts)


def hub_set(task: Task) -> HubSet:
    """A GLUE task's splits on the hub. The others there carry hidden labels and are never scored."""
    test = {"mrpc": "test", "qnli": "validation", "mnli": "validation_matched", "qqp": "validation"}.get(task.name)
    wanted = {"train": "train", "validation": "validation" if task.name in ("mrpc", "sst2") else None, "test": test}
    files = {ours: f"{task.hub_name}/{theirs}-*.parquet" for ours, theirs in wanted.items() if theirs}
    return HubSet(repo=HUB_REPO, revision=HUB_REVISION, files=files, config=task.hub_name)


def _keep(task: Task, held: np.ndarray, split: str) -> None:
    """Check that the rows held out of an official train file are the pinned ones, and keep their list for others."""
    digest = hashlib.sha256(held.astype("<i8").tobytes()).hexdigest()
    if digest != HELD_OUT_SHA256[task.name]:
        raise ValueError(
            f"{task.title}: numpy {np.__version__} draws other held-out rows than the study's; "
            "install the versions of constraints.txt"
        )
    path = paths.DATA_CACHE / "built" / f"{task.name}-held-out.json"
    content = {
        "task": task.name,
        "of": "train",
        "rows": task.sizes[0] + len(held),
        "held_out_as": split,
        "seed": HOLDOUT_SEED,
        "sha256": digest,
        "row_numbers": held.tolist(),
    }
    if not path.exists() and os.access(paths.DATA_CACHE, os.W_OK):  # a shared cache may be read-only
        files.write_atomically(path, json.dumps(content).encode())


def _from_files(task: Task, folder: Path) -> dict[str, pd.DataFrame]:
    """GLUE's own TSV layout; MRPC's labelled test file is msr_paraphrase_test.txt."""
    other = {
        "mrpc": {"validation": "dev.tsv", "test": "msr_paraphrase_test.txt"},
        "qnli": {"test": "dev.tsv"},
        "sst2": {"validation": "dev.tsv"},
        "mnli": {"test": "dev_matched.tsv"},
        "qqp": {"test": "dev.tsv"},
    }[task.name]
    columns = {"mrpc": ("#1 String", "#2 String"), "mnli": ("sentence1", "sentence2")}.get(task.name, task.columns)
    label = {"mrpc": "Quality", "mnli": "gold_label", "qqp": "is_duplicate"}.get(task.name, "label")
    skip_short = task.name == "qqp"  # GLUE's files hold a few rows without a label; the hub has left them out
    return {
        split: tidy(_read_tsv(folder / file, skip_short), task, columns, label, folder / file)
        for split, file in {"train": "train.tsv", **other}.items()
    }


def _read_tsv(path: Path, skip_short: bool) -> pd.DataFrame:
    """Tabs separate, quotes are text; "null" and the like are words, not gaps; blank lines are none. A row with too
    few fields is an error, or is left out (skip_short)."""
    try:
        # Lines are cut by hand: some of GLUE's rows carry more fields than the header names.
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            rows = [line.rstrip("\r\n").split("\t") for line in file if line.strip()]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, expected GLUE's own layout") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text") from None
    if len(rows) < 2:
        raise ValueError(f"{path}: no rows, expected GLUE's own file")
    header, *rows = rows
    if skip_short:
        rows = [row for row in rows if len(row) >= len(header)]
    for number, row in enumerate(rows, 1):
        if len(row) < len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} fields, expected {len(header)}")
    return pd.DataFrame([row[: len(header) - 1] + row[-1:] for row in rows], columns=header, dtype=object)


def _from_hub(task: Task, folder: Path) -> dict[str, pd.DataFrame]:
    """The hub's Parquet at the pinned commit."""
    where = hub_set(task)
    instead = "put GLUE's own files there, or take an embedded task such as rt"
    tables = load(where, task.title, missing=f"no folder {folder}", instead=instead)
    return {
        split: tidy(table, task, task.columns, where.label, f"{where.repo}/{where.files[split]}")
        for split, table in tables.items()
    }
