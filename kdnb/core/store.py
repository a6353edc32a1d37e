"""The run store: one folder per run, named by its config's hash, whole or not at all.

outputs/runs/<run_id>/ holds config.json, history.csv, logits.npz and metrics.json; metrics.json also
holds the hash of every file, its own included, so that a single flipped byte is found.
"""

import csv
import errno
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

from kdnb import paths
from kdnb.core.config import SPLITS, RunConfig
from kdnb.errors import DamagedRun, StoreError


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
        write(scratch, run)
        if (paths.RUNS / run.run_id).is_dir():  # another process was first: the same content, by its name
            return
        os.rename(scratch, paths.RUNS / run.run_id)
        sync(paths.RUNS)
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


FILES = ("config.json", "history.csv", "logits.npz")


def write(scratch: Path, run) -> None:
    """The four files of a `kdnb.core.store.Run` in a folder, each synced to disk."""
    arrays = {s: run.logits[s].astype(np.float32) for s in SPLITS}
    arrays |= {f"{s}_labels": run.labels[s].astype(np.int64) for s in SPLITS}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    table = io.StringIO()
    columns = list(run.history[0]) if run.history else ["step"]
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.history)
    content = {
        "config.json": run.config.to_json().encode(),
        "history.csv": table.getvalue().encode(),
        "logits.npz": packed.getvalue(),
    }
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    content["metrics.json"] = metrics_bytes(run.metrics, sums)
    for name, data in content.items():
        with open(scratch / name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    os.chmod(scratch, 0o755)
    sync(scratch)


def metrics_bytes(metrics: dict, sums: dict[str, str]) -> bytes:
    """Canonical JSON of the metrics, closed by the hash of itself."""
    body = {**metrics, "sha256": {name: sums[name] for name in FILES}}
    own = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    body["sha256"]["metrics.json"] = own
    return (json.dumps(body, sort_keys=True, indent=1) + "\n").encode()


def sync(path: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
