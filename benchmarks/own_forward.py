"""Any model through transformers' own forward pass, beside the fast encoder and a tuned Trainer, on one set of weights.

    python benchmarks/own_forward.py [--rows 256] [--repeats 3] [--model minilm-6]

Examples a second of an epoch of fine-tuning on Rotten Tomatoes, the three in turn, the best of each taken: what else
runs on a machine only slows. One line of JSON. The Trainer has kdnb's loss, precision, batches of 32 and texts of like
length together, and no evaluation; kdnb's own loop samples no curves here.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

from kdnb.core.device import device, precision
from kdnb.core.loop import fit
from kdnb.data import splits
from kdnb.experiment.arms import arm_config
from kdnb.models import exported, text, whole

BATCH = 32


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=256, help="train rows of an epoch")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--model", default="minilm-6", help="a packaged one that the fast encoder computes")
    asked = options.parse_args()
    data = splits.load("rt", "demo", asked.rows)
    config = arm_config(
        "erm_small", task="rt", profile="demo", data=data.fingerprint, seed=0, model=asked.model, epochs=1,
        history_points=0, batch_size=BATCH,
    )  # fmt: skip
    inputs, tokenizer = text.encode(asked.model, data, config.max_length), text.load_tokenizer(asked.model, data)
    folder, kind = Path(tempfile.mkdtemp(prefix="kdnb-bench-")), precision()
    fast = text.build(config, data)
    exported.save(exported.as_transformers(fast, data.task.labels), tokenizer, config, folder)
    labels = data.splits["train"].labels

    def theirs() -> torch.nn.Module:
        with whole.quiet():
            model = AutoModelForSequenceClassification.from_pretrained(folder)
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = config.dropout
        return model

    def ours(model: torch.nn.Module) -> float:
        model = model.to(device())
        started = time.perf_counter()
        fit(config, model, inputs, labels)
        return time.perf_counter() - started

    def trainer() -> float:
        tokens = inputs["train"]
        rows = [tokens.batch(np.array([i])) for i in range(len(tokens))]
        examples = [
            {**{n: v[0].tolist() for n, v in row.items()}, "labels": int(labels[i])} for i, row in enumerate(rows)
        ]
        arguments = TrainingArguments(
            output_dir=str(folder / "out"), per_device_train_batch_size=BATCH, num_train_epochs=1, report_to="none",
            learning_rate=config.lr, bf16=kind == "bf16", train_sampling_strategy="group_by_length", max_grad_norm=1.0,
            use_cpu=device().type == "cpu", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        made = Trainer(theirs(), arguments, train_dataset=examples, data_collator=DataCollatorWithPadding(tokenizer))
        started = time.perf_counter()
        made.train()
        return time.perf_counter() - started

    ways = {
        "fast encoder": lambda: ours(text.build(config, data)),
        "transformers' forward": lambda: ours(whole.Whole(theirs())),
        "tuned Trainer": trainer,
    }
    best = {name: min(seconds) for name, seconds in _in_turn(ways, asked.repeats).items()}
    rates = {name: asked.rows / seconds for name, seconds in best.items()}
    told = {"model": asked.model, "device": str(device()), "precision": kind, "rows": asked.rows}
    ratios = {
        "fast / transformers' forward": rates["fast encoder"] / rates["transformers' forward"],
        "transformers' forward / tuned Trainer": rates["transformers' forward"] / rates["tuned Trainer"],
    }
    print(json.dumps({**told, "examples a second": _short(rates), "ratios": _short(ratios)}))


def _in_turn(ways: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, one after the other, several times."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    return seconds


def _short(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


if __name__ == "__main__":
    main()
