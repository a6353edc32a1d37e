"""The files of a run, as they are written: content, hashes, and synced to the disk."""

import csv
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np

from kdnb.core.config import SPLITS

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
