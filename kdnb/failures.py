"""Points that could not be trained: one file each in outputs/failed/, with the error, until a training succeeds."""

import platform
import time
from collections.abc import Iterable
from pathlib import Path

from kdnb import paths, small_files

LONGEST = 8000  # characters of a traceback, the end of it


def record(run_ids: Iterable[str], error: str, attempts: int, trace: str = "", host: str = "") -> None:
    """Write down that a training failed.

    Args:
        run_ids: its points. error: one line. attempts: trainings begun. host: where, "" for this machine.
    """
    facts = {
        "error": " ".join(error.split()) or "no message", "attempts": attempts, "host": host or platform.node(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "trace": trace[-LONGEST:],
    }  # fmt: skip
    for run_id in run_ids:
        small_files.write(_file(run_id), {"run_id": run_id, **facts})


def forget(run_ids: Iterable[str]) -> None:
    """Drop what was recorded of some points."""
    for run_id in run_ids:
        _file(run_id).unlink(missing_ok=True)


def has(run_id: str) -> bool:
    """Whether a point is recorded as failed."""
    return _file(run_id).exists()


def names() -> set[str]:
    """run_ids of all points recorded as failed."""
    return small_files.names(paths.FAILED)


def facts(run_id: str) -> dict:
    """What is recorded of a point: error, attempts, host, time, trace; {} if nothing, or nothing that can be read."""
    return small_files.read(_file(run_id))


def _file(run_id: str) -> Path:
    return paths.inside(paths.FAILED, f"{run_id}.json")
