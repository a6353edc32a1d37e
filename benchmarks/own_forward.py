"""Any model through transformers' own forward pass, beside the fast encoder and a tuned Trainer, on one set of weights.

    python benchmarks/own_forward.py [--rows 256] [--repeats 3] [--model minilm-6]

Examples a second of an epoch of fine-tuning on Rotten Tomatoes, the three in turn, the best of each taken: what else
runs on a machine only slows. One line of JSON. The Trainer has kdnb's precision, batches of 32 and texts of like
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


class Work:
    """A model, its texts, and the folder from which transformers loads the same weights."""

    def __init__(self, name: str, rows: int):
        self.data = splits.load("rt", "demo", rows)
        self.config = arm_config(
            "erm_small",
            task="rt",
            profile="demo",
            data=self.data.fingerprint,
            seed=0,
            model=name,
            epochs=1,
            history_points=0,
            batch_size=BATCH,
        )
        self.inputs = text.encode(name, self.data, self.config.max_length)
        self.tokenizer, self.labels = text.load_tokenizer(name, self.data), self.data.splits["train"].labels
        self.folder = Path(tempfile.mkdtemp(prefix="kdnb-bench-"))
        fast = exported.as_transformers(self.fast(), self.data.task.labels)
        exported.save(fast, self.tokenizer, self.config, self.folder)

    def fast(self) -> torch.nn.Module:
        """The classifier on kdnb's encoder."""
        return text.build(self.config, self.data)

    def theirs(self) -> torch.nn.Module:
        """The same of transformers, with the run's dropout."""
        with whole.quiet():
            model = AutoModelForSequenceClassification.from_pretrained(self.folder)
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = self.config.dropout
        return model

    def examples(self) -> list[dict]:
        """Token ids and label of each text, as a Trainer reads them."""
        tokens = self.inputs["train"]
        rows = [tokens.batch(np.array([i])) for i in range(len(tokens))]
        columns = [{name: part[0].tolist() for name, part in row.items()} for row in rows]
        return [{**row, "labels": int(label)} for row, label in zip(columns, self.labels, strict=True)]


def in_kdnbs_loop(work: Work, model: torch.nn.Module) -> float:
    """Seconds of an epoch of a model in kdnb's loop."""
    model = model.to(device())
    started = time.perf_counter()
    fit(work.config, model, work.inputs, work.labels)
    return time.perf_counter() - started


def in_a_trainer(work: Work) -> float:
    """Seconds of an epoch of a tuned Trainer."""
    arguments = TrainingArguments(
        output_dir=str(work.folder / "out"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        report_to="none",
        learning_rate=work.config.lr,
        bf16=precision() == "bf16",
        train_sampling_strategy="group_by_length",
        max_grad_norm=1.0,
        use_cpu=device().type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    collator = DataCollatorWithPadding(work.tokenizer)
    trainer = Trainer(work.theirs(), arguments, train_dataset=work.examples(), data_collator=collator)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=256, help="train rows of an epoch")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--model", default="minilm-6", help="a packaged one that the fast encoder computes")
    asked = options.parse_args()
    work = Work(asked.model, asked.rows)
    ways = {
        "fast encoder": lambda: in_kdnbs_loop(work, work.fast()),
        "transformers' forward": lambda: in_kdnbs_loop(work, whole.Whole(work.theirs())),
        "tuned Trainer": lambda: in_a_trainer(work),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    rates = {name: round(asked.rows / min(each), 3) for name, each in seconds.items()}
    fast, own, trainer = rates.values()
    told = {"model": asked.model, "device": str(device()), "precision": precision(), "rows": asked.rows}
    ratios = {"fast / own forward": round(fast / own, 3), "own forward / tuned Trainer": round(own / trainer, 3)}
    print(json.dumps({**told, "examples a second": rates, "ratios": ratios}))


if __name__ == "__main__":
    main()
