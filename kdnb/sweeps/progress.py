"""What a training tells other processes, in small files: a heartbeat while it runs, a failure if it keeps failing."""

import contextlib
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

from kdnb import files, paths
from kdnb.core.config import RunConfig

EVERY = 5.0  # seconds between two writes of a heartbeat
_BEAT = {"run_ids": list[str], "host": str, "pid": int, "step": int, "total": int}
SILENCE = 300.0  # seconds after which a process of another machine counts as dead
LONGEST = 8000  # characters of a traceback, the end of it


class Heartbeat:
    """A file in outputs/running/ from a training's first step to its end; a killed process leaves it behind."""

    def __init__(self, configs: list[RunConfig]):
        """The heartbeat of one training.

        Args:
            configs: the points that the training gives.
        """
        self.run_ids = [config.run_id() for config in configs]
        self.path = paths.inside(paths.RUNNING, f"{configs[0].training()}.json")
        self.next_write = 0.0
        self.started = time.time()

    def __enter__(self) -> "Heartbeat":
        return self

    def step(self, step: int, total: int, _loss: object) -> None:
        """For the training loop's on_step. A disk that refuses is no reason to stop a training."""
        now = time.monotonic()
        if now < self.next_write:
            return
        facts = {
            "run_ids": self.run_ids,
            "host": platform.node(),
            "pid": os.getpid(),
            "started": self.started,
            "step": step,
            "total": total,
        }
        with contextlib.suppress(OSError):
            files.write_json(self.path, facts)
        self.next_write = now + EVERY

    def __exit__(self, *_: object) -> None:
        if self.next_write:
            self.path.unlink(missing_ok=True)


def heartbeats() -> list[dict]:
    """What is being trained by living processes: run_ids, host, pid, started [Unix time], step, total."""
    return [facts for _, facts, alive in _all_heartbeats() if alive]


def clear_dead() -> None:
    """Remove the heartbeats of processes that died."""
    for path, _, alive in _all_heartbeats():
        if not alive:
            path.unlink(missing_ok=True)


def _all_heartbeats() -> list[tuple[Path, dict, bool]]:
    """Every heartbeat: its file, its facts, whether its process is alive."""
    beats = []
    for name in sorted(files.names(paths.RUNNING)):
        try:
            path = paths.inside(paths.RUNNING, f"{name}.json")
            facts, age = files.read_json(path), time.time() - path.stat().st_mtime
            if not all(files.fits(facts.get(name), kind) for name, kind in _BEAT.items()):
                continue  # it ended just now, or is none of ours
            alive = _exists(facts["pid"]) if facts["host"] == platform.node() else age < SILENCE
            beats.append((path, facts, alive))
        except (OSError, ValueError, OverflowError):
            continue
    return beats


def _exists(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def record_failure(run_ids: Iterable[str], error: str, attempts: int, trace: str = "", host: str = "") -> None:
    """Write down in outputs/failed/ that a training failed.

    Args:
        run_ids: its points.
        error: one line.
        attempts: trainings begun.
        trace: the traceback, of which the end is kept.
        host: where, "" for this machine.
    """
    facts = {
        "error": " ".join(error.split()) or "no message",
        "attempts": attempts,
        "host": host or platform.node(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "trace": trace[-LONGEST:],
    }
    for run_id in run_ids:
        files.write_json(paths.inside(paths.FAILED, f"{run_id}.json"), {"run_id": run_id, **facts})


def forget_failures(run_ids: Iterable[str]) -> None:
    """Drop the recorded failures of some points."""
    for run_id in run_ids:
        (paths.inside(paths.FAILED, f"{run_id}.json")).unlink(missing_ok=True)


def has_failed(run_id: str) -> bool:
    """Whether a point is recorded as failed."""
    return (paths.inside(paths.FAILED, f"{run_id}.json")).exists()


def failed_ids() -> set[str]:
    """run_ids of all points recorded as failed."""
    return files.names(paths.FAILED)


def failure(run_id: str) -> dict:
    """A recorded failure: run_id, error, attempts, host, time, trace; a record that cannot be read says so."""
    unread = {
        "run_id": run_id,
        "error": "its record cannot be read",
        "attempts": 0,
        "host": "?",
        "time": "",
        "trace": "",
    }
    facts = files.read_json(paths.inside(paths.FAILED, f"{run_id}.json"))
    whole = all(type(facts.get(name)) is type(value) for name, value in unread.items())
    return facts if whole else unread
