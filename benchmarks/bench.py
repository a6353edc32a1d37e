"""The one entry: kdnb beside what a user would pick instead, and what start-up, size and a whole comparison cost.

    python benchmarks/bench.py                                  everything
    python benchmarks/bench.py --steps 2 --rounds 1             quickly
    python benchmarks/bench.py --only kdnb trainer-cached       some contestants
    python benchmarks/bench.py --only size startup              some of the other parts

What is measured again replaces what results.json has under the same name; the rest stays.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import machine
import table
from worker import CONTESTANTS

HERE = Path(__file__).resolve().parent
SLOW, SLOWER = ("trainer", "torchdistill", "textbrewer"), 5  # the untuned recipes take a fifth of the steps
PARTS = ("causes", "equal_work", "size", "startup", "comparison")


def environment() -> dict[str, str]:
    """What a measured process gets: this checkout's kdnb, no hub, and none of the settings that kdnb makes itself."""
    own = (
        "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
        "THP_MEM_ALLOC_ENABLE",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
        "CUBLAS_WORKSPACE_CONFIG",
    )
    kept = {name: value for name, value in os.environ.items() if name not in own}
    path = os.pathsep.join(filter(None, [str(HERE.parent), kept.get("PYTHONPATH")]))
    quiet = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "PYTHONWARNINGS": "ignore"}
    return {**kept, **quiet}


def run(script: str, *arguments, note: str = "") -> dict:
    """Run one of the scripts here in a fresh process; the JSON of its last line."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} {note} failed:\n{done.stderr[-3000:]}")
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {}


def prepare(profile: str, contestants: list[str], out: Path) -> Path:
    """The reference work on disk; models are written only if a contestant needs them."""
    folder = out / ".work" / profile
    others = any(name != "kdnb" for name in contestants)
    run("prepare.py", folder, "--profile", profile, *(["--models"] if others else []))
    return folder


def throughput(options, contestants: list[str]) -> dict:
    """Every contestant once a round, each in a fresh process, the rounds starting at different ones."""
    folder, found, peaks = prepare(options.profile, contestants, options.out), {name: [] for name in contestants}, []
    for number in range(options.rounds):
        peaks.append(run("machine.py"))
        shift = number * 3 % len(contestants)
        for name in contestants[shift:] + contestants[:shift]:
            steps = max(1, options.steps // SLOWER) if name in SLOW else options.steps
            result = run("worker.py", name, folder, "--steps", steps, "--warm", options.warm, note=name)
            found[name].append(result)
            told = f"{result['rate']:7.1f} examples/s" if "rate" in result else f"absent: {result['absent']}"
            print(f"round {number + 1}/{options.rounds}  {name:<20} {told}", flush=True)
    facts = json.loads((folder / "work.json").read_text())
    return {
        "steps": options.steps,
        "warm_up_steps": options.warm,
        "rounds": options.rounds,
        "work": facts,
        "gemm_gflops": peaks,
        "gflop_per_example": _gflop(folder, options, facts),
        "contestants": found,
    }


def _gflop(folder: Path, options, facts: dict) -> dict:
    """GFLOP per example of the timed rows, by both counts, and their mean length."""
    import numpy as np
    from worker import rows

    with np.load(folder / "work.npz") as arrays:
        lengths = np.diff(arrays["starts"])
    lengths = lengths[rows(len(lengths), options.steps, options.warm, 32)[1]]
    full, less = (machine.flops(lengths, facts, flag) / 1e9 for flag in (False, True))
    return {"full_last_layer": full, "first_token_of_last_layer": less, "mean_length": float(lengths.mean())}


def part(name: str, options) -> dict:
    """One of the other parts; with --steps 2 in its quickest form."""
    quick = options.steps <= 2
    print(f"{name} ...", flush=True)
    started = time.perf_counter()
    folder = prepare(options.profile, ["trainer"] if name == "equal_work" else ["kdnb"], options.out)
    arguments = {
        "causes": [folder, "--steps", min(options.steps, 60)],
        "equal_work": [folder, "--seeds", 2 if quick else options.seeds, "--rows", 32 if quick else options.rows],
        "size": ["--rounds", 1 if quick else options.rounds, *(["--rows", 64, 128] if quick else [])],
        "startup": ["--repeats", 1 if quick else 5],
        "comparison": ["--seeds", 1 if quick else 3, "--rows", 32 if quick else options.rows],
    }[name]
    result = run(f"{name}.py", *arguments, note=name)
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return result


def main() -> None:
    """Measure, then write results.json, results.md and the plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each contestant and round")
    parser.add_argument("--warm", type=int, default=3, help="steps before them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*CONTESTANTS, *PARTS], metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--profile", default="cpu", help="kdnb's profile: cpu, or toy for a test of this script")
    parser.add_argument("--seeds", type=int, default=5, help="of equal_work")
    parser.add_argument("--rows", type=int, default=400, help="training rows of equal_work and comparison")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    options = parser.parse_args()
    wanted = options.only or [*CONTESTANTS, *PARTS]
    options.out.mkdir(parents=True, exist_ok=True)
    store = options.out / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    for name in ["throughput", *PARTS]:
        contestants = [one for one in CONTESTANTS if one in wanted]
        if (name == "throughput" and contestants) or name in wanted:
            found = throughput(options, contestants) if name == "throughput" else part(name, options)
            results[name] = {**found, "machine": machine.facts()}
            store.write_text(json.dumps(results, indent=1) + "\n")
    table.write(results, options.out)
    print((options.out / "results.md").read_text())


if __name__ == "__main__":
    main()
