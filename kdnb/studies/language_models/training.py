"""The loop of a language model: given sequences, given targets, resumed exactly where it was killed."""

import contextlib
import functools
import hashlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as pack
from torch import Tensor

from kdnb import files, paths
from kdnb.core.device import autocast, deterministic, device, precision, set_up
from kdnb.core.optimizer import Optimizer
from kdnb.errors import Diverged
from kdnb.studies.language_models import fused, losses, sampling
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.losses import FromStates, Objective, Teacher
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.sparse import Sparse
from kdnb.studies.language_models.target_cache import Reader
from kdnb.studies.language_models.text import Blocks

SAVE_SECONDS = 300.0  # between two states on disk
OnStep = Callable[[int, int, float], object]  # (step, steps, mean loss [nats])


class Targets(Protocol):
    """Gives soft targets of the tokens that are told."""

    def __call__(self, rows: np.ndarray, ids: Tensor, told: Tensor | None) -> Sparse | Teacher | None:
        """Of sequences `rows` of the data, whose tokens (B, T) may be the student's own, as told (B, T) bool says."""
        ...


class NoTargets:
    """Labels alone."""

    def __call__(self, rows: np.ndarray, ids: Tensor, told: Tensor | None) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Online:
    """The teacher runs on each batch: its body once, its head chunk by chunk."""

    teacher: Language
    kind: str
    vocabulary: int

    def __call__(self, rows: np.ndarray, ids: Tensor, told: Tensor | None) -> Teacher:
        """See `Targets`."""
        with torch.no_grad(), autocast(self.kind):
            states, _ = losses.shifted(self.teacher.hidden(ids), ids, told)
        return FromStates(self.teacher.head, states, self.kind, self.vocabulary)


@dataclass(frozen=True)
class Cached:
    """Sparse targets, or the teacher's hidden states and its head, from disk: its body never runs."""

    reader: Reader
    teacher: Language | None
    kind: str
    vocabulary: int

    def __call__(self, rows: np.ndarray, ids: Tensor, told: Tensor | None) -> Sparse | Teacher:
        """See `Targets`."""
        if self.reader.manifest.storage != "hidden":
            found = self.reader.take(rows)
            if (last := int(found.ids.max())) >= self.vocabulary:  # before a GPU has them: it need not be waited for
                raise ValueError(f"vocabulary: the cache has token {last}, the student's law ends at {self.vocabulary}")
            return found.to(ids.device)
        if self.teacher is None:
            raise ValueError("a cache of hidden states needs the teacher's head: give the teacher too")
        states = self.reader.states(rows).to(ids.device)
        return FromStates(self.teacher.head, states, self.kind, self.vocabulary)


class Told:
    """A teacher's laws on all of few sequences, computed once: a small vocabulary's fit into memory.

    logits: (N, T - 1, V).
    """

    def __init__(self, teacher: Language, blocks: Blocks):
        ids = torch.from_numpy(blocks.ids.astype(np.int64)).to(device())
        with torch.no_grad():
            self.logits = torch.cat([teacher.logits(part)[:, :-1] for part in ids.split(64)])

    def __call__(self, rows: np.ndarray, ids: Tensor, told: Tensor | None = None) -> Teacher:
        """See `Targets`; of sequences all of whose tokens are told."""
        table = self.logits[torch.from_numpy(rows)].flatten(0, 1)
        return lambda part: table[part]


def objective(config: LMConfig) -> Objective:
    """What a config's student learns."""
    return Objective(
        alpha=config.alpha,
        divergence=config.divergence,
        beta=None if config.beta < 0 else config.beta,
        tau=config.tau,
        variant=config.variant,
    )


