"""Signs of life: while it trains, a process keeps a small file in outputs/running/, for `kdnb status` to read."""

import contextlib
import os
import platform
import time
from pathlib import Path

from kdnb import paths, small_files
from kdnb.config import RunConfig

EVERY = 5.0  # seconds between two writes of a file
SILENCE = 300.0  # seconds after which a process of another machine counts as dead


class Sign:
    """The sign of one training, from its first step to its end, however it ends. A killed process leaves it behind."""

    def __init__(self, configs: list[RunConfig]):
        """configs: the points that the training gives."""
        self.run_ids = [config.run_id() for config in configs]
        self.path, self.next = paths.inside(paths.RUNNING, f"{configs[0].training()}.json"), 0.0
        self.started = time.time()

    def __enter__(self) -> "Sign":
        return self

    def step(self, step: int, total: int, _loss) -> None:
        """For `kdnb.train.fit`'s on_step. A disk that refuses is no reason to stop a training."""
        if (now := time.monotonic()) < self.next:
            return
        facts = {
            "run_ids": self.run_ids, "host": platform.node(), "pid": os.getpid(), "started": self.started,
            "step": step, "total": total,
        }  # fmt: skip
        with contextlib.suppress(OSError):
            small_files.write(self.path, facts)
        self.next = now + EVERY

    def __exit__(self, *_):
        if self.next:
            self.path.unlink(missing_ok=True)


def alive() -> list[dict]:
    """What is being trained: run_ids, host, pid, started [Unix time], step, total."""
    return [facts for _, facts, lives in _signs() if lives]


def clear() -> None:
    """Remove the signs of processes that died."""
    for path, _, lives in _signs():
        if not lives:
            path.unlink(missing_ok=True)


def _signs() -> list[tuple[Path, dict, bool]]:
    """Every sign: its file, its facts, whether its process lives."""
    found = []
    for name in sorted(small_files.names(paths.RUNNING)):
        try:
            path = paths.inside(paths.RUNNING, f"{name}.json")
            facts, age = small_files.read(path), time.time() - path.stat().st_mtime
            lives = _exists(facts["pid"]) if facts["host"] == platform.node() else age < SILENCE
            found.append((path, {"run_ids": [], **facts}, lives))
        except (OSError, KeyError, TypeError, ValueError):
            continue  # it ended just now, or is none of ours
    return found


def _exists(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
