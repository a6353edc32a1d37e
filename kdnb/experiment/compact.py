"""Finished runs copied with logits in half precision, for a store that is committed: half the bytes, the same names.

    python -m kdnb.experiment.compact FROM TO           all runs of a folder, as outputs/runs, into another

Rounding moves a logit by at most 2**-11 of itself, a quarter of what bf16 rounds while it trains. The metrics of a copy
are those of its rounded logits, so that whoever recomputes them finds what is stored; curves and cost stay.
"""

import json
import sys
from pathlib import Path

import numpy as np

from kdnb.core import metrics, store
from kdnb.core.config import SPLITS


def compact(run_id: str, source: Path, target: Path) -> bool:
    """Copy one classification run; False if it is there already.

    Args:
        run_id: its name.
        source: the runs folder it lies in, `labels/` beside it.
        target: the runs folder that the copy goes to.
    Raises:
        DamagedRun: it is not what was written.
    """
    if (target / run_id).is_dir():
        return False
    run = store.load(run_id)
    half = {split: run.logits[split].astype(np.float16) for split in SPLITS}
    teacher = store.load(run.config.teacher_run) if run.config.teacher_run else None
    values = {"cost": {**run.metrics["cost"], "stored": "float16"}}
    for split in SPLITS:
        taught = teacher.logits[split].astype(np.float16).astype(np.float32) if teacher else None
        values[split] = metrics.summary(half[split].astype(np.float32), run.labels[split], taught)
    (target / run_id).mkdir(parents=True)
    where = source / run_id
    content = {name: (where / name).read_bytes() for name in ("config.json", "history.csv")}
    labels = {split: run.labels[split] for split in SPLITS}
    path = store.labels_path(json.loads(content["config.json"])["data"], target)
    path.parent.mkdir(exist_ok=True)
    sums = store.keep_labels(path, labels)
    store.write_content(target / run_id, {**content, "arrays.npz": store.pack(half)}, values, sums)
    return True


def main() -> None:
    """Copy all runs of one folder into another; KDNB_OUTPUTS is the first one's parent."""
    source, target = (Path(argument).resolve() for argument in sys.argv[1:3])
    names = [name for name in store.stored_ids() if (source / name).is_dir() and store.config_of(name)]
    print(f"{sum(compact(name, source, target) for name in names)} of {len(names)} runs copied to {target}")


if __name__ == "__main__":
    main()
