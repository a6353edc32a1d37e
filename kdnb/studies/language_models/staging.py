"""From attention to a state-space mixer in three stages (MOHAWK, Bick et al. 2024, arXiv 2408.10189), made and judged.

1: each mixer's matrix against the teacher's attention; 2: each block's output against the teacher's, its feed-forward
part frozen; both layer by layer, on the teacher's own inputs of that layer. 3: all weights, end to end, against the
teacher's law of the next token; that is the loop of every other student.
"""

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.core.device import deterministic, device
from kdnb.core.optimizer import Optimizer
from kdnb.experiment.records import Made
from kdnb.studies.language_models import evaluation, models, stages, training
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.mixers import StateSpaceMixer, block_loss, matrix_loss, relative_error
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.stages import Arm, Beside, Conversion, Experiment
from kdnb.studies.language_models.text import Blocks

TRACED = 64  # held-out sequences that errors of matrices and blocks are measured on
POINTS = 25  # of a stage's history


@dataclass(frozen=True)
class Seen:
    """What a layer was given and what it made of it.

    inputs: hidden states (B, T, d).
    matrix: attention's weights, or the mixer's matrix (B, H, T, T).
    outputs: hidden states (B, T, d) of the whole block.
    """

    inputs: Tensor
    matrix: Tensor
    outputs: Tensor


def trace(language: Language, ids: Tensor) -> list[Seen]:
    """Each layer of a model as it reads ids (B, T), without gradient.

    Raises:
        ValueError: its attention keeps its weights to itself; load it with attention "eager".
    """
    blocks, mixers, hooks = [], [], []
    for layer in _layers(language):
        hooks.append(layer.register_forward_hook(lambda _, given, made: blocks.append((given[0], made))))
        hooks.append(layer.self_attn.register_forward_hook(lambda _, given, made: mixers.append(made[1])))
    try:
        with torch.no_grad():
            language.hidden(ids)
    finally:
        for hook in hooks:
            hook.remove()
    if any(one is None for one in mixers):
        raise ValueError(f'{language.name}: its attention weights are not to be had; load it with attention "eager"')
    return [Seen(given, matrix, made) for (given, made), matrix in zip(blocks, mixers, strict=True)]


