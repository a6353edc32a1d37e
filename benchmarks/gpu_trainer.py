"""Tuned transformers.Trainer on a pair of `gpu.py`, without and with torch.compile. Imports nothing of kdnb."""

import argparse
import json
from pathlib import Path

import hf
import numpy as np
import with_trainer
import worker
from transformers import TrainerCallback

LOADERS = 2  # processes that collate ahead of a GPU


class Steps(TrainerCallback):
    """Hands each finished step's number on."""

    def __init__(self, on_step):
        self.on_step = on_step

    def on_step_end(self, _, state, *__, **___):
        self.on_step(state.global_step)


def training(work: hf.Work, compiled: bool) -> dict:
    """What tuning adds to `with_trainer`'s arguments."""
    cuda, bf16 = hf.DEVICE == "cuda", work.facts["precision"] == "bf16"
    return {
        "bf16": bf16,
        "optim": "adamw_torch_fused",
        "torch_compile": compiled,
        "logging_nan_inf_filter": False,  # it would wait for the card in every step
        **({"tf32": True} if cuda and bf16 else {}),
        **({"dataloader_num_workers": LOADERS, "dataloader_persistent_workers": True} if cuda else {}),
    }


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warm", type=int, required=True)
    parser.add_argument("--stretches", type=int, required=True)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    work = hf.load(options.folder)
    rows = np.concatenate(worker.rows(len(work.labels), options.steps, options.warm, hf.BATCH))
    student, unused = hf.model(work, "student"), set()
    if student.config.model_type == "distilbert":  # it does not tell the two texts apart
        unused = {"token_type_ids"}
    examples = [
        {name: value for name, value in example.items() if name not in unused}
        for example in work.examples(rows, cached=True)
    ]
    stretches = hf.Stretches(options.warm, options.steps, options.stretches)
    trainer = with_trainer.make(
        student,
        examples,
        hf.Collator(work),
        tuned=True,
        callbacks=[Steps(stretches)],
        training=training(work, options.compile),
    )
    trainer.train()
    print(json.dumps({**stretches.result(), "compiled": options.compile}))


if __name__ == "__main__":
    main()
