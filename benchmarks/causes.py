"""Where the time of kdnb's step goes, by torch's profiler."""

import argparse
import json
from pathlib import Path

import hf
import torch
import with_kdnb
from worker import rows

GROUPS = {  # group -> words in the operators' names; the first that fits
    "matrix products": ("mm", "linear", "matmul", "mkldnn"),
    "dropout's masks": ("ge_", "addcmul"),
    "AdamW and clipping": ("adam", "norm_out", "foreach", "vector_norm", "linalg"),
    "GELU": ("gelu",),
    "layer normalisation": ("layer_norm",),
    "softmax": ("softmax",),
    "copies and casts": ("copy_", "_to_copy", "clone", "cat", "contiguous"),
    "fills": ("fill_", "zero_", "zeros"),
    "embedding": ("embedding", "index"),
    "elementwise": ("mul", "add", "sum", "tanh", "div", "sub"),
}


def main() -> None:
    """Print the share of each group in the operators' own time, and of what lies outside operators."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    work = hf.load(options.folder)
    warm, timed = rows(len(work.labels), options.steps, 2, hf.BATCH)
    with_kdnb.train(work, warm)
    profiler = torch.profiler.profile()
    seconds, _ = with_kdnb.train(work, timed, around=profiler)
    spent = dict.fromkeys([*GROUPS, "other operators"], 0.0)
    for event in profiler.key_averages():
        own = max(event.self_cpu_time_total, getattr(event, "self_device_time_total", 0)) / 1e6
        fits = (group for group, words in GROUPS.items() if any(word in event.key.lower() for word in words))
        spent[next(fits, "other operators")] += own
    total = max(seconds, sum(spent.values()))
    shares = {name: value / total for name, value in spent.items()}
    shares["Python, collation, dropout's bits (numpy), waiting"] = 1 - sum(shares.values())
    print(json.dumps({"steps": options.steps, "seconds": seconds, "shares": shares}))


if __name__ == "__main__":
    main()
