"""One task's whole comparison, eight arms and some seeds: kdnb against tuned Trainer with cached logits.

kdnb is one fresh process that trains every run with a worker for each core (`kdnb compare --workers`), stores it, and
reads teachers' logits from the store. Trainer, on all cores as it comes, is
measured twice: driven by one process that loads models, tokeniser and text once and keeps all logits in memory, and as
its examples are used, a process per run ("scripts"; one seed, since every seed costs the same). Nobody samples entropy
curves. Start-up is included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from kdnb.experiment.points import compare_points

SIDES = ("kdnb", "trainer", "scripts")


def task_data(rows: int):
    """The task with all splits cut alike, to `rows` training rows."""
    import numpy as np

    from kdnb import paths
    from kdnb.data import splits as data
    from kdnb.data.splits import Split, TaskData

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
    from kdnb.experiment.arms import ARMS

    return compare_points(data.task.name, "cpu", data.fingerprint, range(seeds), tuple(ARMS)[:8], {"history_points": 0})


def with_kdnb(rows: int, seeds: int) -> dict:
    """All runs with kdnb, a worker for each core; accuracy per run."""
    from kdnb.experiment import workers

    data = task_data(rows)
    done = workers.run_points(points(data, seeds), data, os.cpu_count(), lambda line: print(line, file=sys.stderr))
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


def with_scripts(rows: int, _seeds: int) -> dict:
    """One seed's runs, each by a process of its own that reads its teacher's logits from a file."""
    folder = os.environ["KDNB_OUTPUTS"]
    for number in range(len(points(task_data(rows), 1))):
        command = [sys.executable, __file__, "--rows", rows, "--one", number, "--folder", folder]
        subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
    return {}


def one_script(rows: int, number: int, folder: str) -> None:
    """What the script of one run does, start to end."""
    import numpy as np
    import seeds as trained

    data = task_data(rows)
    config = points(data, 1)[number].config
    examples, collator, fresh = trained.encoded(data)
    teacher = np.load(f"{folder}/{config.teacher_run}.npy") if config.teacher_run else None
    logits = trained.run(config, examples, collator, fresh(config), teacher)
    np.save(f"{folder}/{config.run_id()}.npy", logits["train"])


def main() -> None:
    """Time both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="run this side here")
    parser.add_argument("--one", type=int, help="train the run of this number as a script of its own would")
    parser.add_argument("--folder", help="where that script finds its teacher's logits")
    options = parser.parse_args()
    if options.one is not None:
        one_script(options.rows, options.one, options.folder)
        return
    if options.side:
        side = {"kdnb": with_kdnb, "trainer": with_trainer, "scripts": with_scripts}[options.side]
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
        "arms": len(accuracy["kdnb"]) // options.seeds,
        "seeds": options.seeds,
        "rows": options.rows,
        "epochs": 3,
        "kdnb_seconds": seconds["kdnb"],
        "trainer_seconds": seconds["trainer"],
        "ratio": seconds["trainer"] / seconds["kdnb"],
        "scripts_seconds_a_seed": seconds["scripts"],
        "scripts_ratio": options.seeds * seconds["scripts"] / seconds["kdnb"],
        "test_accuracy": accuracy,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
