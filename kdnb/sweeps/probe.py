"""How long a step takes here, and how much memory: some steps of real training, measured once and kept."""

import math
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from kdnb import files, paths
from kdnb.catalog import PROFILES
from kdnb.data.splits import TaskData
from kdnb.experiment.arms import arm_config

STEPS = 20
ROWS = 256  # of validation and of test, whose logits are computed


@dataclass(frozen=True)
class Probe:
    """What one model costs on one task, on this machine."""

    step_seconds: float  # one optimiser step
    row_seconds: float  # logits of one example
    start_seconds: float  # until the first step: the model is built
    peak_memory_mib: int
    device: str
    precision: str

    def seconds(self, trainings: int, steps: int, rows: int) -> float:
        """Estimated seconds of some trainings with so many steps, and logits of so many rows, in all."""
        return trainings * self.start_seconds + steps * self.step_seconds + rows * self.row_seconds


def machine() -> dict:
    """What a measurement depends on, told without importing torch."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    settings = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    return {
        "processor": found.group(1) if found else platform.machine(), "cores": cores,
        "gpus": len(list(Path("/proc/driver/nvidia/gpus").glob("*"))), "torch": version("torch"),
        **{name: os.environ.get(name, "") for name in settings},
    }  # fmt: skip


def kept(task: str, profile: str, student: str) -> Probe | None:
    """The measurement kept for a model, if it was made on this machine; None otherwise."""
    content = files.read_json(_file())
    try:
        return Probe(**content[_key(task, profile, student)]) if content["machine"] == machine() else None
    except (KeyError, TypeError):
        return None


def probe(data: TaskData, profile: str, student: str, say: Callable[[str], None] = print) -> Probe:
    """The measurement kept for a model, else one made now and kept.

    Args:
        data: the task's splits, of which a few rows are used. student: as RunConfig.student.
    Raises:
        MissingAsset, ModelUnavailable: the weights cannot be had.
    """
    if found := kept(data.task.name, profile, student):
        return found
    say(f"probe: {STEPS} steps of the {student} model on {data.task.name} ...")
    found = measure(data, profile, student)
    _keep(_key(data.task.name, profile, student), found)
    return found


def measure(data: TaskData, profile: str, student: str) -> Probe:
    """Train STEPS steps on a sample of the train split, ERM, and time them."""
    from kdnb.core.loop import fit  # torch is not needed for what was kept

    config = arm_config("erm_small", task=data.task.name, profile=profile, data="probe", seed=0, student=student)
    part = _sample(data, STEPS * config.batch_size)
    per_epoch = math.ceil(len(part.splits["train"]) / config.batch_size)
    config = replace(config, epochs=math.ceil(STEPS / per_epoch), history_points=0)
    fit(replace(config, epochs=1), _sample(data, config.batch_size))  # weights are read, memory is had
    marks = [time.perf_counter()]

    def mark(_step: int, _total: int, loss) -> None:
        float(loss)  # a GPU has then finished the step
        marks.append(time.perf_counter())

    run = fit(config, part, on_step=mark)
    end, steps = time.perf_counter(), np.diff(marks[1:])
    rows = sum(len(split) for split in part.splits.values())
    cost = run.metrics["cost"]
    return Probe(
        step_seconds=round(float(steps.mean()), 6), row_seconds=round((end - marks[-1]) / rows, 8),
        start_seconds=round(max(0.0, marks[1] - marks[0] - float(steps.mean())), 4),
        peak_memory_mib=cost["peak_memory_mib"], device=cost["device"], precision=cost["precision"],
    )  # fmt: skip


def _sample(data: TaskData, rows: int) -> TaskData:
    """Random rows of each split, always the same: at most `rows` of train and ROWS of the others."""
    splits = {}
    for name, split in data.splits.items():
        chosen = np.random.default_rng(0).permutation(len(split))[: rows if name == "train" else ROWS]
        splits[name] = split.take(chosen)
    return TaskData(data.task, splits, "probe")


def _key(task: str, profile: str, student: str) -> str:
    """A model's name in the file of measurements; texts differ in length from task to task."""
    return f"{task} {profile} {student} {PROFILES[profile].max_length}"


def _keep(key: str, found: Probe) -> None:
    """Add a measurement to the file, which holds those of one machine."""
    content = files.read_json(_file())
    if content.get("machine") != machine():
        content = {"machine": machine()}
    files.write_json(_file(), {**content, key: asdict(found)})


def _file() -> Path:
    return paths.OUTPUTS / "probes.json"
