"""The run store: named arrays under the hash of what made them, whole or not at all.

outputs/runs/<run_id>/ holds config.json, history.csv, arrays.npz and metrics.json; metrics.json also holds the hash of
every file, its own included, so that a single flipped byte is found. Labels are the same for all runs on the same
data: they lie once beside the runs, in outputs/labels/<fingerprint>.npz, and each run holds the hash of theirs.
"""

import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdnb import files, paths
from kdnb.core import metrics as measures
from kdnb.core.config import SPLITS, Identity, RunConfig
from kdnb.errors import DamagedRun, OldRun, StoreError

FILES = ("config.json", "history.csv", "arrays.npz")
LABELS = "labels"  # the name under which a run keeps the hash of its labels' file
OLD = "logits.npz"  # logits and labels of a run, before labels were kept once
FORMAT = 2  # of what is written; 1 was `OLD`, and runs that do not say it are of 2
CURVES = ["step", "epoch", "loss", "running_entropy", "train_entropy", "test_entropy"]  # a run's history
# what a file that is not as it should be may raise
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError)

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Record:
    """What the store keeps under a name.

    config: the flat fields that name it.
    arrays: name -> array.
    metrics: what was measured, and "cost": what it took, where.
    history: rows of numbers over the training.
    labels: name -> array, those of the data; empty where the record has none.
    """

    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    labels: dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """A finished classification run: the view of a record in which arrays are logits.

    logits: split -> (N, K) float32 in the split's order.
    labels: split -> (N,) int64.
    metrics: split -> name -> value, and "cost": what it took, where.
    history: rows of the entropy curves.
    """

    config: RunConfig
    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    metrics: dict[str, Any]
    history: list[dict[str, float]]

    @property
    def run_id(self) -> str:
        """The run's name in the store."""
        return self.config.run_id()


def folder(run_id: str) -> Path:
    """Where a run lies, or would: in the store, else among the committed reference runs; ValueError for a path."""
    own, reference = (paths.child(store, run_id) for store in (paths.RUNS, paths.REFERENCE))
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
        files.check_writable(paths.RUNS)
    except OSError as error:
        raise StoreError(
            f"cannot write to {paths.RUNS}: {error.strerror}; set KDNB_OUTPUTS to another folder"
        ) from None


def save(run: Run) -> None:
    """Write a classification run, as `write` does."""
    arrays = {split: run.logits[split].astype(np.float32) for split in SPLITS}
    labels = {split: run.labels[split].astype(np.int64) for split in SPLITS}
    write(run.config, arrays, run.metrics, run.history, (run.config.data, labels))


def write(
    identity: Identity,
    arrays: Arrays,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]] = (),
    labels: tuple[str, Arrays] | None = None,
) -> None:
    """Write a record: into a folder beside its place, synced, then renamed. Nothing is left behind by a failure.

    Args:
        identity: what names it.
        arrays: name -> array.
        metrics: JSON values.
        history: rows with the same columns.
        labels: (fingerprint of the data, name -> array), kept once for all records on the same data.
    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    check_writable()
    target = paths.RUNS / identity.run_id()
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=paths.RUNS))
    try:
        sums = keep_labels(labels_path(labels[0], target.parent), labels[1]) if labels else {}
        content = {"config.json": identity.to_json().encode(), "history.csv": files.table(history, ["step"])}
        write_content(scratch, {**content, "arrays.npz": files.pack(arrays)}, metrics, sums)
        if target.is_dir():  # another process was first: the same content, by its name
            return
        os.rename(scratch, target)
        files.sync(paths.RUNS)
    except OSError as error:
        if target.is_dir():
            return
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise StoreError(
            f"cannot write run {target.name} to {paths.RUNS}: {error.strerror}"
            + ("; free some space and start again, finished runs are kept" if full else "")
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(run_id: str) -> Run:
    """A stored classification run, checked byte by byte; its metrics are those of its logits and labels.

    Raises:
        FileNotFoundError: there is none of that name.
        OldRun: it was written by another version.
        DamagedRun: a file is missing or altered, or does not follow from the others.
    """
    record = read(run_id)
    try:
        config = RunConfig.from_dict(record.config)
        logits = {split: record.arrays[split].astype(np.float32, copy=False) for split in SPLITS}
        labels = {split: record.labels[split] for split in SPLITS}
        for split in SPLITS:
            measures.check(record.metrics[split], logits[split], labels[split])
        if list(record.history[0] if record.history else CURVES) != CURVES:
            raise DamagedRun(f"history.csv has the columns {', '.join(record.history[0])}, not {', '.join(CURVES)}")
        if not isinstance(record.metrics["cost"]["seconds"], int | float):
            raise DamagedRun("its cost has no seconds")
    except UNREADABLE as error:
        raise damaged(run_id, error) from None
    return Run(config, logits, labels, record.metrics, record.history)


def read(run_id: str) -> Record:
    """A stored record, checked byte by byte; raises as `load`."""
    metrics, sums = read_metrics(run_id)
    where = folder(run_id)
    if OLD in sums:
        raise OldRun(f"run {run_id} was written by an earlier version; convert the store once with `kdnb runs migrate`")
    try:
        raw = {name: files.ordinary(where / name) for name in FILES}
        for name in FILES:
            if hashlib.sha256(raw[name]).hexdigest() != sums.get(name):
                raise DamagedRun(f"{name} is not what was written")
        if hashlib.sha256(raw["config.json"]).hexdigest()[:12] != run_id.rpartition("-")[2]:
            raise DamagedRun("config.json belongs to another run")
        config = json.loads(raw["config.json"])
        arrays = files.unpack(raw["arrays.npz"])
        labels = _labels(labels_path(config["data"], where.parent), sums[LABELS]) if LABELS in sums else {}
        history = files.rows(raw["history.csv"], "history.csv")
    except UNREADABLE as error:
        raise damaged(run_id, error) from None
    return Record(config, arrays, metrics, history, dict(labels))


def kind_of(run_id: str) -> str:
    """Of what kind a record is; "" for a classification run, and for one whose config cannot be read."""
    return str(files.read_json(folder(run_id) / "config.json").get("kind", ""))


def config_of(run_id: str) -> RunConfig | None:
    """A stored run's config, read once a process, whatever else of it is damaged; None if none is as written."""
    try:
        return _config_in(folder(run_id))
    except UNREADABLE:
        return None


