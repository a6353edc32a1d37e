"""One student's run: what it is made of, trained or loaded, judged, kept; the same path for notebook and command."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdnb import files, paths
from kdnb.core.config import Identity
from kdnb.core.device import device, precision
from kdnb.core.store import Record
from kdnb.experiment import records
from kdnb.experiment.obtain import lock
from kdnb.studies.language_models import (
    caching,
    checks,
    evaluation,
    fused,
    models,
    sampling,
    training,
)
from kdnb.studies.language_models.caching import Wanted
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.target_cache import Manifest, Reader, read_manifest
from kdnb.studies.language_models.text import Blocks
from kdnb.studies.language_models.training import Cached, NoTargets, Online, OnStep, Targets, Watch

ABOUT = "kdnb.json"  # in a student's folder: its run, and the hashes of its files
MODELS = paths.OUTPUTS / "lm"  # states of trainings under way, and the students


@dataclass(frozen=True)
class Material:
    """What students of one comparison share.

    train: sequences trained on.
    held_out: sequences judged on.
    teacher: its law is learned; None for students of labels alone.
    """

    train: Blocks
    held_out: Blocks
    teacher: Language | None = None

    @functools.cached_property
    def teacher_weights(self) -> str:
        """Hash of the teacher's weights and buffers."""
        return models.weights_hash(self.teacher.model) if self.teacher else ""

    @functools.cached_property
    def held_out_laws(self) -> Reader | None:
        """The teacher's hidden states on the held-out sequences: its body runs there once for all students."""
        if self.teacher is None:
            return None
        return Reader(self.targets(self.held_out, Wanted(storage="hidden", shard_rows=16, precision="fp32")))

    def manifest(self, wanted: Wanted) -> Manifest:
        """Of the teacher's targets on the sequences trained on."""
        assert self.teacher is not None
        return caching.manifest_of(self.teacher, self.train, wanted, self.teacher_weights)

    def targets(self, blocks: Blocks, wanted: Wanted) -> Path:
        """The folder of the teacher's targets on some sequences, made where they are missing."""
        assert self.teacher is not None
        return caching.obtain(self.teacher, blocks, wanted, self.teacher_weights)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How a student is trained: fields of LMConfig that are not of its data, and where targets are stored.

    student: see `models.student`.
    changes: fields of LMConfig.
    cache: of targets "cache", how they are stored, or the folder of a cache that was made before.
    """

    student: str
    changes: dict[str, Any] = field(default_factory=dict)
    cache: Wanted | Path | None = None


def prepare(material: Material, arm: Arm) -> tuple[LMConfig, Language, Targets]:
    """The config of an arm, its student before the first step, and its targets; a cache is made where it is missing.

    Raises:
        ValueError: a setting makes no sense, or student and teacher do not fit.
        CacheMismatch: the cache is not what is asked for.
    """
    changes, teacher = dict(arm.changes), material.teacher
    if changes.get("kernel") == "liger" and (why := fused.missing(device())):
        raise ValueError(f"kernel liger: {why}")
    rows = teacher.vocabulary if teacher else material.train.vocabulary
    student = models.student(arm.student, teacher, rows, changes.get("seed", 0))
    models.check_head(student)
    vocabulary = checks.common_vocabulary(student, teacher, material.train)
    if changes.get("alpha", 0) > 0 and changes.get("divergence") != "uniform":
        changes.setdefault("targets", "online")
    cache = arm.cache or Wanted()
    manifest: Manifest | None = None
    if changes.get("targets", "none") != "none":
        if teacher is None:
            raise ValueError(f"targets {changes['targets']} need a teacher")
        changes |= {"teacher": teacher.name, "teacher_weights": material.teacher_weights}
    if changes.get("targets") == "cache":
        manifest = material.manifest(cache) if isinstance(cache, Wanted) else read_manifest(cache)
        changes["cache"] = manifest.run_id()
    config = LMConfig(
        data=material.train.fingerprint,
        held_out=material.held_out.fingerprint,
        length=material.train.ids.shape[1],
        student=arm.student,
        student_weights=models.weights_hash(student.model),
        vocabulary=vocabulary,
        **changes,
    )
    learned = training.objective(config)  # refused, if it is, before the teacher reads the text
    if manifest and manifest.storage != "hidden":
        learned.check_sparse(manifest.storage, manifest.tau)
    if config.targets == "none" or teacher is None:
        return config, student, NoTargets()
    kind = precision(config.precision)
    if manifest is None:
        return config, student, Online(teacher, kind, vocabulary)
    folder = material.targets(material.train, cache) if isinstance(cache, Wanted) else cache
    reader = Reader(folder, {"data": material.train.fingerprint, "teacher_weights": material.teacher_weights})
    return config, student, Cached(reader, teacher, kind, vocabulary)


def ensure(
    material: Material, arm: Arm, *, keep: bool = False, on_step: OnStep | None = None, save_every: float = 300.0
) -> tuple[LMConfig, Record]:
    """The run of an arm: loaded, else trained, judged on the held-out sequences and stored.

    Its arrays are those of `evaluation.judge`, float16; its metrics those of `evaluation.summary`.

    Args:
        material: data and teacher.
        arm: how the student is trained.
        keep: whether the student itself is to be in `model_folder`; a stored run without it is trained again.
        on_step: called after each optimiser step.
        save_every: seconds between two states on disk.
    Raises:
        OSError: the student is to be kept, and cannot be; before any training.
    """
    config, student, targets = prepare(material, arm)
    folder, state = model_folder(config), MODELS / config.run_id() / "state.safetensors"
    if keep:
        files.check_writable(folder.parent)

    def trained() -> list[dict[str, float]]:
        history = training.fit(config, student, material.train, targets, Watch(state, save_every, on_step))
        if keep:
            save(student, folder, config)
        return history

    def make() -> records.Made:
        history = trained()
        judged = judge(material, student, config.vocabulary)
        measured = {**dataclasses.asdict(evaluation.summary(judged)), "parameters": models.parameters(student.model)}
        metrics: dict[str, Any] = {name: value for name, value in measured.items() if value == value}
        if isinstance(targets, Cached):
            manifest = targets.reader.manifest
            metrics |= {name: getattr(manifest, name) for name in ("storage", "kept", "bytes_per_token")}
        if config.targets == "on_policy" and material.held_out.separator >= 0:
            metrics["sampled_length_ratio"] = sampled_length_ratio(material, student, config)
        arrays = {name: value.astype(np.float16) for name, value in judged.items()}
        return records.Made(arrays=arrays, metrics=metrics, history=thinned(history))

    record = records.obtain(config, make)
    if keep and not whole(folder):
        with lock(config.run_id()):  # of two that ask for it, the second finds it
            if not whole(folder):
                trained()
    state.unlink(missing_ok=True)  # not before: killed while it is judged, a training need not begin anew
    return config, record


def judge(material: Material, student: Language, vocabulary: int) -> dict[str, np.ndarray]:
    """A student on the held-out sequences, beside the teacher's law on them; of laws over so many entries."""
    reader = material.held_out_laws
    if reader is None or material.teacher is None:
        return evaluation.judge(student, material.held_out, vocabulary=vocabulary)
    laws = Cached(reader, material.teacher, "fp32", vocabulary)

    def taught(rows: np.ndarray, ids: Tensor) -> Callable[[slice], Tensor]:
        return laws(rows, ids, None)  # type: ignore[return-value] # of hidden states: a function

    return evaluation.judge(student, material.held_out, taught, vocabulary)


