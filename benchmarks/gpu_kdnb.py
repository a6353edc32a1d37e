"""kdnb's loop on the pairs of `gpu.py`: throughput, same seed and same logits, CPU against GPU, several at a time."""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import hf
import numpy as np
import torch
import with_kdnb
import worker
from gpu_work import kdnb_model

from kdnb.core import device as gpu
from kdnb.core.device import device, precision
from kdnb.core.loop import fit
from kdnb.core.optimizer import fast_path
from kdnb.core.predict import predict

SEED_STEPS, EXACT_STEPS = 20, 3


def train(work: hf.Work, rows, *, compiled=False, on_step=None, batches=None, **changes) -> tuple[torch.nn.Module, str]:
    """Train the student on some rows within the settings that `kdnb.core.loop.fit` makes.

    Args:
        rows: row numbers, each an example of the one epoch.
        compiled: whether to compile the layers as a long training would.
        on_step: called with the number of each finished step.
        batches: lists of row numbers, positions in `rows`; None has them planned.
        changes: any other fields of the config.
    Returns:
        The model, and whether it was compiled, in words.
    """
    config = with_kdnb.config_of(work, **changes)
    splits, tokens, teacher = with_kdnb.inputs(work, rows)
    kind = precision(config.precision)
    gpu.set_up(kind)
    with torch.random.fork_rng(), gpu.deterministic():
        torch.manual_seed(config.seed)
        model = kdnb_model(work.folder / "student", config.dropout, config.seed)
        reason = gpu.compile_layers(fast_path(model).compiled, gpu.COMPILE_STEPS if compiled else 1)
        tell = (lambda step, *_: on_step(step)) if on_step else None
        labels, soft_targets = splits.splits["train"].labels, teacher.logits["train"]
        fit(config, model, tokens, labels, soft_targets, plan=[batches] if batches else None, on_step=tell)
    return model, reason


def all_rows(work: hf.Work, options) -> np.ndarray:
    """Row numbers of warm-up and timed steps, as the other side has them."""
    return np.concatenate(worker.rows(len(work.labels), options.steps, options.warm, hf.BATCH))


def throughput(options) -> dict:
    """Examples per second and peak memory of one training."""
    work = hf.load(options.folders[0])
    stretches = hf.Stretches(options.warm, options.steps, options.stretches)
    _, reason = train(work, all_rows(work, options), compiled=options.compile, on_step=stretches)
    return {**stretches.result(), "compiled": reason}


def same_seed(options) -> dict:
    """Hashes of the logits of trainings with one seed, and of one with another; dropout on, as precise as it comes."""

    def measure(work: hf.Work) -> dict:
        rows = np.arange(SEED_STEPS * hf.BATCH) % len(work.labels)
        tokens = with_kdnb.inputs(work, np.arange(min(512, len(work.labels))))[1]["train"]

        def digest(seed: int) -> str:
            model, _ = train(work, rows, seed=seed)
            return hashlib.sha256(predict(model, tokens, precision()).numpy().tobytes()).hexdigest()[:16]

        return {"steps": SEED_STEPS, "precision": precision(), "same": [digest(0), digest(0)], "other": digest(1)}

    return of_each(options.folders, measure)


def exact(options) -> dict:
    """Logits after a few float32 steps without dropout: written beside each pair, or compared with those there."""

    def measure(work: hf.Work) -> dict:
        rows, file = np.arange(EXACT_STEPS * hf.BATCH) % len(work.labels), work.folder / "exact.npz"
        tokens = with_kdnb.inputs(work, rows)[1]["train"]
        batches = np.split(np.arange(len(rows)), EXACT_STEPS)
        model, _ = train(work, rows, batches=batches, precision="fp32", dropout=0.0)
        after = predict(model, tokens, "fp32").numpy()
        if not options.against:
            before = predict(kdnb_model(work.folder / "student", 0.0, 0), tokens, "fp32").numpy()
            np.savez(file, before=before, after=after)
            return {"device": str(device())}
        with np.load(file) as other:
            difference, moved = (float(np.abs(other[name] - after).max()) for name in ("after", "before"))
        return {"steps": EXACT_STEPS, "largest_difference": difference, "largest_movement": moved}

    return of_each(options.folders, measure)


def of_each(folders: list[Path], measure) -> dict:
    """measure(work) of each pair by name, or how it failed."""
    found = {}
    for folder in folders:
        try:
            found[folder.name] = measure(hf.load(folder))
        except Exception as error:  # one pair's failure is not the other's
            found[folder.name] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    return found


def serve(options) -> dict:
    """Train each time a line comes in: warm up, wait for the next line, then run the timed steps."""
    work = hf.load(options.folders[0])
    times = []

    def on_step(step: int) -> None:
        if step == options.warm:
            hf.synced()
            print(json.dumps({"ready": True}), flush=True)
            sys.stdin.readline()
        if step in (options.warm, options.warm + options.steps):
            hf.synced()
            times.append(time.time())

    print(json.dumps({"loaded": True}), flush=True)
    for _ in sys.stdin:
        times.clear()
        train(work, all_rows(work, options), on_step=on_step)
        result = {"begin": times[0], "end": times[1], "examples": options.steps * hf.BATCH, **hf.peak_memory()}
        if hf.DEVICE == "cuda":
            free, total = torch.cuda.mem_get_info()
            result["card_used_mib"] = (total - free) / 2**20
        print(json.dumps(result), flush=True)
    return {}


def main() -> None:
    """Print what was asked for."""
    asked = {"throughput": throughput, "same_seed": same_seed, "exact": exact, "serve": serve}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=asked)
    parser.add_argument("folders", type=Path, nargs="+", help="of pairs; throughput and serve take one")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--warm", type=int, default=0)
    parser.add_argument("--stretches", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--against", action="store_true", help="exact: compare with the logits that are there")
    options = parser.parse_args()
    print(json.dumps(asked[options.what](options)), flush=True)


if __name__ == "__main__":
    main()
