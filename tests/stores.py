"""Stores in folders of their own: what they hold, whether they are whole, and which processes are still at them."""

import contextlib
import os
import time
from pathlib import Path

import psutil
import pytest

FOLDERS = {
    "OUTPUTS": "", "RUNS": "runs", "REFERENCE": "reference", "DAMAGED": "damaged", "SWEEPS": "sweeps",
    "GRIDS": "sweeps/grids", "RUNNING": "running", "FAILED": "failed", "EXECUTED": "executed", "WEIGHTS": "weights",
    "MODELS": "models", "ORIGINS": "origins", "REPORTS": "reports", "FIGURES": "figures", "REPORT": "report.html",
    "SIMULATIONS": "simulations", "FEATURES": "features", "SITE": "site", "SLIDES": "slides",
}  # fmt: skip


@contextlib.contextmanager
def reading(outputs: Path):
    """The store of this process is the one in a folder, without reference runs."""
    from kdnb import paths
    from kdnb.core import store

    with pytest.MonkeyPatch.context() as patch:
        for name, folder in FOLDERS.items():
            patch.setattr(paths, name, outputs / folder)
        store._config_in.cache_clear()
        yield


def environment(outputs: Path, **more: str) -> dict[str, str]:
    """Of a process whose store is in a folder."""
    return {**os.environ, "KDNB_OUTPUTS": str(outputs), **more}


def content(outputs: Path) -> dict[str, bytes]:
    """All that a store says and that does not depend on when it was made: files by name, and the table of its runs."""
    from kdnb.experiment import tables

    found = {}
    for run in sorted((outputs / "runs").glob("[!.]*")):
        found |= {
            f"{run.name}/{name}": (run / name).read_bytes() for name in ("config.json", "history.csv", "arrays.npz")
        }
    found |= {path.name: path.read_bytes() for path in sorted((outputs / "labels").glob("*"))}
    with reading(outputs):
        runs = tables.load_runs()
        found["table"] = tables.tidy(runs).drop(columns="seconds").to_csv().encode() if runs else b""
    return found


def verified(outputs: Path) -> list[str]:
    """What `kdnb runs verify` finds damaged in a store."""
    from kdnb.cli import runs

    with reading(outputs), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return runs.verify_runs(redo=False)["damaged"]


def marks(outputs: Path) -> dict[str, tuple[int, int]]:
    """Every finished run by name: that it is still the one it was."""
    found = {}
    for run in (outputs / "runs").glob("[!.]*"):
        status = (run / "metrics.json").stat()
        found[run.name] = (status.st_ino, status.st_mtime_ns)
    return found


def processes(outputs: Path) -> list[int]:
    """Processes that were started, by exec, for a store: kernels, workers, Ray's."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            its_own = process.pid != os.getpid() and process.environ().get("KDNB_OUTPUTS") == str(outputs)
            if its_own and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def orphans(outputs: Path, patience: float = 30.0) -> list[int]:
    """Those that are still there after some seconds."""
    until = time.monotonic() + patience
    while (found := processes(outputs)) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def held(outputs: Path) -> list[str]:
    """Locks of trainings that somebody holds; a process that was killed may take a moment to let go."""
    from filelock import FileLock, Timeout

    found = []
    for path in (outputs / "runs" / ".locks").glob("*.lock"):
        try:
            with FileLock(path).acquire(timeout=5):
                pass
        except Timeout:
            found.append(path.name)
    return found
