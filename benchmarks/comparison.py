"""One task's whole comparison, eight arms and some seeds: kdnb against tuned Trainer with cached logits.

Each side is one fresh process that loads models, tokeniser and text once, trains every run and keeps the logits
of all splits; kdnb also stores the runs and samples the entropy curves. Start-up is included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

SIDES = ("kdnb", "trainer")


def task_data(rows: int):
    """The task with all splits cut alike, to `rows` training rows."""
    import numpy as np

    from kdnb import data, paths
    from kdnb.data import Split, TaskData

    task = "mrpc" if (paths.GLUE / "MRPC").is_dir() else "headline"
    whole = data.load(task, "cpu")
    share = min(1.0, rows / len(whole.splits["train"]))
    splits = {}
    for name, split in whole.splits.items():
        keep = max(8, round(share * len(split)))
        rows = np.random.default_rng(0).permutation(len(split))[:keep]
        splits[name] = Split([split.text[i] for i in rows], [split.text2[i] for i in rows], split.labels[rows])
    return TaskData(whole.task, splits, data._fingerprint(whole.task, splits))


def points(data, seeds: int) -> list:
    """kdnb's list of runs, teachers first."""
    from kdnb import sweep

    return sweep.compare_points(data.task.name, "cpu", data.fingerprint, range(seeds))


def with_kdnb(rows: int, seeds: int) -> dict:
    """All runs with kdnb; accuracy per run."""
    from kdnb import sweep

    data = task_data(rows)
    done = sweep.run_points(points(data, seeds), data, lambda line: print(line, file=sys.stderr))
    return {name: run.metrics["test"]["accuracy"] for name, run in done.items()}


def with_trainer(rows: int, seeds: int) -> dict:
    """The same runs with tuned Trainer and cached logits, through transformers' own classes."""
    import seeds as trained

    data = task_data(rows)
    examples, collator, fresh = trained.encoded(data)
    logits, accuracy = {}, {}
    for point in points(data, seeds):
        config = point.config
        teacher = logits[config.teacher_run]["train"] if config.teacher_run else None
        logits[config.run_id()] = found = trained.run(config, examples, collator, fresh(config), teacher)
        accuracy[config.run_id()] = float((found["test"].argmax(-1) == data.splits["test"].labels).mean())
        print(config.run_id(), file=sys.stderr)
    return accuracy


def main() -> None:
    """Time both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="run this side here")
    options = parser.parse_args()
    if options.side:
        side = with_kdnb if options.side == "kdnb" else with_trainer
        print(json.dumps(side(options.rows, options.seeds)))
        return
    seconds, accuracy = {}, {}
    for side in SIDES:
        with tempfile.TemporaryDirectory(prefix="kdnb-bench-") as scratch:
            command = [sys.executable, __file__, "--side", side, "--rows", options.rows, "--seeds", options.seeds]
            environment = {**os.environ, "KDNB_OUTPUTS": scratch}
            started = time.perf_counter()
            done = subprocess.run([str(c) for c in command], env=environment, stdout=subprocess.PIPE, text=True)
            seconds[side] = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"comparison: the {side} side failed")
        accuracy[side] = json.loads(done.stdout.strip().splitlines()[-1])
    result = {
        "arms": len(accuracy["kdnb"]) // options.seeds, "seeds": options.seeds, "rows": options.rows, "epochs": 3,
        "kdnb_seconds": seconds["kdnb"], "trainer_seconds": seconds["trainer"],
        "ratio": seconds["trainer"] / seconds["kdnb"], "test_accuracy": accuracy,
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
