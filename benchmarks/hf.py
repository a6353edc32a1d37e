"""What the contestants share: the prepared work, examples, collation, models. Imports nothing of kdnb."""

import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
import torch
import torch.nn.functional as F

ALPHA, TAU, LR, BATCH, MAX_LENGTH = 0.5, 1.0, 5e-5, 32, 128  # the reference work; alpha weights the soft target
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Work:
    """The reference work as `prepare.py` wrote it: flat token ids, labels (N,), teacher logits (N, K), folder."""

    folder: Path
    facts: dict
    ids: np.ndarray
    starts: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    teacher_logits: np.ndarray

    def examples(self, rows, *, padded: bool = False, cached: bool = False) -> list[dict]:
        """Examples as a transformers tokenizer gives them: to MAX_LENGTH if padded, teacher_logits if cached."""
        return [self._example(row, MAX_LENGTH if padded else 0, cached) for row in rows]

    def _example(self, row: int, length: int, cached: bool) -> dict:
        ids = self.ids[self.starts[row] : self.starts[row + 1]].tolist()
        size, second = len(ids), int(self.second[row])
        blank = max(0, length - size)
        example = {
            "input_ids": ids + [self.facts["pad_id"]] * blank,
            "token_type_ids": [0] * second + [1] * (size - second) + [0] * blank,
            "attention_mask": [1] * size + [0] * blank,
            "labels": int(self.labels[row]),
        }
        return {**example, "teacher_logits": self.teacher_logits[row].tolist()} if cached else example


def load(folder: Path) -> Work:
    """The work in a folder."""
    with np.load(folder / "work.npz") as arrays:
        return Work(folder, json.loads((folder / "work.json").read_text()), **arrays)


def model(work: Work, which: str, **changes) -> torch.nn.Module:
    """BertForSequenceClassification of "student" or "teacher", all from the same pretrained weights."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(work.folder / which, **changes).to(DEVICE)


class Collator:
    """transformers' DataCollatorWithPadding, a plain dict, and a count of the padding."""

    def __init__(self, work: Work):
        from transformers import AutoTokenizer, DataCollatorWithPadding, logging

        logging.set_verbosity_error()
        self.pad = DataCollatorWithPadding(AutoTokenizer.from_pretrained(work.folder / "tokenizer"))
        self.real = self.all = 0

    def __call__(self, examples: list[dict]) -> dict:
        batch = dict(self.pad(examples))
        self.real += int(batch["attention_mask"].sum())
        self.all += batch["attention_mask"].numel()
        return batch

    @property
    def padding(self) -> float:
        """Share of padding among the tokens collated so far."""
        return 1 - self.real / max(1, self.all)


def kd_loss(logits, labels, teacher_logits):
    """The reference loss as tutorials write it: cross-entropy and KL, one half each."""
    soft = F.kl_div(F.log_softmax(logits / TAU, dim=-1), F.softmax(teacher_logits / TAU, dim=-1), reduction="batchmean")
    return (1 - ALPHA) * F.cross_entropy(logits, labels) + ALPHA * TAU**2 * soft


def loader(examples: list[dict], collator: Collator, grouped: bool):
    """A DataLoader, shuffled; `grouped` puts texts of like length together, as Trainer's group_by_length does."""
    from torch.utils.data import DataLoader
    from transformers.trainer_pt_utils import LengthGroupedSampler

    lengths = [len(example["input_ids"]) for example in examples]
    sampler = LengthGroupedSampler(BATCH, lengths=lengths) if grouped else None
    return DataLoader(examples, BATCH, shuffle=not grouped, sampler=sampler, collate_fn=collator)


def synced() -> float:
    """The time, once a GPU has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Stretches:
    """Seconds of equal stretches of a training, after warm-up steps; call it with each step's number, 1 and up."""

    def __init__(self, warm: int, steps: int, count: int):
        """count: stretches that `steps`, a multiple of it, are cut into."""
        self.length = steps // count
        self.marks = {warm + i * self.length for i in range(count + 1)}
        self.started, self.times = synced(), []

    def __call__(self, step: int) -> None:
        """Note the time if a stretch ends at this step."""
        if step in self.marks:
            self.times.append(synced())

    def result(self) -> dict:
        """Rates [examples/s], their median, and the seconds until the warm-up was done (compilation included)."""
        rates = [self.length * BATCH / (b - a) for a, b in itertools.pairwise(self.times)]
        warm = self.times[0] - self.started
        return {"rate": statistics.median(rates), "rates": rates, "warm_seconds": warm, **peak_memory()}


def peak_memory() -> dict:
    """Peak of the tensors and of what is held for them on the card [MiB]; of the whole process on a CPU."""
    if DEVICE == "cpu":
        return {"peak_mib": machine.peak_mib()}
    held = {"peak_mib": torch.cuda.max_memory_allocated(), "reserved_mib": torch.cuda.max_memory_reserved()}
    return {name: size / 2**20 for name, size in held.items()}
