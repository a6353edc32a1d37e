"""One fine-tuning loop for all methods: ERM, LS, KD and teacher-free KD. Returns a run, writes nothing."""

import functools
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn

from kdnb import metrics, models, paths
from kdnb.config import RunConfig
from kdnb.data import SPLITS, TaskData
from kdnb.entropy import posterior_entropy
from kdnb.losses import erm_loss, kd_loss, ls_loss, virtual_teacher_logits
from kdnb.predict import autocast, device, precision, predict
from kdnb.runs import Run
from kdnb.tokens import Tokens, collate, plan_batches, tokenize


def fit(config: RunConfig, data: TaskData, teacher: Run | None = None, on_step: Callable | None = None) -> Run:
    """Fine-tune one model and read off its logits on all three splits.

    AdamW with bias correction on the mean loss of each batch; the teacher is never run: its train
    logits come from its stored run.

    Args:
        config: what to train. data: the task's splits; its fingerprint must be the config's.
        teacher: the run named by config.teacher_run, for kd.
        on_step: called as on_step(step, total, loss) after each optimiser step.
    Returns:
        The finished run, not yet stored. Same config, same machine: identical logits.
    Raises:
        ValueError: data or teacher do not belong to the config.
    """
    check_inputs(config, data, teacher)
    started, kind = time.perf_counter(), precision(config.precision)
    tokens, pad_id = encode(models.encoder_name(config.profile, config.student), data, config.max_length)
    with torch.random.fork_rng(), _deterministic():
        torch.manual_seed(config.seed)
        model = models.build(config, data).to(device())
        history, train_seconds = _train(model, config, data, tokens, pad_id, kind, teacher, on_step)
        logits = {split: predict(model, tokens[split], pad_id, kind).numpy() for split in SPLITS}
    labels = {split: data.splits[split].labels for split in SPLITS}
    values = {s: metrics.summary(logits[s], labels[s], teacher.logits[s] if teacher else None) for s in SPLITS}
    cost = {"seconds": round(time.perf_counter() - started, 3), "train_seconds": round(train_seconds, 3)}
    return Run(config, logits, labels, {**values, "cost": {**cost, **_surroundings(kind)}}, history)


def check_inputs(config: RunConfig, data: TaskData, teacher: Run | None) -> None:
    """Raise ValueError unless data and teacher belong to the config."""
    if data.fingerprint != config.data:
        raise ValueError(f"run {config.run_id()} is for data {config.data}, got {data.fingerprint} ({data.task.name})")
    if config.method == "tfkd" and not 1 / data.task.num_classes < config.confidence < 1:
        raise ValueError(f"confidence must be in (1/{data.task.num_classes}, 1), got {config.confidence}")
    if config.method != "kd":
        return
    if teacher is None or teacher.run_id != config.teacher_run:
        raise ValueError(f"teacher run {config.teacher_run} is needed, got {teacher.run_id if teacher else 'none'}")
    if teacher.config.data != config.data:
        raise ValueError(
            f"teacher {teacher.run_id} was trained on {teacher.config.task} (data {teacher.config.data}), the student "
            f"on {config.task} (data {config.data}): task, rows and label order must be the same"
        )


@functools.lru_cache(maxsize=8)
def encode(encoder: str, data: TaskData, max_length: int) -> tuple[dict[str, Tokens], int]:
    """Token ids of all splits for an encoder, and its padding id; kept, so that a process tokenises once."""
    tokenizer = models.load_tokenizer(encoder, data)
    return {name: tokenize(split, tokenizer, max_length) for name, split in data.splits.items()}, tokenizer.pad_token_id


def learning_rate(config: RunConfig, step: int, total: int) -> float:
    """Learning rate of step 0..total-1: warm-up, then linear decay to 0 or constant."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.lr * step / warmup
    return config.lr if config.schedule == "constant" else config.lr * (total - step) / max(1, total - warmup)


def batch_loss(config: RunConfig, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:
    """The method's mean loss on a batch [nats]; logits and teacher_logits (B, K), labels (B,)."""
    if config.method == "erm":
        return erm_loss(logits, labels)
    if config.method == "ls":
        return ls_loss(logits, labels, config.alpha)
    if config.method == "tfkd":
        teacher_logits = virtual_teacher_logits(labels, logits.shape[1], config.confidence)
    return kd_loss(logits, labels, teacher_logits, config.alpha, config.tau, config.tau2_scaling)


