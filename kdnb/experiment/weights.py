"""Weights of runs: kept beside the store, in the form that transformers loads, or made again from the config.

A run's name stands for its logits. Weights are no part of it: they lie in outputs/weights/<run_id>/, and may go.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdnb import files, paths
from kdnb.catalog import model_behind, source_of
from kdnb.core import store
from kdnb.core.config import SPLITS, RunConfig
from kdnb.core.store import Run
from kdnb.errors import printable

if TYPE_CHECKING:
    from torch import nn

    from kdnb.core.loop import OnStep
    from kdnb.data.splits import TaskData
    from kdnb.experiment.teachers import Teacher

MANIFEST = "kept.json"
CHECKED_ROWS = 256  # test examples on which what was written is held to the run


@dataclass(frozen=True)
class Kept:
    """Weights on this machine.

    folder: where transformers loads them from.
    files: names of theirs in it.
    difference: of the logits of the training they come from to the stored ones, the largest; 0 is bit for bit.
    written: of transformers' logits to the model's own on test examples, the largest.
    title: of the task.
    labels: names in label order.
    pair: whether an example is two texts.
    """

    folder: Path
    files: tuple[str, ...]
    difference: float
    written: float
    title: str
    labels: tuple[str, ...]
    pair: bool


def kept(run_id: str) -> Kept | None:
    """The weights that are kept of a run; None if there are none, or a file of theirs is not what was written."""
    folder = paths.inside(paths.WEIGHTS, run_id)
    known = files.read_json(folder / MANIFEST)
    if not known:
        return None
    of, sums = known.pop("run", None), known.pop("files", {})
    try:
        if of != run_id:
            raise ValueError(f"{folder} holds the weights of {of}")
        if not sums or not files.fits(sums, dict[str, str]):
            raise ValueError(f"{folder / MANIFEST} does not say which files there are")
        here = files.made(Kept, {**known, "folder": folder, "files": [*sums]})
        for name in here.files:
            path = paths.child(folder, name)
            if not path.is_file() or files.sha256(path) != sums[name]:
                raise ValueError(f"{path} is not what was written")
    except ValueError as error:
        print(f"kdnb: {printable(str(error))}; its weights are made again", file=sys.stderr)
        return None
    return here


def is_there(run_id: str) -> bool:
    """Whether weights are kept of a run, whole or not; `kept` decides that."""
    return (paths.inside(paths.WEIGHTS, run_id) / MANIFEST).is_file()


def train(configs: list[RunConfig], data: "TaskData", teacher: "Teacher | None", on_step: "OnStep | None") -> list[Run]:
    """As `kdnb.experiment.training.train_epochs`; runs and weights are stored as soon as each is finished."""
    from kdnb.experiment.training import train_each

    def finish(run: Run, model: "nn.Module", _inputs: Any) -> None:
        store.save(run)
        _keep(run, model, data, 0.0)

    check_exportable(configs[0])
    return train_each(configs, data, teacher, on_step, finish)


def ensure(run: Run, data: "TaskData", on_step: "OnStep | None" = None) -> Kept:
    """The weights of a stored run: the kept ones, else of a training like the first one, whose logits are compared.

    Args:
        run: of a text classifier.
        data: its splits.
        on_step: as `kdnb.experiment.training.train`.
    Raises:
        ValueError: the run is none that can be exported, or the data are not its own.
        FileNotFoundError: its teacher has no run.
    """
    if here := kept(run.run_id):
        return here
    from kdnb.experiment import teachers
    from kdnb.experiment.training import train_each

    def finish(again: Run, model: "nn.Module", _inputs: Any) -> None:
        _keep(run, model, data, difference(run, again))

    check_exportable(run.config)
    teacher = teachers.load(run.config.teacher_run) if run.config.teacher_run else None
    train_each([run.config], data, teacher, on_step, finish)
    here = kept(run.run_id)
    assert here, "they were written just now"
    return here


def check_exportable(config: RunConfig) -> None:
    """Raise ValueError for a run whose model is not to be had: of images, or a classifier that was given."""
    source = source_of(model_behind(config))
    if source.modality != "text":
        raise ValueError(f"run {config.run_id()} is of images: weights are kept and exported of models of texts")
    if source.as_it_is:
        raise ValueError(f"run {config.run_id()} is the classifier that was given, as it is: there is nothing to keep")


def difference(stored: Run, again: Run) -> float:
    """The largest difference of two runs' logits; 0.0 where they are equal bit for bit, as the store has them."""
    from kdnb.experiment import teachers

    half = stored.metrics.get("cost", {}).get("stored") == "float16"
    largest = 0.0
    for split in SPLITS:
        logits = teachers.halved(again.logits[split]).astype(np.float32) if half else again.logits[split]
        largest = max(largest, float(np.abs(logits - stored.logits[split]).max()))
    return largest


def _keep(run: Run, model: "nn.Module", data: "TaskData", off: float) -> None:
    """Write a model's weights into a folder beside its place, held to the model, then renamed."""
    import torch

    from kdnb.models import exported, text

    config, target = run.config, paths.inside(paths.WEIGHTS, run.run_id)
    paths.WEIGHTS.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=paths.WEIGHTS))
    try:
        with torch.random.fork_rng():  # a longer training may go on after this
            tokenizer = text.load_tokenizer(model_behind(config), data)
            exported.save(exported.as_transformers(model, data.task.labels), tokenizer, config, scratch)
            rows = np.arange(min(CHECKED_ROWS, len(data.splits["test"])))
            written = exported.distance(scratch, model, data.splits["test"].take(rows), config)
        sums = {path.name: files.sha256(path) for path in sorted(scratch.iterdir())}
        told = {"difference": off, "written": written, "title": data.task.caption, "pair": data.task.pair}
        told["labels"] = list(data.task.labels)
        files.write_json(scratch / MANIFEST, {"run": run.run_id, **told, "files": sums}, durable=True)
        os.chmod(scratch, 0o755)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
