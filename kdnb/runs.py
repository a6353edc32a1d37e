"""The run store: one folder per run, named by its config's hash, whole or not at all.

outputs/runs/<run_id>/ holds config.json, history.csv, logits.npz and metrics.json; metrics.json also
holds the hash of every file, its own included, so that a single flipped byte is found.
"""

import csv
import errno
import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdnb import paths, run_files
from kdnb.config import SPLITS, RunConfig
from kdnb.run_files import FILES, metrics_bytes


class DamagedRun(ValueError):
    """A stored run is not what was written."""


class StoreError(OSError):
    """The outputs folder cannot be written; the message says why."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    logits: split -> (N, K) float32 in the split's order. labels: split -> (N,) int64.
    metrics: split -> name -> value, and "cost": what it took, where. history: rows of the entropy curves.
    """

    config: RunConfig
    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    metrics: dict
    history: list[dict]

    @property
    def run_id(self) -> str:
        """The run's name in the store."""
        return self.config.run_id()


def folder(run_id: str) -> Path:
    """Where a run lies, or would: in the store, else among the committed reference runs."""
    own, reference = paths.RUNS / run_id, paths.REFERENCE / run_id
    return reference if reference.is_dir() and not own.is_dir() else own


def exists(run_id: str) -> bool:
    """Whether the store has a run of this name (valid or not; `load` decides that)."""
    return folder(run_id).is_dir()


def stored_ids() -> list[str]:
    """Names of all runs in the store and among the reference runs, sorted."""
    stores = [store for store in (paths.RUNS, paths.REFERENCE) if store.is_dir()]
    entries = [entry for store in stores for entry in os.scandir(store)]
    return sorted({entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()})


def check_writable() -> None:
    """Raise StoreError, before any work is done, if runs could not be saved."""
    try:
        paths.RUNS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=paths.RUNS):
            pass
    except OSError as error:
        raise StoreError(
            f"cannot write to {paths.RUNS}: {error.strerror}; set KDNB_OUTPUTS to another folder"
        ) from None


def save(run: Run) -> None:
    """Write a run: into a folder beside it, synced, then renamed. Nothing is left behind by a failure.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    check_writable()
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=paths.RUNS))
    try:
        run_files.write(scratch, run)
        if (paths.RUNS / run.run_id).is_dir():  # another process was first: the same content, by its name
            return
        os.rename(scratch, paths.RUNS / run.run_id)
        run_files.sync(paths.RUNS)
    except OSError as error:
        if (paths.RUNS / run.run_id).is_dir():
            return
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise StoreError(
            f"cannot write run {run.run_id} to {paths.RUNS}: {error.strerror}"
            + ("; free some space and start again, finished runs are kept" if full else "")
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(run_id: str) -> Run:
    """A stored run, checked byte by byte.

    Raises:
        FileNotFoundError: there is none of that name. DamagedRun: a file is missing or altered.
    """
    metrics, sums = _metrics(run_id)
    try:
        raw = {name: (folder(run_id) / name).read_bytes() for name in FILES}
        for name in FILES:
            if hashlib.sha256(raw[name]).hexdigest() != sums.get(name):
                raise DamagedRun(f"{name} is not what was written")
        config = RunConfig.from_dict(json.loads(raw["config.json"]))
        if config.run_id() != run_id:
            raise DamagedRun("config.json belongs to another run")
        with np.load(io.BytesIO(raw["logits.npz"]), allow_pickle=False) as arrays:
            logits = {split: arrays[split] for split in SPLITS}
            labels = {split: arrays[f"{split}_labels"] for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _damaged(run_id, error) from None
    history = list(csv.DictReader(io.StringIO(raw["history.csv"].decode())))
    history = [{name: float(value) for name, value in row.items()} for row in history]
    return Run(config, logits, labels, metrics, history)


def config(run_id: str) -> RunConfig | None:
    """The config of a stored run, whatever else of it is damaged; None if it is not stored or not what was written."""
    try:
        return _config_in(folder(run_id))
    except (OSError, ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=1024)
def _config_in(where: Path) -> RunConfig:
    """A run's config, read once, since few teachers teach many; what its name's hash does not prove is an error."""
    found = RunConfig.from_dict(json.loads((where / "config.json").read_bytes()))
    if found.run_id() != where.name:
        raise ValueError(f"config.json in {where} belongs to another run")
    return found


def load_validation(run_id: str) -> dict[str, float]:
    """The validation metrics of a stored run, checked: all that a selection may see. No logits are opened.

    Raises: as `load`.
    """
    return _metrics(run_id)[0]["validation"]


def set_aside(run_id: str) -> Path:
    """Move a damaged run out of the store, keeping its bytes; returns where it went.

    A reference run stays where it is: the one trained in its place goes into the store and is found first.
    """
    if folder(run_id).parent == paths.REFERENCE:
        return folder(run_id)
    paths.DAMAGED.mkdir(parents=True, exist_ok=True)
    target = paths.DAMAGED / f"{run_id}-{time.strftime('%Y%m%dT%H%M%S')}"
    while target.exists():
        target = target.with_name(f"{target.name}x")
    os.rename(folder(run_id), target)
    return target


def _metrics(run_id: str) -> tuple[dict, dict[str, str]]:
    """A stored run's metrics and the hashes of its files; raises as `load`."""
    where = folder(run_id)
    if not where.is_dir():
        raise FileNotFoundError(f"no run {run_id!r} in {paths.RUNS}")
    try:
        raw = (where / "metrics.json").read_bytes()
        metrics = json.loads(raw)
        sums = metrics.pop("sha256")
        if metrics_bytes(metrics, sums) != raw:
            raise DamagedRun("metrics.json is not what was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(run_id, error) from None
    return metrics, sums


def _damaged(run_id: str, error: Exception) -> DamagedRun:
    return DamagedRun(f"run {run_id}: {error.strerror if isinstance(error, OSError) else error}")