def _train(model, config, data, tokens, pad_id, kind, teacher, on_step, epochs=None) -> tuple[list[dict], float]:
    """The history and the seconds spent, entropy samples included. `epochs`, lists of batches of row numbers,
    replaces those drawn for the config: for tests and benchmarks."""
    started, rng = time.perf_counter(), np.random.default_rng(config.order_seed)
    labels = torch.from_numpy(data.splits["train"].labels).to(device())
    teacher_logits = torch.from_numpy(teacher.logits["train"]).to(device()) if teacher else None
    epochs = epochs or [plan_batches(tokens["train"].lengths, config.batch_size, rng) for _ in range(config.epochs)]
    batches = [rows for epoch in epochs for rows in epoch]
    history = _History(config, tokens, pad_id, kind, len(batches), len(epochs[0]))
    if not config.weight_decay:  # with it, words that never occur decay too
        model.encoder.restrict(torch.from_numpy(np.union1d(tokens["train"].ids, pad_id)).long().to(device()))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay, fused=True
    )
    model.train()
    history.sample(model, 0)
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step, len(batches))
        inputs = collate(tokens["train"], rows, pad_id)
        inputs = {name: part.to(device(), non_blocking=True) for name, part in inputs.items()}
        index = torch.from_numpy(rows).to(device(), non_blocking=True)
        with autocast(kind):
            logits = model(**inputs)
        loss = batch_loss(config, logits, labels[index], teacher_logits[index] if teacher else None)
        loss.backward()
        if config.clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        history.batch(logits.detach(), loss.detach())
        history.sample(model, step + 1)
        if on_step:
            on_step(step + 1, len(batches), loss.detach())
    return history.rows, time.perf_counter() - started


class _History:
    """Entropy over training (the paper's Figure 1): fixed random rows of train and test in eval mode,
    and the running batches in train mode (dropout on), averaged since the last sample."""

    def __init__(self, config: RunConfig, tokens: dict[str, Tokens], pad_id: int, kind: str, steps: int, per_epoch):
        rng = np.random.default_rng(0)
        self.subsets = {s: _take(tokens[s], rng, config.history_rows) for s in ("train", "test")}
        marks = np.linspace(0, steps, config.history_points + 1).round() if config.history_points else []
        self.marks = {int(mark) for mark in marks}
        self.pad_id, self.kind, self.per_epoch = pad_id, kind, per_epoch
        self.rows, self.running = [], []

    def batch(self, logits: Tensor, loss: Tensor) -> None:
        self.running.append(torch.stack([posterior_entropy(logits).mean(), loss]))

    def sample(self, model: nn.Module, step: int) -> None:
        if step not in self.marks:
            return
        running = torch.stack(self.running).mean(dim=0).tolist() if self.running else [float("nan")] * 2
        row = {"step": step, "epoch": step / self.per_epoch, "loss": running[1], "running_entropy": running[0]}
        for split, subset in self.subsets.items():
            row[f"{split}_entropy"] = float(posterior_entropy(predict(model, subset, self.pad_id, self.kind)).mean())
        self.rows.append(row)
        self.running = []


def _take(tokens: Tokens, rng: np.random.Generator, count: int) -> Tokens:
    """The tokens of `count` random rows."""
    rows = np.sort(rng.permutation(len(tokens))[:count])
    ids = [tokens.ids[tokens.starts[row] : tokens.starts[row + 1]] for row in rows]
    return Tokens(np.concatenate(ids), np.concatenate([[0], np.cumsum(tokens.lengths[rows])]), tokens.second[rows])


class _deterministic:
    """On a GPU, only deterministic kernels; the CPU's are so anyway."""

    def __enter__(self):
        self.before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(device().type == "cuda" or self.before)

    def __exit__(self, *_):
        torch.use_deterministic_algorithms(self.before)


def _surroundings(kind: str) -> dict:
    """Where a run was made: device, precision, memory, versions, code revision."""
    gpu = device().type == "cuda"
    if gpu:
        peak, name = torch.cuda.max_memory_allocated(), torch.cuda.get_device_name()
    else:
        peak, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, f"cpu ({platform.machine()})"
    return {
        "peak_memory_mib": round(peak / 2**20), "device": name, "threads": torch.get_num_threads(), "precision": kind,
        **_software(),
    }  # fmt: skip


@functools.cache
def _software() -> dict:
    packages = ("torch", "transformers", "numpy", "kdnb")
    git = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        revision = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {"versions": {"python": sys.version.split()[0], **{p: version(p) for p in packages}}, "revision": revision}
