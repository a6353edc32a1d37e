"""RKD's loss and gradient: kdnb's chunked form beside the released one, time and memory of a step.

    python benchmarks/relations.py                   128 examples of width 384; writes relations.json beside itself

Each form runs in processes of its own, the rounds interleaved. Memory is how much a process's high-water mark grows
over the first step after one on four examples; the ratio is one of CPU time on one thread, taken within a round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import machine
from bench import environment

FORMS = ("kdnb", "released")


def released(student, teacher):
    """Distance and angle loss as lenscloth/RKD has them (metric/loss.py), weights 1 and 2."""
    import torch
    from torch.nn.functional import normalize, smooth_l1_loss

    far, cosines = [], []
    for e in (teacher, student):
        square = e.pow(2).sum(dim=1)
        d = (square[:, None] + square[None] - 2 * e @ e.t()).clamp(min=1e-12).sqrt()
        d = d * (1 - torch.eye(len(e)))
        far.append(d / d[d > 0].mean())
        unit = normalize(e[None] - e[:, None], p=2, dim=2)
        cosines.append(torch.bmm(unit, unit.transpose(1, 2)))
    return smooth_l1_loss(far[1], far[0]) + 2 * smooth_l1_loss(cosines[1], cosines[0])


def measure(form: str, examples: int, width: int, steps: int) -> dict:
    """One form in this process: MiB that its step adds, milliseconds of CPU time of a step, and its loss."""
    import torch

    from kdnb.studies.dark_knowledge.relations import rkd_loss

    torch.set_num_threads(1)
    loss_of = rkd_loss if form == "kdnb" else released
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(examples, width, generator=generator) for _ in range(2))
    student.requires_grad_()
    loss_of(student[:4], teacher[:4]).backward()
    before = machine.peak_mib()
    loss = loss_of(student, teacher)
    loss.backward()
    added, times = machine.peak_mib() - before, []
    for _ in range(steps):
        started = time.process_time()
        loss_of(student, teacher).backward()
        times.append(1e3 * (time.process_time() - started))
    return {"mib": added, "ms": statistics.median(times), "loss": loss.item()}


def main() -> None:
    """Both forms in fresh processes, rounds interleaved; medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--here", choices=FORMS, help="one form, in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.here, options.examples, options.width, options.steps)))
        return
    size = [f"--{name}={getattr(options, name)}" for name in ("examples", "width", "steps")]
    rounds = []
    for _ in range(options.rounds):
        found = {}
        for form in FORMS:
            command = [sys.executable, __file__, "--here", form, *size]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment())
            found[form] = json.loads(done.stdout.strip().splitlines()[-1])
        rounds.append(found)
    ratios = [found["released"]["ms"] / found["kdnb"]["ms"] for found in rounds]
    result = {
        "examples": options.examples,
        "width": options.width,
        "steps": options.steps,
        "threads": 1,
        "speed_ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "mib": {form: max(found[form]["mib"] for found in rounds) for form in FORMS},
        "rounds": rounds,
        "machine": machine.facts(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    memory = ", ".join(f"{form} {result['mib'][form]:.0f} MiB" for form in FORMS)
    print(f"kdnb {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f}); {memory}")


if __name__ == "__main__":
    main()
