"""Entropy over training, the paper's Figures 1 and 2: sampled rarely, on few rows, so that it costs little."""

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.core.config import RunConfig
from kdnb.core.entropy import posterior_entropy
from kdnb.core.predict import predict
from kdnb.data.tokens import Tokens


class History:
    """Entropy over training (the paper's Figure 1): fixed random rows of train and test in eval mode,
    and the running batches in train mode (dropout on), averaged since the last sample."""

    def __init__(self, config: RunConfig, tokens: dict[str, Tokens], kind: str, steps: int, per_epoch: int):
        rng = np.random.default_rng(0)
        self.subsets = {}
        for split in ("train", "test"):
            rows = rng.permutation(len(tokens[split]))[: config.history_rows]
            self.subsets[split] = tokens[split].take(np.sort(rows))
        marks = np.linspace(0, steps, config.history_points + 1).round() if config.history_points else []
        self.marks = {int(mark) for mark in marks}
        self.kind, self.steps, self.per_epoch = kind, steps, per_epoch
        self.rows, self.running = [], []

    def batch(self, logits: Tensor, loss: Tensor) -> None:
        if self.marks:
            self.running.append(torch.stack([posterior_entropy(logits).mean(), loss]))

    def sample(self, model: nn.Module, step: int) -> None:
        if step not in self.marks:
            return
        running = torch.stack(self.running).mean(dim=0).tolist() if self.running else [float("nan")] * 2
        row = {"step": step, "epoch": step / self.per_epoch, "loss": running[1], "running_entropy": running[0]}
        for split, subset in self.subsets.items():
            row[f"{split}_entropy"] = float(posterior_entropy(predict(model, subset, self.kind)).mean())
        self.rows.append(row)
        self.running = []
