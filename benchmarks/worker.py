"""One contestant in a process of its own: warm-up, the timed rows, one line of JSON."""

import argparse
import importlib
import json
import time
from pathlib import Path

import machine
import numpy as np

CONTESTANTS = {  # name -> module, options, title
    "trainer": ("with_trainer", {}, "(a) Trainer, the tutorial's recipe"),
    "trainer-tuned": ("with_trainer", {"tuned": True}, "(b) Trainer, tuned"),
    "trainer-cached": ("with_trainer", {"tuned": True, "cached": True}, "(c) Trainer, tuned, cached logits"),
    "torchdistill": ("with_torchdistill", {}, "(d) torchdistill, its recipe"),
    "torchdistill-tuned": ("with_torchdistill", {"tuned": True}, "(d) torchdistill, tuned, cached logits"),
    "textbrewer": ("with_textbrewer", {}, "(e) TextBrewer, its recipe"),
    "textbrewer-tuned": ("with_textbrewer", {"tuned": True}, "(e) TextBrewer, tuned, cached logits"),
    "kdnb": ("with_kdnb", {}, "(f) kdnb"),
}
ORDER_SEED = 7


def rows(count: int, steps: int, warm: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for warm-up and for the timed part: the same for all contestants."""
    order = np.resize(np.random.default_rng(ORDER_SEED).permutation(count), (warm + steps) * batch)
    return order[: warm * batch], order[warm * batch :]


def main() -> None:
    """Print the measurement, or why there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warm", type=int, required=True)
    options = parser.parse_args()
    module, settings, _ = CONTESTANTS[options.name]
    started = time.perf_counter()
    try:
        if options.name == "kdnb":
            import kdnb  # noqa: F401  # before torch, as its users do: it sets how torch's threads wait
        contestant = importlib.import_module(module)
    except ImportError as error:
        print(json.dumps({"absent": str(error)}))
        return
    import hf

    work = hf.load(options.folder)
    warm, timed = rows(len(work.labels), options.steps, options.warm, hf.BATCH)
    if len(warm):
        contestant.train(work, warm, **settings)
    ready = time.perf_counter() - started
    seconds, padding = contestant.train(work, timed, **settings)
    result = {
        "examples": len(timed),
        "seconds": seconds,
        "rate": len(timed) / seconds,
        "padding": padding,
        "peak_mib": machine.peak_mib(),
        "ready_seconds": ready,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