def convert(teacher: Language, arm: Arm, seed: int) -> Language:
    """A student with state-space mixers in place of its teacher's; the teacher is left as it is.

    Copied are embeddings, norms, feed-forward layers, head, and of each mixer its values and output: all but what the
    matrix is made of.

    Args:
        teacher: of Llama's layers, as many key heads as query heads.
        arm: what is copied and kept, and the size of the state.
        seed: of all new weights.
    Raises:
        ValueError: the teacher's key heads are shared, its attention has biases, or a kept layer is not there.
    """
    config = teacher.model.config
    if config.num_key_value_heads != config.num_attention_heads or config.attention_bias:
        raise ValueError(f"{teacher.name}: expected attention without shared key heads and without biases")
    if not set(arm.kept) <= set(range(config.num_hidden_layers)):
        raise ValueError(f"kept layers must be in 0..{config.num_hidden_layers - 1}, got {arm.kept}")
    if arm.copied:
        model = copy.deepcopy(teacher.model)
    else:
        model = models.from_config(config.to_dict(), teacher.vocabulary, seed).model
    student = Language(model, teacher.tokenizer, f"{teacher.name}, {arm.name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, layer in enumerate(_layers(student)):
            if number not in arm.kept:
                layer.self_attn = _mixer(layer.self_attn, config, arm)
    student.model.eval().requires_grad_(True)
    return student


def _mixer(attention: nn.Module, config: Any, arm: Arm) -> StateSpaceMixer:
    size = config.hidden_size // config.num_attention_heads
    mixer = StateSpaceMixer(config.hidden_size, config.num_attention_heads, size, arm.state)
    if arm.copied:
        mixer.v_proj.load_state_dict(attention.v_proj.state_dict())
        mixer.o_proj.load_state_dict(attention.o_proj.state_dict())
    return mixer.to(device())


def _layers(language: Language) -> nn.ModuleList:
    return language.model.base_model.layers


def _converted(student: Language) -> list[tuple[int, nn.Module]]:
    """The layers without attention, with their numbers."""
    return [(i, one) for i, one in enumerate(_layers(student)) if isinstance(one.self_attn, StateSpaceMixer)]


def stage_loss(stage: str, layer: nn.Module, seen: Seen) -> Tensor:
    """Of one layer of the student on the inputs that the teacher's layer had; stage "1" or "2"."""
    if stage == "1":
        return matrix_loss(layer.self_attn.matrix(layer.input_layernorm(seen.inputs)), seen.matrix)
    return block_loss(layer(seen.inputs), seen.outputs)


def align(config: LMConfig, stage: str, student: Language, teacher: Language, blocks: Blocks) -> list[float]:
    """Train the mixers of a student in place, each layer for itself; returns the loss of each step.

    Args:
        config: of the steps, batches and learning rate.
        stage: "1" moves what the matrix is made of, since its loss has no gradient in values and output; "2" all.
        student: all its other weights stay as they are.
        teacher: frozen.
        blocks: sequences.
    """
    converted = _converted(student)
    student.model.requires_grad_(False)
    mixers = nn.ModuleList(layer.self_attn for _, layer in converted).requires_grad_(True)
    optimizer = Optimizer(mixers, config, "fp32")  # type: ignore[arg-type] # of its settings it reads five
    losses = []
    for step in range(config.steps):
        ids, _, _ = training.batch(config, student, blocks, step)
        seen = trace(teacher, ids)
        loss = torch.stack([stage_loss(stage, layer, seen[number]) for number, layer in converted]).sum()
        loss.backward()
        optimizer.step(config.learning_rate(step))
        losses.append(float(loss.detach()))
    student.model.requires_grad_(True)
    return losses


@dataclass(frozen=True)
class _Texts:
    """Sequences of one experiment, and how its trainings are named."""

    train: Blocks
    held_out: Blocks
    answers: slice | None  # columns of what `evaluation.judge` gives that are answers

    def config(self, student: str, steps: int, rate: float, batch: int, seed: int, **changes: Any) -> LMConfig:
        """Of a training that is part of a record."""
        length = self.train.ids.shape[1]
        return LMConfig(
            data=self.train.fingerprint,
            held_out=self.held_out.fingerprint,
            length=length,
            student=student,
            student_weights=student,
            vocabulary=self.train.vocabulary,
            tokens=steps * batch * (length - 1),
            batch_size=batch,
            lr=rate,
            precision="fp32",
            seed=seed,
            order_seed=seed,
            **changes,
        )

    def judged(self, student: Language, teacher: Language | None = None) -> dict[str, float]:
        """Means on held-out sequences."""
        online = training.Online(teacher, "fp32", teacher.vocabulary) if teacher else None
        laws = (lambda rows, ids: online(rows, ids, None)) if online else None
        judged = evaluation.judge(student, self.held_out, laws)
        means = {name: float(judged[name].mean(dtype=np.float64)) for name in judged}
        means["recall"] = float(judged["correct"][:, self.answers].mean()) if self.answers else float("nan")
        return means


def _texts(experiment: Experiment) -> _Texts:
    one, seeds = experiment, (2 * experiment.seed + 1, 2 * experiment.seed + 2)
    if one.language == stages.MARKOV:
        source = MarkovSource(one.vocabulary, one.seed)
        train, held_out = (
            source.blocks(rows, one.length, seed) for rows, seed in zip((one.rows, one.held_out), seeds, strict=True)
        )
        return _Texts(train, held_out, None)
    train, held_out = (
        stages.recall_blocks(rows, one.length, one.keys, one.vocabulary, seed)
        for rows, seed in zip((one.rows, one.held_out), seeds, strict=True)
    )
    return _Texts(train, held_out, slice(one.keys, None, 2))


def _teacher(experiment: Conversion, texts: _Texts) -> Language:
    """Trained on labels, frozen."""
    values = {
        "model_type": "llama",
        "num_hidden_layers": experiment.layers,
        "hidden_size": experiment.width,
        "num_attention_heads": experiment.heads,
        "attn_implementation": "eager",
    }
    teacher = models.from_config(values, experiment.vocabulary, experiment.seed)
    if experiment.teacher == stages.STATE_SPACE:
        teacher = convert(teacher, Arm(copied=False, state=experiment.teacher_state), experiment.seed)
    config = texts.config(
        "teacher", experiment.teacher_steps, experiment.teacher_rate, experiment.batch, experiment.seed
    )
    training.fit(config, teacher, texts.train, training.NoTargets())
    teacher.model.requires_grad_(False)
    return teacher


def distil(experiment: Conversion, arm: Arm, teacher: Language, texts: _Texts) -> tuple[Language, list[dict]]:
    """A student through the stages of an arm, and its history: stage, step, loss."""
    student, history = convert(teacher, arm, experiment.seed + 1000), []
    for stage, steps in zip(arm.stages, arm.steps(experiment.steps), strict=True):
        seed, rate = 10 * experiment.seed + int(stage), experiment.rates[int(stage) - 1]
        taught: dict[str, Any] = {"teacher": "teacher", "teacher_weights": "teacher", "targets": "online", "alpha": 1.0}
        config = texts.config(arm.name, steps, rate, experiment.batch, seed, **taught)
        if stage == "3":
            rows = training.fit(config, student, texts.train, training.Online(teacher, "fp32", teacher.vocabulary))
            losses = [row["loss"] for row in rows]
        else:
            losses = align(config, stage, student, teacher, texts.train)
        for part in np.array_split(np.arange(steps), min(POINTS, steps)):
            loss = float(np.mean([losses[i] for i in part]))
            history.append({"stage": int(stage), "step": int(part[-1]) + 1, "loss": loss})
    return student, history


def errors(student: Language, seen: list[Seen]) -> tuple[list[float], list[float], list[np.ndarray]]:
    """Of each layer, on the teacher's inputs: the matrix's relative error, the block's relative to what the teacher's
    block adds, and the matrix (H, T, T) of the first sequence; of kept layers NaN and the teacher's own."""
    converted, found = dict(_converted(student)), []
    with torch.no_grad():
        for number, one in enumerate(seen):
            if number not in converted:
                found.append((float("nan"), float("nan"), one.matrix[0].cpu().numpy()))
                continue
            layer: Any = converted[number]
            matrix = layer.self_attn.matrix(layer.input_layernorm(one.inputs))
            block = relative_error(layer(one.inputs) - one.inputs, one.outputs - one.inputs)
            found.append((relative_error(matrix, one.matrix), block, matrix[0].cpu().numpy()))
    of_matrix, of_block, matrices = (list(part) for part in zip(*found, strict=True))
    return of_matrix, of_block, matrices


def make(experiment: Experiment) -> Made:
    """An experiment's record, see `stages.obtain`."""
    with deterministic():
        if isinstance(experiment, Conversion):
            return _conversion(experiment)
        with _without_advice():
            return _beside(experiment)


def _conversion(experiment: Conversion) -> Made:
    texts = _texts(experiment)
    teacher = _teacher(experiment, texts)
    own = texts.judged(teacher)
    ids = torch.from_numpy(texts.held_out.ids[:TRACED].astype(np.int64)).to(device())
    seen, rows, history = trace(teacher, ids), [], []
    for number, arm in enumerate(experiment.arms):
        student, losses = distil(experiment, arm, teacher, texts)
        of_matrix, of_block, matrices = errors(student, seen)
        judged = texts.judged(student, teacher)
        means = {name: judged[name] for name in ("nll", "kl", "agreement", "recall")}
        rows.append({**means, "matrix_error": of_matrix, "block_error": of_block, "matrices": matrices})
        history += [{"arm": number, **row} for row in losses]
    arrays = {name: np.array([row[name] for row in rows], dtype=np.float32) for name in rows[0] if name != "matrices"}
    arrays["student_matrix"] = np.array(rows[0]["matrices"], dtype=np.float16)
    arrays["teacher_matrix"] = np.array([one.matrix[0].cpu().numpy() for one in seen], dtype=np.float16)
    tokens = experiment.steps * experiment.batch * experiment.length
    metrics = {"nll": own["nll"], "parameters": models.parameters(teacher.model), "tokens": tokens}
    if experiment.language == stages.RECALL:
        metrics["recall"] = own["recall"]
    else:
        metrics["entropy"] = MarkovSource(experiment.vocabulary, experiment.seed).conditional_entropy
    return Made(arrays=arrays, metrics=metrics, history=history)


def mamba_config(experiment: Beside) -> dict[str, Any]:
    """Of Mamba-2; its chunks are whole sequences, so that none is padded."""
    inner = 2 * experiment.width
    return {
        "model_type": "mamba2",
        "num_hidden_layers": experiment.mamba_layers,
        "hidden_size": experiment.width,
        "expand": 2,
        "num_heads": experiment.heads,
        "head_dim": inner // experiment.heads,
        "n_groups": 1,
        "state_size": experiment.state,
        "chunk_size": experiment.length,
    }


def llama_config(experiment: Beside) -> dict[str, Any]:
    """Of a Llama whose feed-forward width brings it nearest to Mamba-2's number of parameters."""
    values = {
        "model_type": "llama",
        "num_hidden_layers": experiment.llama_layers,
        "hidden_size": experiment.width,
        "num_attention_heads": experiment.heads,
    }

    def size(config: dict[str, Any]) -> int:
        return models.parameters(models.from_config(config, experiment.vocabulary, 0).model)

    one, two, wanted = (
        size(c)
        for c in (values | {"intermediate_size": 1}, values | {"intermediate_size": 2}, mamba_config(experiment))
    )
    return values | {"intermediate_size": max(1, round(1 + (wanted - one) / (two - one)))}


def seconds(config: dict[str, Any], vocabulary: int, steps: int) -> float:
    """CPU time of forward and backward on 8 sequences of 64 tokens, the shortest of some [s].

    The process's own time: what else the machine does counts little.
    """
    language = models.from_config(config, vocabulary, 0)
    ids = torch.arange(8 * 64, device=device()).view(8, 64) % vocabulary
    durations = []
    for _ in range(steps + 1):  # the first one warms up
        begun = time.process_time()
        language.logits(ids).logsumexp(dim=-1).sum().backward()
        durations.append(time.process_time() - begun)
    return min(durations[1:])


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """That Mamba's fused kernels are not installed is no news: on a CPU there are none."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _beside(experiment: Beside) -> Made:
    texts, found, sizes = _texts(experiment), [], []
    for values in (llama_config(experiment), mamba_config(experiment)):
        language = models.from_config(values, experiment.vocabulary, experiment.seed)
        config = texts.config(
            values["model_type"], experiment.steps, experiment.rate, experiment.batch, experiment.seed
        )
        training.fit(config, language, texts.train, training.NoTargets())
        found.append(texts.judged(language))
        sizes.append(models.parameters(language.model))
    two = {"num_hidden_layers": 2, "chunk_size": 64}
    timed = [
        {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2},
        {**mamba_config(experiment), **two},
        {"model_type": "mamba", "num_hidden_layers": 2, "hidden_size": experiment.width},
    ]
    arrays = {name: np.array([one[name] for one in found], dtype=np.float32) for name in ("nll", "recall")}
    arrays["parameters"] = np.array(sizes, dtype=np.float32)
    arrays["seconds"] = np.array([seconds(c, experiment.vocabulary, experiment.timed) for c in timed], dtype=np.float32)
    return Made(arrays=arrays, metrics={"steps": experiment.steps})
