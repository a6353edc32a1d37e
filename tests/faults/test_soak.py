"""The same twice, and the same after a long time: bits of logits, bytes of tables, memory and open files."""

import json
import sys

import forked
import numpy as np
import pytest
import stores
from victim import Victim, code_of

from kdnb.core import store

pytestmark = pytest.mark.faults
TOY = ["--profile", "toy"]
DEMO = ["compare", "rt", "--profile", "demo", "--seeds", "0", "--arms", "erm_small,ls_small", "--epochs", "1"]
SEARCH = ["sweep", "search", "--task", "rt", *TOY, "--threads", "1"]
STUDY = """
from kdnb.studies import registry
every = registry.notebooks
registry.notebooks = lambda profile: [step for step in every(profile) if step[0][:2] in {wanted}]
from kdnb.cli.main import main; main()
"""

POINTS = """
import gc, json, os, sys
import psutil
from kdnb.studies import registry
from kdnb.sweeps import engines
from kdnb.sweeps.grids import Grid, points_without_curves, register
from kdnb.sweeps.record import Sweep

count = int(sys.argv[1])
rates = [1e-6 * (1 + i) for i in range(count)]
register("soak", Grid(title="soak", fields=lambda *_: points_without_curves({"lr": rates, "epochs": (1,)}),
                      arms=("erm_small",)))
own, said = psutil.Process(), [0]

def say(line):
    said[0] += line.startswith("[")
    if line.startswith("[") and said[0] % max(1, count // 20) == 0:
        gc.collect()
        facts = {"points": said[0], "memory": own.memory_info().rss, "files": own.num_fds(),
                 "threads": own.num_threads(), "children": len(own.children(recursive=True))}
        print(json.dumps(facts), flush=True)

engines.run(Sweep(grid="soak", tasks=("rt",), profile="toy", train_rows=8), engines.How(threads=1), say)
"""


def test_a_sweep_of_many_tiny_points(tmp_path, share, told):
    """Memory, open files, threads and children after a quarter of them are those at the end."""
    points = max(40, share(2000))
    environment = stores.environment(tmp_path / "outputs")
    done = forked.run([sys.executable, "-c", POINTS, str(points)], env=environment)
    assert done.returncode == 0, done.stderr
    facts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    late = [one for one in facts if one["points"] >= points / 4]
    assert len(late) >= 10
    growth = np.polyfit([one["points"] for one in late], [one["memory"] for one in late], 1)[0]  # bytes a point
    leaks = growth > 20_000  # 40 MB in 2,000 points
    leaks += any(len({one[name] for one in late}) > 1 for name in ("files", "threads", "children"))
    assert not leaks, late
    stored = stores.marks(tmp_path / "outputs")
    told("Soak", "tiny points of one sweep: memory, files, processes flat", points, lost=points - len(stored))


def test_two_passes_are_the_same_bits(tmp_path, told):
    """Logits, curves, labels and the table of a comparison and a sweep, in processes and stores of their own."""
    passes = []
    for name in ("first", "second"):
        victim = Victim(tmp_path / name, ["compare", "rt", *TOY, "--seeds", "0,1"])
        victim.run()
        victim.commands = (SEARCH,)
        victim.run()
        victim.commands = (["report", *TOY],)
        victim.run()
        passes.append(stores.content(victim.outputs))
    first, second = passes
    differ = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    told("Determinism", "two passes of a comparison and a sweep at `toy`", len(first), corrupted=len(differ))


def test_two_passes_at_demo(tmp_path, told, measured):
    """The same with models of a usual kind, from packaged weights; then once with another number of threads."""
    passes = []
    for name, threads in (("first", 1), ("second", 1), ("two threads", 2)):
        victim = Victim(tmp_path / name, DEMO, real=True, environment={"OMP_NUM_THREADS": str(threads)})
        victim.run()
        passes.append(victim.outputs)
    first, second = (stores.content(outputs) for outputs in passes[:2])
    differ = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    measured("threads", **difference(passes[0], passes[2]))
    told("Determinism", "two passes of a comparison at `demo`", len(first), corrupted=len(differ))


def difference(one, other):
    """What differs between the test splits of two stores with the same runs, the largest over runs."""
    names = sorted(path.name for path in (one / "runs").glob("[!.]*"))
    assert names == sorted(path.name for path in (other / "runs").glob("[!.]*"))
    logits, metrics = [], []
    for name in names:
        parts = []
        for outputs in (one, other):
            with stores.reading(outputs):
                parts.append(store.load(name))
        logits.append([run.logits["test"].astype(np.float64) for run in parts])
        metrics.append([[run.metrics["test"][key] for key in ("entropy", "accuracy")] for run in parts])
    before, after = np.array(logits).swapaxes(0, 1)  # (runs, rows, classes) each
    entropy, accuracy = np.abs(np.diff(metrics, axis=1)).max(axis=(0, 1))
    return {
        "runs": len(names),
        "rows": before.shape[1],
        "largest": float(np.abs(after - before).max()),  # of a logit
        "spread": float(before.std()),
        "entropy": float(entropy),  # nats
        "accuracy": float(accuracy),
        "predictions": int((before.argmax(-1) != after.argmax(-1)).sum()),  # of all runs and rows
    }


def test_two_passes_of_the_study(tmp_path, request, told):
    """Runs, and the data of every figure; all notebooks where the full number of faults is asked for."""
    few = (request.config.getoption("--faults") or 0) < 200
    begin = code_of(STUDY.format(wanted=("20", "30") if few else ("20", "21", "30", "31", "32", "33", "34")))
    passes = []
    for name in ("first", "second"):
        victim = Victim(tmp_path / name, ["study", *TOY], begin=begin)
        victim.run()
        figures = {path.name: path.read_bytes() for path in (victim.outputs / "figures").glob("*.csv")}
        passes.append({**stores.content(victim.outputs), **figures})
    first, second = passes
    assert any(name.endswith(".csv") for name in first)
    differ = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    assert not differ, differ
    told("Determinism", "two passes of the study's notebooks at `toy`", len(first), corrupted=len(differ))
