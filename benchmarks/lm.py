"""Language models: kdnb beside the loops of tutorials, on a GPU or a CPU, in one run of a minute or two.

    python benchmarks/lm.py                             on a GPU: lm.json
    python benchmarks/lm.py --device cpu                the same on the CPU, smaller; both are kept in lm.json
    python benchmarks/lm.py --only tokens memory        some parts
    python benchmarks/lm.py --device cpu --tiny         does the script work? toy sizes, no figure means anything

Parts: tokens (training with sparse targets beside a teacher that runs), memory (of a step, chunked and dense), engine
(what making a cache costs beyond a bare loop), billion (a Llama of 1.2 billion weights; GPU only), step (Mamba-2 beside
a Llama; CPU only). Weights and sequences are drawn: they change no time. Exit code: 0, 1 if a part failed, 2 without a
CUDA device.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import gpu_parallel
import lm_ratios
import machine
from bench import HERE
from gpu import Bench, revision, status

PARTS = ("tokens", "memory", "engine", "billion", "step")
ROWS = (49152, 151936)  # vocabularies of `memory`: SmolLM2's and Qwen's


@dataclass(frozen=True)
class Part:
    """One part: contestants by name with what starts them, how many rounds, and which is the other's measure."""

    contestants: dict[str, list]
    rounds: int = 1
    value: str = "rate"
    beside: str = ""


def parts(options) -> dict[str, Part]:
    """What is measured here."""
    others = ("tuned",) if options.tiny else ("tutorial", "tuned", "trl-gkd")  # a rehearsal has no time for more
    own = ("kdnb",) if options.tiny else ("kdnb", "kdnb-online")
    loops = {**{name: ["lm_kdnb.py", name] for name in own}, **{name: ["lm_others.py", name] for name in others}}
    sides = {"chunked": "lm_kdnb.py", "dense": "lm_others.py"}
    rows = (512,) if options.tiny else ROWS
    memory = {f"{side} {v}": [script, "memory", "--vocabulary", v] for v in rows for side, script in sides.items()}
    making, rounds = {name: ["lm_kdnb.py", name] for name in ("bare", "engine")}, 1 if options.tiny else 3
    found = {
        "tokens": Part(loops, rounds, "rate", "kdnb"),
        "memory": Part(memory, 1, "mib"),
        "engine": Part(making, rounds, "seconds", "engine"),
        "billion": Part({"kdnb": ["lm_kdnb.py", "billion"]}),
        "step": Part({name: ["lm_kdnb.py", name] for name in ("llama", "mamba2")}, rounds, "seconds", "mamba2"),
    }
    return {name: found[name] for name in found if name in options.only}


class Contestant:
    """A process that loads its libraries and waits to be asked; it measures a round at a time."""

    def __init__(self, bench: Bench, script: str, *more: object):
        self.bench, self.hello = bench, {}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        tiny = ["--tiny"] if bench.options.tiny else []
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, more), *tiny],
            text=True,
            env={**bench.environment(), "TMPDIR": str(bench.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )

    def ask(self) -> dict:
        """A round, or how it failed; ended when the time is over."""
        if self.bench.left() <= 0:
            return {"skipped": "the time is spent"}
        clock = threading.Timer(self.bench.left(), gpu_parallel.end, (self.process,))
        clock.start()
        try:
            self.hello = self.hello or json.loads(self.process.stdout.readline())
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (ValueError, OSError):
            return {"skipped": "the time is spent"} if self.bench.left() <= 0 else {"failed": self._why()}
        finally:
            clock.cancel()

    def _why(self) -> str:
        self.close()
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or [f"exit code {self.process.returncode}"])[-1][:500]

    def close(self) -> None:
        """End it."""
        gpu_parallel.end(self.process)


def measured(bench: Bench, part: Part, running: dict[str, Contestant]) -> dict:
    """All rounds of a part, each beginning with another contestant; what a process found is kept as it is."""
    found: dict[str, list[dict]] = {name: [] for name in part.contestants}
    names = list(part.contestants)
    for number in range(part.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            one = running.get(name)
            found[name].append(one.ask() if one else {"skipped": "not installed"})
            said = {key: value for key, value in found[name][-1].items() if key in (part.value, "failed", "skipped")}
            bench.tell(f"  {name}: {said}")
            if one and part.rounds == 1:
                one.close()
    return {"measured": {name: lm_ratios.summary(rounds, part.value) for name, rounds in found.items()}}


def measure(bench: Bench) -> dict:
    """Everything asked for. What is done is written after each part."""
    options, wanted = bench.options, parts(bench.options)
    bench.allow(1.0)
    report = {"revision": revision(), "rehearsal": options.tiny, "machine": machine.facts(), "parts": {}}
    running = {
        name: {one: Contestant(bench, *how) for one, how in part.contestants.items() if installed(one)}
        for name, part in wanted.items()
    }
    try:
        for name, part in wanted.items():
            began = time.monotonic()
            result = lm_ratios.read_off(name, measured(bench, part, running[name]), part.beside, part.value)
            how, why = status(result)
            report["parts"][name] = {"status": how, "seconds": time.monotonic() - began, **result}
            for one in running[name].values():
                report |= one.hello
                one.close()  # the memory of a card is for the parts to come
            report["seconds"] = time.monotonic() - bench.started
            bench.tell(f"{name}: {how}{why and ': '}{why}")
            write(options, report)
        return report
    finally:
        for one in (one for each in running.values() for one in each.values()):
            one.close()


def installed(contestant: str) -> bool:
    """Whether a contestant's packages are here."""
    return contestant != "trl-gkd" or all(importlib.util.find_spec(name) for name in ("trl", "accelerate", "datasets"))


def write(options, report: dict) -> None:
    """Put a report beside those of the other device; parts that were not measured now stay as they were."""
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    kept = before.get(options.device, {}).get("parts", {})
    before[options.device] = {**report, "parts": {**kept, **report["parts"]}}
    options.out.write_text(json.dumps(before, indent=1) + "\n")


def main() -> int:
    """Measure, print and write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy models, a few steps: a rehearsal")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="for everything; default 150 on a GPU, 1200 on a CPU"
    )
    parser.add_argument("--out", type=Path, help="the JSON; default lm.json, of a rehearsal .work/lm.json, here")
    options = parser.parse_args()
    options.seconds = options.seconds or (150.0 if options.device == "cuda" else 1200.0)
    if options.device == "cpu" and not options.tiny:
        options.only = [name for name in options.only if name != "billion"]
    if options.device == "cuda":
        options.only = [name for name in options.only if name != "step"]
    options.out = options.out or (HERE / ".work" / "lm.json" if options.tiny else HERE / "lm.json")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kdnb-lm-") as folder:
        bench = Bench(options, Path(folder))
        if options.device == "cuda" and (reason := bench.child("lm_work.py", seconds=60.0).get("absent")):
            print(f"lm.py: no CUDA device ({reason}); --device cpu --tiny rehearses it", file=sys.stderr)
            return 2
        report = measure(bench)
    print(json.dumps(report, indent=1))
    return int(any(part["status"] == "failed" for part in report["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
