"""Measure kdnb on a GPU, in at most eight minutes: one JSON, printed and written.

    python benchmarks/gpu.py                            everything; benchmarks/gpu.json
    python benchmarks/gpu.py --only minilm parallel     some parts
    python benchmarks/gpu.py --device cpu --tiny        does the script work? toy sizes, no figure means anything

Parts: tests (those marked gpu); same_seed (equal logits of equal seeds); exact (CPU against GPU after 3 float32 steps);
minilm and bert (training beside transformers.Trainer, without and with torch.compile); parallel (1, 2, 4, 8 trainings
at a time). Exit code: 0, 1 if a part failed, 2 without a CUDA device.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu_parallel
import gpu_parts
import table
from bench import HERE, environment

SETUP = 0.12  # share of the time in which models and texts are made
PARTS = {  # how each is measured, and its share of the time that is left then
    "tests": (gpu_parts.tests, 0.13),
    "same_seed": (gpu_parts.same_seed, 0.10),
    "exact": (gpu_parts.exact, 0.08),
    "minilm": (functools.partial(gpu_parts.throughput, name="minilm"), 0.30),
    "bert": (functools.partial(gpu_parts.throughput, name="bert"), 0.28),
    "parallel": (gpu_parts.parallel, 0.11),
}
LEAST = 3.0  # seconds below which nothing is begun
STEPS = {"minilm": 400, "bert": 200, "parallel": 200}  # timed steps, in STRETCHES equal stretches
STRETCHES, WARM, TINY_STEPS, TINY_WARM = 5, 30, 5, 2


class Bench:
    """Where the models lie, what was asked for, and when the part in progress must be over."""

    def __init__(self, options, folder: Path):
        self.options, self.folder, self.started = options, folder, time.monotonic()
        self.deadline, self.facts = self.started, {}

    def left(self) -> float:
        """Seconds that the part in progress still has."""
        return self.deadline - time.monotonic()

    def allow(self, share: float) -> None:
        """Begin a part: what the earlier ones left of their shares is its own as well."""
        self.deadline = self.started + share * self.options.seconds

    def pairs(self) -> dict[str, Path]:
        """Folders of the pairs whose models could be made."""
        return {name: self.folder / name for name, facts in self.facts["pairs"].items() if "failed" not in facts}

    def tell(self, line: str) -> None:
        """A line of progress, on stderr: stdout is for the JSON."""
        print(f"[{time.monotonic() - self.started:4.0f} s] {line}", file=sys.stderr, flush=True)

    def environment(self) -> dict[str, str]:
        """One card, the first of those that may be used, or none; short tries at a package index that is not there."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        own = {"CUDA_VISIBLE_DEVICES": visible if self.options.device == "cuda" else "", "PIP_RETRIES": "0"}
        own |= {"OMP_NUM_THREADS": "1"} if self.options.tiny else {}  # toy models are faster on one core
        return {**environment(), "PIP_DEFAULT_TIMEOUT": "10", **own}

    def child(self, *command, seconds: float = 0.0, **more: str) -> dict:
        """A script here in a process of its own: the JSON of its last line, or how it failed.

        Args:
            command: script and arguments; a script without ".py" is a module.
            seconds: how long it may take; 0 is what the part has left.
            more: environment variables.
        """
        seconds = seconds or self.left()
        if seconds < LEAST:
            return {"skipped": "the time of this part is spent"}
        script = [str(HERE / command[0])] if command[0].endswith(".py") else ["-m", command[0]]
        process = subprocess.Popen(
            [sys.executable, *script, *map(str, command[1:])],
            env={**self.environment(), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {seconds:.0f} s"}
        finally:
            gpu_parallel.end(process)
        lines = out.strip().splitlines()
        if process.returncode or not lines:
            return {"failed": (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1][:500]}
        try:
            return json.loads(lines[-1])
        except ValueError:
            return {"said": lines[-1]}

    def size(self, part: str) -> list:
        """Arguments: how many steps to warm up, to time, and in how many stretches."""
        tiny = self.options.tiny
        steps, warm = (TINY_STEPS, TINY_WARM) if tiny else (STEPS[part], WARM)
        return ["--steps", steps, "--warm", warm, "--stretches", STRETCHES]


def measure(bench: Bench, wanted: list[str]) -> dict | None:
    """All that was asked for; None without the device. What is done is written after each part."""
    options = bench.options
    bench.allow(SETUP)
    bench.facts = bench.child("gpu_work.py", bench.folder, "--device", options.device, *["--tiny"] * options.tiny)
    reason = bench.facts.get("absent") or bench.facts.get("failed")
    if reason:
        print(f"gpu.py: no CUDA device ({reason}); --device cpu --tiny rehearses it", file=sys.stderr)
        return None
    bench.tell(f"models, texts and the peak of {bench.facts['card']['name']} are there")
    report = {"revision": revision(), "rehearsal": options.tiny or options.device == "cpu", **bench.facts, "parts": {}}
    done, whole = SETUP, sum(PARTS[name][1] for name in wanted)
    for name in wanted:
        part, share = PARTS[name]
        done += (1 - SETUP) * share / whole
        bench.allow(done)
        bench.tell(f"{name}, until {bench.left() + time.monotonic() - bench.started:.0f} s")
        began = time.monotonic()
        try:
            result = part(bench)
        except Exception as error:  # a part that fails must not take the others with it
            result = {"failed": f"{type(error).__name__}: {error}"}
        how, why = status(result)
        report["parts"][name] = {"status": how, "seconds": time.monotonic() - began, **result}
        bench.tell(f"{name}: {how}{why and ': '}{why}")
        report["seconds"] = time.monotonic() - bench.started
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return report


def status(result: dict) -> tuple[str, str]:
    """ "failed" if anything in a part failed, "skipped" if all of it was, else "done"; and the first reason."""
    entries = list(result.get("measured", {}).values()) or [result]
    failed = [entry["failed"] for entry in entries if "failed" in entry]
    skipped = [entry["skipped"] for entry in entries if "skipped" in entry]
    if failed:
        return "failed", failed[0]
    return ("skipped", skipped[0]) if len(skipped) == len(entries) else ("done", "")


def revision() -> str:
    """The checkout's commit."""
    git = ["git", "-C", str(HERE.parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> int:
    """Measure, print and write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--seconds", type=float, default=480.0, help="for everything; what is not done then is left")
    parser.add_argument("--out", type=Path, help="the JSON; default gpu.json, of a rehearsal .work/gpu.json, here")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")
    parser.add_argument("--tiny", action="store_true", help="toy models, a few steps: a rehearsal")
    options = parser.parse_args()
    rehearsal = options.tiny or options.device == "cpu"
    own = options.out is None and not rehearsal
    options.out = options.out or (HERE / ".work" / "gpu.json" if rehearsal else HERE / "gpu.json")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kdnb-gpu-") as folder:
        report = measure(Bench(options, Path(folder)), [name for name in PARTS if name in options.only])
    if report is None:
        return 2
    print(json.dumps(report, indent=1))
    if own:
        table.write_text(json.loads((HERE / "results.json").read_text()), HERE)
    return int(any(part["status"] == "failed" for part in report["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
