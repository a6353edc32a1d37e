"""One fine-tuning loop for all methods: ERM, LS, KD and teacher-free KD. Returns a run, writes nothing."""

import functools
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from kdnb import metrics, models
from kdnb.config import RunConfig
from kdnb.cost import release_memory, surroundings
from kdnb.data import SPLITS, TaskData
from kdnb.history import History
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
    del model
    release_memory()
    labels = {split: data.splits[split].labels for split in SPLITS}
    values = {s: metrics.summary(logits[s], labels[s], teacher.logits[s] if teacher else None) for s in SPLITS}
    cost = {"seconds": round(time.perf_counter() - started, 3), "train_seconds": round(train_seconds, 3)}
    return Run(config, logits, labels, {**values, "cost": {**cost, **surroundings(kind)}}, history)


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
    history = History(config, tokens, pad_id, kind, len(batches), len(epochs[0]))
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


class _deterministic:
    """On a GPU, only deterministic kernels; the CPU's are so anyway."""

    def __enter__(self):
        self.before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(device().type == "cuda" or self.before)

    def __exit__(self, *_):
        torch.use_deterministic_algorithms(self.before)