def order(config: LMConfig, rows: int, step: int) -> np.ndarray:
    """The sequences of a step, from (order_seed, step) alone: each once before any comes again, in each pass anew."""
    first = step * config.batch_size
    wanted = np.arange(first, first + config.batch_size)
    return np.array([_pass(config.order_seed, int(n // rows), rows)[n % rows] for n in wanted])


@functools.lru_cache(maxsize=2)  # a step may end one pass and begin the next
def _pass(seed: int, number: int, rows: int) -> np.ndarray:
    """The order of the sequences in one pass over them."""
    return np.random.default_rng((seed, number)).permutation(rows)


@dataclass(frozen=True)
class Watch:
    """Who looks on.

    state: file of the weights, the optimizer's state and the step; None keeps none.
    every: seconds between two of them.
    on_step: called after each optimiser step.
    """

    state: Path | None = None
    every: float = SAVE_SECONDS
    on_step: OnStep | None = None


@deterministic()
def fit(
    config: LMConfig, student: Language, blocks: Blocks, targets: Targets, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Train a student in place; returns rows of the history: step, tokens, mean loss [nats].

    Stopped at any point and called again with the same arguments it goes on from the last state on disk; on one
    machine the weights at the end are the same to the last bit.

    Args:
        config: its data is the blocks'.
        student: on the training device.
        blocks: sequences trained on.
        targets: gives the teacher's law.
        watch: where the state lies, and who hears of each step.
    Raises:
        ValueError: blocks are not the config's data, or the state is of another run.
        Diverged: the loss is not finite.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state of the step then under way is on disk.
    """
    if blocks.fingerprint != config.data:
        raise ValueError(f"data: the sequences are {blocks.fingerprint}, the config says {config.data}")
    watch = watch or Watch()
    state = watch.state
    set_up(precision(config.precision))
    optimizer = Optimizer(student.model, config, "fp32")  # type: ignore[arg-type] # of its settings it reads five
    history: list[dict[str, float]] = []
    begun = _restore(state, config, student, optimizer, history) if state else 0
    student.model.train()
    due = time.monotonic() + watch.every
    with _put_off() as asked:
        for step in range(begun, config.steps):
            ids, rows, told = batch(config, student, blocks, step)
            with _dropout(config, step):
                loss = _step(config, student, targets, (ids, rows, told))
            if not math.isfinite(loss):
                raise Diverged(f"the loss of step {step + 1} is {loss}; a smaller learning rate than {config.lr}?")
            optimizer.step(config.learning_rate(step))
            history.append({"step": step + 1, "tokens": (step + 1) * config.tokens_of_step, "loss": loss})
            if watch.on_step:
                watch.on_step(step + 1, config.steps, loss)
            if state and step + 1 < config.steps and (asked or time.monotonic() >= due):
                files.write_atomically(state, _packed(config, student, optimizer, step + 1, history), durable=True)
                due = time.monotonic() + watch.every
            if asked:
                break
    student.model.eval()
    return history


@contextlib.contextmanager
def _put_off() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are put off to the end of this block, which learns of them from a list; a second is not."""
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore(number: int = 0, _frame: object = None) -> None:
        for one, handler in before.items():
            signal.signal(one, handler)
        if number:
            asked.append(number)

    for number in before:
        signal.signal(number, restore)
    try:
        yield asked
    finally:
        restore()
    if asked:
        signal.raise_signal(asked[0])


@contextlib.contextmanager
def _dropout(config: LMConfig, step: int) -> Iterator[None]:
    """What a student drops comes from (seed, step) alone, so that it too resumes exactly; torch's state comes back."""
    with torch.random.fork_rng([device()] if device().type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence((config.seed, step)).generate_state(1)[0]))
        yield


def batch(config: LMConfig, student: Language, blocks: Blocks, step: int) -> tuple[Tensor, np.ndarray, Tensor | None]:
    """Token ids (B, T) of a step, their rows in the data, and which tokens are told (None: all but the first)."""
    rows = order(config, len(blocks), step)
    ids = torch.from_numpy(blocks.ids[rows].astype(np.int64)).to(device())
    if config.targets != "on_policy" or np.random.default_rng((config.seed, step)).random() >= config.on_policy:
        return ids, rows, None
    own, told = _own_prefixes(config, student, ids, blocks.separator, (config.seed, step))
    return own, rows, told


def _own_prefixes(
    config: LMConfig, student: Language, ids: Tensor, separator: int, key: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The first tokens of the text and what the student says after them, told up to its first separator."""
    training = student.model.training
    student.model.eval()  # no dropout while it samples
    drawn = sampling.sample(student, ids[:, : config.prompt], config.length - config.prompt, key=key)
    student.model.train(training)
    own = drawn[:, config.prompt :]
    ended = (own == separator).long().cumsum(dim=1) - (own == separator).long() > 0
    told = torch.cat([torch.zeros_like(drawn[:, : config.prompt], dtype=torch.bool), ~ended], dim=1)
    return drawn, told


def _step(
    config: LMConfig, student: Language, targets: Targets, data: tuple[Tensor, np.ndarray, Tensor | None]
) -> float:
    """Gradients of one optimiser step; the mean loss of its tokens [nats]. One count divides all micro batches."""
    ids, rows, told = data
    learned, kind = objective(config), precision(config.precision)
    count = int(told[:, 1:].sum()) if told is not None else ids.shape[0] * (ids.shape[1] - 1)
    walk = fused.from_hidden if config.kernel == "liger" else losses.from_hidden
    size, total = config.micro_batch or config.batch_size, torch.zeros((), device=ids.device)
    for start in range(0, len(ids), size):
        part = slice(start, start + size)
        some = told[part] if told is not None else None
        with autocast(kind):
            hidden, labels = losses.shifted(student.hidden(ids[part]), ids[part], some)
        soft = targets(rows[part], ids[part], some)
        weight, bias = student.head.weight[: config.vocabulary], student.head.bias
        bias = bias[: config.vocabulary] if bias is not None else None
        loss = walk(learned, hidden, losses.Head(weight, bias), labels, soft) / max(1, count)
        loss.backward()
        total += loss.detach()
    return float(total)


def _packed(config: LMConfig, student: Language, optimizer: Optimizer, step: int, history: list) -> bytes:
    """The whole state of a training as safetensors."""
    tensors = {f"model.{i}": p.detach() for i, p in enumerate(student.model.parameters())}
    for number, values in optimizer.rule.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
    tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    told = {"run_id": config.run_id(), "step": str(step), "history": json.dumps(history)}
    return pack(tensors, {**told, "sha256": _digest(tensors, told)})


def _digest(tensors: dict[str, Tensor], told: dict[str, str]) -> str:
    """sha256 of a state: what is told of it, and every tensor."""
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _restore(path: Path, config: LMConfig, student: Language, optimizer: Optimizer, history: list) -> int:
    """Put a training into the state of a file; the step it goes on with, 0 where there is none.

    A file that is not as it was written is told, set aside, and not used.

    Raises:
        ValueError: it is the state of another run.
    """
    if not path.exists():
        return 0
    try:
        told, tensors = _state(path)
    except Exception as error:  # safetensors raises classes of its own
        files.check_writable(paths.DAMAGED)
        aside = paths.DAMAGED / f"{config.run_id()}-{time.strftime('%Y%m%dT%H%M%S')}.safetensors"
        os.replace(path, aside)
        print(f"kdnb: {path}: {error}; set aside in {aside}, the training begins anew", file=sys.stderr)
        return 0
    if told["run_id"] != config.run_id():
        raise ValueError(f"{path} is the state of {told['run_id']}, not of {config.run_id()}")
    for i, p in enumerate(student.model.parameters()):
        p.data.copy_(tensors[f"model.{i}"])
    stored: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, what = name.split(".", 2)
            stored.setdefault(int(number), {})[what] = tensor
    groups = optimizer.rule.state_dict()["param_groups"]
    optimizer.rule.load_state_dict({"state": stored, "param_groups": groups})
    history.extend(json.loads(told["history"]))
    return int(told["step"])


def _state(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a state tells of itself, and its tensors; raises if they are not what was written."""
    files.check_ordinary(path)
    with safe_open(path, framework="pt") as file:
        told = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file is no dict
    digest = told.pop("sha256", None)
    if "run_id" not in told or digest not in (None, _digest(tensors, told)):  # earlier versions wrote none
        raise ValueError("not what was written")
    return told, tensors
