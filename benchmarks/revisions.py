"""Two revisions of kdnb side by side: seconds of the same training in fresh processes, in turn.

    python benchmarks/revisions.py OLD [NEW]            make bench-revisions OLD=... NEW=...

Each revision is checked out into a git worktree of its own and driven through its command line alone, so that nothing
within the package needs to be alike: the first call trains a teacher and a student into a store, every measured one
trains the student again beside a copy of that store without it. `train_seconds` of the stored run's metrics is what is
compared: the loop, without start-up, tokenising and evaluation. Text and weights come from this checkout's data_cache,
or from KDNB_DATA_CACHE.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import machine
from bench import HERE, environment

ROOT = HERE.parent
CALL = "import sys; from {module} import {function}; sys.exit({function}())"
CACHE = Path(os.environ.get("KDNB_DATA_CACHE") or ROOT / "data_cache")
COVERAGE = 0.95


class Checkout:
    """A revision in a worktree, with a store that holds the teacher."""

    def __init__(self, name: str, folder: Path):
        """name: what git calls it. folder: an empty place of its own."""
        self.name, self.commit, self.tree = name, git("rev-parse", f"{name}^{{commit}}"), folder / "tree"
        git("worktree", "add", "--detach", str(self.tree), self.commit)
        script = tomllib.loads((self.tree / "pyproject.toml").read_text())["project"]["scripts"]["kdnb"]
        module, _, function = script.partition(":")
        self.call, self.store = CALL.format(module=module, function=function), folder / "store"

    def train(self, arguments: list[str], store: Path) -> dict:
        """`kdnb train` into a store: its run's metrics, the name and the cost among them.

        Raises:
            SystemExit: it failed, or what ran was not this revision.
        """
        own = {"PYTHONPATH": str(self.tree), "KDNB_OUTPUTS": str(store), "KDNB_DATA_CACHE": str(CACHE)}
        command = [sys.executable, "-c", self.call, "train", *arguments, "--json"]
        done = subprocess.run(command, env={**environment(), **own}, cwd=store, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.name}: kdnb train failed:\n{done.stderr[-3000:]}")
        run_id = json.loads(done.stdout.strip().splitlines()[-1])["run_id"]
        (found,) = store.glob(f"**/{run_id}/metrics.json")
        metrics = json.loads(found.read_text())
        ran = metrics["cost"]["revision"]
        if not self.commit.startswith(ran):
            raise SystemExit(f"{self.name} is {self.commit[:12]}, but what ran was {ran}")
        return {"run_id": run_id, "folder": found.parent, "cost": metrics["cost"], "test": metrics["test"]}

    def prepare(self, arguments: list[str]) -> None:
        """Train teacher and student once; the store then holds the teacher alone. It also fills the caches."""
        self.store.mkdir()
        shutil.rmtree(self.train(arguments, self.store)["folder"])

    def measure(self, arguments: list[str], scratch: Path) -> dict:
        """Train the student in a fresh process beside a copy of the store."""
        shutil.copytree(self.store, scratch)
        run = self.train(arguments, scratch)
        shutil.rmtree(scratch)
        cost = {name: run["cost"][name] for name in ("train_seconds", "seconds", "peak_memory_mib")}
        return {"run_id": run["run_id"], **cost, "entropy": run["test"]["entropy"]}


def git(*arguments: str) -> str:
    """What git says in this checkout; SystemExit with its reason otherwise."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def interval(values: list[float]) -> tuple[float, float, float]:
    """Interval of the median from the order of the values alone: low, high, and how surely it holds the median.

    P(k-th smallest < median < k-th largest) = 1 - 2 P(Binomial(n, 1/2) < k); the narrowest that reaches COVERAGE,
    or from the least to the largest where none does.
    """
    ordered, n = sorted(values), len(values)
    outside = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)] or [1.0]
    k = max((k for k, miss in enumerate(outside, 1) if 1 - miss >= COVERAGE), default=1)
    return ordered[k - 1], ordered[n - k], 1 - outside[k - 1]


def main() -> None:
    """Measure both, print the ratio, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a revision, as git names it")
    parser.add_argument("new", nargs="?", default="HEAD", help="another; committed, [default: HEAD]")
    parser.add_argument("--rounds", type=int, default=6, help="trainings of each")
    parser.add_argument("--task", default="mrpc" if (CACHE / "glue/MRPC").is_dir() else "rt")
    parser.add_argument("--profile", default="demo", help="of kdnb: demo is the MiniLM pair, toy tests this script")
    parser.add_argument("--rows", type=int, default=3200, help="train rows: 100 steps of 32")
    parser.add_argument("--out", type=Path, default=HERE / ".work" / "revisions.json")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be >= 1, got {options.rounds}")
    arguments = [
        options.task,
        "--profile",
        options.profile,
        "--method",
        "kd",
        "--teacher",
        "large",
        "--student",
        "small",
        "--train-rows",
        str(options.rows),
        "--epochs",
        "1",
        "--batch-size",
        "32",
    ]
    with tempfile.TemporaryDirectory(prefix="kdnb-revisions-") as folder:
        result = compare(options, arguments, Path(folder))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{options.new} trains {result['ratio']:.3f} times as fast as {options.old} "
        f"({result['low']:.3f} to {result['high']:.3f}, {100 * result['coverage']:.0f} % interval of the median of "
        f"{options.rounds} rounds); test entropy {'equal' if result['equal_entropy'] else 'not equal'}: {options.out}"
    )


def compare(options, arguments: list[str], folder: Path) -> dict:
    """Both revisions in turn, round by round, the first of each round alternating."""
    checkouts, runs = {}, {"old": [], "new": []}
    try:
        for side, name in (("old", options.old), ("new", options.new)):
            (folder / side).mkdir()
            checkouts[side] = Checkout(name, folder / side)
        for side, checkout in checkouts.items():
            print(f"{side}: {checkout.name} ({checkout.commit[:12]}), teacher and a first student", file=sys.stderr)
            checkout.prepare(arguments)
        for number in range(options.rounds):
            for side in ("old", "new") if number % 2 == 0 else ("new", "old"):
                runs[side].append(checkouts[side].measure(arguments, folder / side / "round"))
                seconds = runs[side][-1]["train_seconds"]
                print(f"round {number + 1}/{options.rounds}  {side}  {seconds:.2f} s", file=sys.stderr, flush=True)
    finally:
        for checkout in checkouts.values():
            git("worktree", "remove", "--force", str(checkout.tree))
    ratios = [old["train_seconds"] / new["train_seconds"] for old, new in zip(runs["old"], runs["new"], strict=True)]
    low, high, coverage = interval(ratios)
    return {
        "revisions": {side: {"name": one.name, "commit": one.commit} for side, one in checkouts.items()},
        "arguments": arguments,
        "rows": options.rows,
        "rounds": options.rounds,
        "machine": machine.facts(),
        "ratio": statistics.median(ratios),
        "low": low,
        "high": high,
        "coverage": coverage,
        "ratios": ratios,
        "examples_per_second": {
            side: statistics.median(options.rows / run["train_seconds"] for run in side_runs)
            for side, side_runs in runs.items()
        },
        "equal_entropy": len({run["entropy"] for side_runs in runs.values() for run in side_runs}) == 1,
        "runs": runs,
    }


if __name__ == "__main__":
    main()
