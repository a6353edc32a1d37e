"""How large and how fast a model is, as measured on this machine: what a student costs beside what it knows."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb import files, paths
from kdnb.catalog import AS_IT_IS, model_behind
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.experiment import tables
from kdnb.experiment.workers import machine

if TYPE_CHECKING:
    from kdnb.data.splits import TaskData  # it brings pandas, which what is stored need not wait for

ROWS = 256  # test examples that are timed, at most
REPEATS = 5  # of which the quickest counts; the first ones also take memory


@dataclass(frozen=True)
class Footprint:
    """One model on one task.

    model: its name.
    parameters: weights that it has, embeddings among them.
    megabytes: of these in float32 [10^6 bytes].
    milliseconds: per test example, in batches as for evaluation, on `device`.
    device: and threads and precision, in words.
    """

    model: str
    parameters: int
    megabytes: float
    milliseconds: float
    device: str

    @property
    def told(self) -> dict[str, str]:
        """Parameters, MB and ms per example, as printed."""
        count = f"{self.parameters / 1e6:.1f} M" if self.parameters >= 1e5 else f"{self.parameters:,}"
        return {"parameters": count, "MB": f"{self.megabytes:.1f}", "ms per example": f"{self.milliseconds:.3g}"}


def of(config: RunConfig, data: "TaskData") -> Footprint:
    """The footprint of a config's student on its data: the stored one of this machine, else measured now and stored.

    Args:
        config: of a run; its weights are not needed, only their number.
        data: the splits, of which up to ROWS test examples are read.
    Raises:
        MissingAsset, ModelUnavailable: the model is not to be had.
        StoreError: the outputs folder cannot be written.
    """
    if found := stored(config):
        return found
    measured = measure(config, data)
    content = files.read_json(_file())
    if content.get("machine") != machine():
        content = {"machine": machine()}
    files.write_json(_file(), {**content, _key(config): asdict(measured)})
    return measured


def stored(config: RunConfig) -> Footprint | None:
    """What was measured on this machine of a config's student on its data; None if nothing was. Needs no torch."""
    content = files.read_json(_file())
    try:
        return files.made(Footprint, content[_key(config)]) if content["machine"] == machine() else None
    except (KeyError, ValueError):
        return None


def rows(
    runs: Iterable[Run], data: "TaskData | None" = None, arms: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """A row per model: student, model, parameters, megabytes, milliseconds, device, accuracy of each of its arms.

    Args:
        runs: of one task; a teacher is one of them, as the student of its own run.
        data: their splits, to measure what is not stored; without them such students are left out.
        arms: run_id -> arm, where that is not read off the run, as `tables.tidy`.
    """
    runs, found = list(runs), []
    if not runs:
        return []
    spread = tables.spread(tables.tidy(runs, arms), "accuracy")
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(model_behind(run.config), []).append(run)
    for of_model in models.values():
        config, ids = of_model[0].config, {run.run_id for run in of_model}
        if size := of(config, data) if data else stored(config):
            accuracy = {row.name: row.mean for row in spread.itertuples() if ids & set(row.run_ids)}
            found.append({"student": config.student, **asdict(size), "accuracy": accuracy})
    return sorted(found, key=lambda row: -row["parameters"])


def told(row: dict[str, Any]) -> dict[str, str]:
    """A row of `rows` as printed, by column."""
    size = Footprint(**{field.name: row[field.name] for field in fields(Footprint)})
    accuracies = ", ".join(f"{arm} {100 * mean:.1f}" for arm, mean in row["accuracy"].items())
    model = row["model"].removeprefix(AS_IT_IS)  # its arm says that it is
    return {"student": row["student"], "model": model, **size.told, "mean accuracy, %": accuracies}


def measure(config: RunConfig, data: "TaskData") -> Footprint:
    """Count the weights of a config's student, and time its logits of some test examples."""
    import numpy as np
    import torch

    from kdnb.core import device
    from kdnb.core.predict import predict
    from kdnb.experiment.training import encoded
    from kdnb.models import classifiers

    inputs = encoded(config, data)["test"]
    inputs = inputs.take(np.random.default_rng(0).permutation(len(inputs))[:ROWS])
    kind = device.precision(config.precision)
    with torch.random.fork_rng():
        model = classifiers.build(config, data).to(device.device())
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        predict(model, inputs, kind)  # its logits come to the CPU: a GPU has then finished
        seconds.append(time.perf_counter() - started)
    count = sum(weight.numel() for weight in model.parameters())
    gpu = device.device().type == "cuda"
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if gpu else f"{threads} CPU thread{'s' if threads > 1 else ''}"
    return Footprint(
        model=model_behind(config),
        parameters=count,
        megabytes=round(4 * count / 1e6, 3),
        milliseconds=round(1000 * min(seconds) / len(inputs), 5),
        device=f"{where}, {kind}",
    )


def _key(config: RunConfig) -> str:
    """What a measurement depends on: the model, the examples, how long they are, and the precision."""
    model = model_behind(config)
    return json.dumps([model, config.task, config.data, config.max_length, config.precision])


def _file() -> Path:
    """The file of measurements, which holds those of one machine."""
    return paths.OUTPUTS / "footprints.json"
