"""Runs that an earlier version wrote, brought into today's form: no bit of any array changes, and no name."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from kdnb import files, paths
from kdnb.core import store
from kdnb.core.config import SPLITS
from kdnb.errors import DamagedRun, StoreError


def is_old(run_id: str) -> bool:
    """Whether a run was written before labels were kept once."""
    where = store.folder(run_id)
    return (where / store.OLD).exists() and not (where / "arrays.npz").exists()


def migrate(run_id: str) -> bool:
    """Bring a run that an earlier version wrote into today's form, in its place; whether there was anything to do.

    Logits, labels, metrics, history and name stay as they are, bit for bit.

    Raises:
        FileNotFoundError: there is none of that name.
        DamagedRun: it is not what was written, and is left as it is.
        StoreError: the folder cannot be written.
    """
    if not is_old(run_id):
        return False
    where = store.folder(run_id)
    metrics, sums = store.read_metrics(run_id)
    try:
        for name in ("config.json", "history.csv", store.OLD):
            if hashlib.sha256(files.ordinary(where / name)).hexdigest() != sums.get(name):
                raise DamagedRun(f"{name} is not what was written")
        config = json.loads(files.ordinary(where / "config.json"))
        stored = files.unpack(files.ordinary(where / store.OLD))
        logits = {split: stored[split] for split in SPLITS}
        labels = {split: stored[f"{split}_labels"] for split in SPLITS}
        beside = store.labels_path(config["data"], where.parent)
        _check_labels(beside, labels)
    except store.UNREADABLE as error:
        raise store.damaged(run_id, error) from None
    paths.check_ours(where.parent)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=where.parent))
    try:
        kept = store.keep_labels(beside, labels)
        content = {name: files.ordinary(where / name) for name in ("config.json", "history.csv")}
        store.write_content(scratch, {**content, "arrays.npz": files.pack(logits)}, metrics, kept)
        aside = where.with_name(f".old-{where.name}")
        os.rename(where, aside)
        os.rename(scratch, where)
        files.sync(where.parent)
        shutil.rmtree(aside)
    except OSError as error:
        raise StoreError(f"cannot convert run {run_id} in {where.parent}: {error.strerror}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _check_labels(path: Path, labels: dict[str, np.ndarray]) -> None:
    """Raise DamagedRun if other runs on the same data have other labels: they would not be whole without those."""
    there = files.kept_arrays(path)
    if there is not None and not files.same_arrays(there, labels):
        raise DamagedRun(f"its labels are not those of other runs on the same data, {path}")


def recover(runs: Path) -> None:
    """Put back what a `migrate` that was killed between its two renames had moved away."""
    for aside in runs.glob(".old-*") if runs.is_dir() else ():
        paths.check_ours(runs)
        where = aside.with_name(aside.name.removeprefix(".old-"))
        if where.is_dir():
            shutil.rmtree(aside)
        else:
            os.rename(aside, where)