def sampled_length_ratio(material: Material, student: Language, config: LMConfig) -> float:
    """Length of a student's samples over its teacher's, going on from the beginnings of 16 held-out sequences.

    On given text a student that ends up repeating itself looks well; on its own words it does not stop.
    """
    assert material.teacher is not None
    ids, found = material.held_out.ids[:16, : config.prompt].astype(np.int64), []
    for one in (student, material.teacher):
        prompts = torch.from_numpy(ids).to(one.head.weight.device)
        drawn = sampling.sample(one, prompts, config.length - config.prompt, key=(config.seed, 0))
        found.append(evaluation.lengths(drawn[:, config.prompt :].cpu().numpy(), material.held_out.separator))
    return evaluation.length_ratio(*found)


def thinned(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Means of the losses between at most 100 steps, evenly spaced."""
    groups = np.array_split(np.arange(len(history)), min(100, len(history)))
    return [{**history[group[-1]], "loss": float(np.mean([history[i]["loss"] for i in group]))} for group in groups]


def model_folder(config: Identity) -> Path:
    """Where a trained student lies, as transformers lays one out."""
    return MODELS / config.run_id() / "model"


def save(student: Language, folder: Path, config: LMConfig) -> None:
    """Write a student as a plain folder that `AutoModelForCausalLM` loads; whole or not at all."""
    from transformers.utils import logging

    def fill(partial: Path) -> None:
        student.model.save_pretrained(partial)  # type: ignore[operator]
        if student.tokenizer is not None:
            student.tokenizer.save_pretrained(partial)
        sums = {path.name: files.sha256(path) for path in sorted(partial.iterdir())}
        files.write_json(partial / ABOUT, {"run_id": config.run_id(), **config.values(), "files": sums})

    logging.disable_progress_bar()
    files.write_folder(folder, fill)


def whole(folder: Path) -> bool:
    """Whether a student lies in a folder as it was written; one that is not is told."""
    if not (folder / "config.json").exists():
        return False
    sums = files.read_json(folder / ABOUT).get("files", {})  # earlier versions wrote none
    for name, digest in sums.items() if files.fits(sums, dict[str, str]) else [(ABOUT, "")]:
        path = paths.child(folder, name)
        if not path.is_file() or files.sha256(path) != digest:
            print(f"kdnb: {path} is not what was written", file=sys.stderr)
            return False
    return True


def threads(count: int) -> None:
    """CPU threads of this process; another number gives other last bits."""
    if count and torch.get_num_threads() != count:
        torch.set_num_threads(count)