@functools.lru_cache(maxsize=8192)
def _config_in(where: Path) -> RunConfig:
    """A run's config, read once, since few teachers teach many; what its name's hash does not prove is an error."""
    config = RunConfig.from_dict(json.loads(files.ordinary(where / "config.json")))
    if config.run_id() != where.name:
        raise ValueError(f"config.json in {where} belongs to another run")
    return config


def load_validation(run_id: str) -> dict[str, float]:
    """The validation metrics of a stored run, checked, all that a selection may see: no logits. Raises as `load`."""
    return read_metrics(run_id)[0]["validation"]


def labels_path(fingerprint: str, store: Path) -> Path:
    """Where the labels of some data lie, beside the runs of a store; ValueError for a fingerprint that is a path."""
    return paths.child(store.parent / "labels", f"{fingerprint}.npz")


def metrics_bytes(metrics: Mapping[str, Any], sums: Mapping[str, str]) -> bytes:
    """Canonical JSON of the metrics, closed by the hashes of the files and of itself."""
    kept = {name: value for name, value in sums.items() if name != "metrics.json"}
    body = {**metrics, "sha256": kept}
    own = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**body, "sha256": {**kept, "metrics.json": own}}, sort_keys=True, indent=1) + "\n").encode()


def write_content(
    scratch: Path, content: Mapping[str, bytes], metrics: Mapping[str, Any], sums: Mapping[str, str]
) -> None:
    """Files by name, and metrics.json with their hashes and those of `sums`; each synced to disk."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    told = metrics_bytes({**metrics, "format": FORMAT}, {**hashes, **sums})
    for name, data in {**content, "metrics.json": told}.items():
        files.write_atomically(scratch / name, data, durable=True)
    os.chmod(scratch, 0o755)
    files.sync(scratch)


def keep_labels(path: Path, labels: Arrays) -> dict[str, str]:
    """Write the labels of some data unless they lie there, packed by whatever zlib; the hash that their runs keep."""
    there = files.kept_arrays(path) if path.is_file() else None
    if there is None or not files.same_arrays(there, labels):
        files.write_atomically(path, files.pack(labels), durable=True)
    return {LABELS: files.sha256(path)}


def _labels(path: Path, digest: str) -> dict[str, np.ndarray]:
    """The labels of some data, checked against the hash that a run keeps of them."""
    status = path.stat()
    found, labels = _read_labels(path, status.st_mtime_ns, status.st_size)
    if found != digest:
        raise DamagedRun(f"labels/{path.name} is not what was written")
    return labels


@functools.lru_cache(maxsize=32)
def _read_labels(path: Path, _changed: int, _size: int) -> tuple[str, dict[str, np.ndarray]]:
    """Hash and content of a file of labels, read once while it stays as it is; the arrays cannot be written to."""
    raw = files.ordinary(path)
    labels = files.unpack(raw)
    for array in labels.values():
        array.setflags(write=False)
    return hashlib.sha256(raw).hexdigest(), labels


def read_metrics(run_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A stored run's metrics and the hashes of its files; raises as `load`."""
    where = folder(run_id)
    if not where.is_dir():
        raise FileNotFoundError(f"no run {run_id!r} in {paths.RUNS}")
    try:
        raw = files.ordinary(where / "metrics.json")
        metrics = json.loads(raw)
        sums = metrics.pop("sha256")
        if metrics_bytes(metrics, sums) != raw:
            raise DamagedRun("metrics.json is not what was written")
    except UNREADABLE as error:
        raise damaged(run_id, error) from None
    if (known := metrics.pop("format", FORMAT)) != FORMAT:
        raise OldRun(f"run {run_id} is of format {known}, this version of kdnb reads {FORMAT}: take another one")
    return metrics, sums


def damaged(run_id: str, error: Exception) -> DamagedRun:
    """What is wrong with a run, as the error to be raised."""
    why = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", "") or error
    return DamagedRun(f"run {run_id}: {why}")
