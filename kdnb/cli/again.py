"""A run from the config of one: what `kdnb train --config` does."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdnb import files
from kdnb.cli.train import facts
from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.data import origins
from kdnb.data.splits import AS_PROFILE, Rows
from kdnb.experiment import obtain, records, tables
from kdnb.experiment.points import Point
from kdnb.studies import registry

NAMED = (
    "task",
    "method",
    "student",
    "teacher",
    "teacher_table",
    "teacher_form",
    "seed",
    "profile",
)  # by the config alone


def train(
    path: str, changes: dict[str, Any], given: Iterable[str], rows: Rows = AS_PROFILE, keep: bool = False
) -> dict[str, Any]:
    """The run of a stored run's config.json: loaded, else trained; returns its facts.

    Args:
        path: the file, or the run's folder.
        changes: fields that are to differ.
        given: the options of `kdnb train` that were given.
        rows: to keep of each split; AS_PROFILE for as many as the run was made with, where that was noted.
        keep: whether weights are kept.
    Raises:
        ValueError: it is no run's config, an option contradicts it, the data here are others, or its teacher is not
            stored.
    """
    if named := [name for name in NAMED if name in given]:
        raise ValueError(f"--config {path} says all of {', '.join(NAMED)}: leave out {', '.join(named)}")
    config = read(Path(path))
    data = origins.data_of(config, rows=rows)
    config = config.changed(**changes)
    if config.teacher_run and not store.exists(config.teacher_run):
        raise ValueError(f"{path}: its teacher {config.teacher_run} is not stored, train it first by its own config")
    runs = obtain.run_points([Point(tables.arm_of(config), config)], data, keep=keep)
    return facts(runs[config.run_id()])


def read(path: Path) -> RunConfig:
    """The config that a file holds, or the one in a run's folder; ValueError if it is none."""
    registry.methods()
    path = path / "config.json" if path.is_dir() else path
    if not path.exists() and path.suffix != ".json":
        raise ValueError(f"{path}: no such file, and no folder of a run{records.nearest_runs(path.name)}")
    content = files.given(path)
    try:
        values = files.parsed_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: no JSON can be read from it ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object, as config.json of a run, got {type(values).__name__}")
    if kind := values.get("kind"):
        raise ValueError(f"{path}: expected the config of a classification run, got one of kind {kind!r}")
    required = [one.name for one in dataclasses.fields(RunConfig) if one.default is dataclasses.MISSING and one.init]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{path}: no run's config.json, it lacks {', '.join(missing)}")
    try:
        return RunConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
