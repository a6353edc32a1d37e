"""Finished runs copied with fewer bytes, for a store that is committed: the same names, the same posteriors.

    KDNB_OUTPUTS=FROM python -m kdnb.experiment.compact TO        FROM/runs and FROM/labels into TO/runs and TO/labels

A copy has each example's logits less its last one, which leaves the posterior as it is and the last column zero, in
half precision. Rounding moves such a difference by at most 2**-11 of itself, a quarter of what bf16 rounds while it
trains. The metrics of a copy are those of its rounded logits, so that whoever recomputes them finds what is stored;
curves and cost stay.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from kdnb import files, paths
from kdnb.core import store
from kdnb.core.config import SPLITS
from kdnb.experiment import teachers


def compact(run_id: str, target: Path) -> bool:
    """Copy one classification run, whole or not at all; False if it is there already.

    Args:
        run_id: of a stored run; its teacher is stored too.
        target: the runs folder that the copy goes to, `labels/` beside it.
    Raises:
        DamagedRun: it is not what was written.
        ValueError: its logits are too large for half precision.
    """
    if (target / run_id).is_dir():
        return False
    run = store.load(run_id)
    most = max(float(np.abs(teachers.shifted(logits)).max()) for logits in run.logits.values())
    if most > float(np.finfo(np.float16).max):
        raise ValueError(f"run {run_id}: logits of {most:g} do not fit half precision; it is not copied")
    half = {split: teachers.halved(run.logits[split]) for split in SPLITS}
    teacher = teachers.rounded(teachers.load(run.config.teacher_run)) if run.config.teacher_run else None
    values = {"cost": {**run.metrics["cost"], "stored": "float16"}}
    for split in SPLITS:
        values[split] = teachers.summary(half[split].astype(np.float32), run.labels[split], teacher, split)
    content = {name: files.ordinary(store.folder(run_id) / name) for name in ("config.json", "history.csv")}
    labels = store.labels_path(run.config.data, target)
    for folder in (target, labels.parent):
        folder.mkdir(parents=True, exist_ok=True)
    sums = store.keep_labels(labels, run.labels)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=target))
    try:
        store.write_content(scratch, {**content, "arrays.npz": files.pack(half)}, values, sums)
        os.rename(scratch, target / run_id)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def main() -> None:
    """Copy all classification runs of the store."""
    target = Path(sys.argv[1]).resolve() / "runs"
    names = [name for name in store.stored_ids() if (paths.RUNS / name).is_dir() and store.config_of(name)]
    print(f"{sum(compact(name, target) for name in names)} of {len(names)} runs copied to {target}")


if __name__ == "__main__":
    main()
