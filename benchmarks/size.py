"""Cost of kdnb's training against the number of rows, rows repeated from the available text."""

import argparse
import json
import statistics
import subprocess
import sys
import time

import machine

STEPS, WARM, BATCH = 24, 3, 32


def repeated(count: int):
    """The task's training text, its rows repeated to `count`."""
    import numpy as np

    from kdnb import paths
    from kdnb.data import splits as data
    from kdnb.data.splits import Split, TaskData

    task = "mrpc" if (paths.GLUE / "MRPC").is_dir() else "headline"
    whole = data.load(task, "cpu", data.Rows(train=0))
    source = whole.splits["train"]
    rows = np.resize(np.arange(len(source)), count)
    split = Split([source.text[i] for i in rows], [source.text2[i] for i in rows], source.labels[rows])
    return TaskData(whole.task, {"train": split}, whole.fingerprint)


def measure(count: int) -> dict:
    """One size in this process: tokenising, planning, then STEPS steps."""
    import kdnb  # noqa: F401, I001  # before torch, as its users do
    import numpy as np
    from kdnb.catalog import model_of
    from kdnb.models import text
    from kdnb.data.tokens import tokenize
    from kdnb.core.batches import plan_batches

    data = repeated(count)
    tokenizer = text.load_tokenizer(model_of("cpu", "small"), data)
    started = time.perf_counter()
    tokens = tokenize(data.splits["train"], tokenizer, 128)
    tokenised = time.perf_counter()
    batches = plan_batches(tokens.lengths, BATCH, np.random.default_rng(0))
    planned = time.perf_counter()
    chosen = spread(batches, tokens.lengths)
    return {
        "rows": count,
        "train_ms": 1e3 * train(data, tokens, chosen),
        "tokenize_ms": 1e3 * (tokenised - started) / count,
        "plan_ms": 1e3 * (planned - tokenised) / count,
        "mean_length": float(np.mean([tokens.lengths[batch].mean() for batch in chosen])),
        "peak_mib": machine.peak_mib(),
        "ids_mib": tokens.ids.nbytes / 2**20,
    }


def spread(batches: list, lengths) -> list:
    """STEPS full batches spread evenly over the lengths, so that every size trains on texts of like length."""
    import numpy as np

    full = sorted((b for b in batches if len(b) == BATCH), key=lambda batch: lengths[batch].sum())
    places = np.linspace(0, len(full) - 1, STEPS + 2).round().astype(int)[1:-1]
    return [full[i] for i in np.random.default_rng(0).permutation(places)]


def train(data, tokens, chosen: list) -> float:
    """Seconds per example over the chosen batches, after WARM steps."""
    from kdnb.core.device import device
    from kdnb.core.loop import fit
    from kdnb.experiment.arms import arm_config
    from kdnb.models import text

    config = arm_config(
        "ls_small",
        task=data.task.name,
        profile="cpu",
        data=data.fingerprint,
        seed=0,
        batch_size=BATCH,
        lr=5e-5,
        history_points=0,
    )
    times, model = {}, text.build(config, data).to(device())
    both, labels = {"train": tokens, "test": tokens}, data.splits["train"].labels

    def clock(step, _total, loss):
        times[step] = loss.item() and time.perf_counter()  # item() waits for a GPU

    fit(config, model, both, labels, plan=[chosen[:WARM] + chosen], on_step=clock)
    return (times[WARM + STEPS] - times[WARM]) / (STEPS * BATCH)


def main() -> None:
    """Every size in a fresh process, rounds interleaved; medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000, 16000, 64000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="one size, in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.rows[0])))
        return
    found = {count: [] for count in options.rows}
    for _ in range(options.rounds):
        for count in options.rows:
            command = [sys.executable, __file__, "--here", "--rows", str(count)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[count].append(json.loads(done.stdout.strip().splitlines()[-1]))
    sizes = []
    for rounds in found.values():
        times = [r["train_ms"] for r in rounds]
        medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        sizes.append({**medians, "train_ms_min": min(times), "train_ms_max": max(times)})
    print(json.dumps({"sizes": sizes, "rounds": found}))


if __name__ == "__main__":
    main()
