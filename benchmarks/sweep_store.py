"""Sweeps in processes of their own, on an empty store, their trainings counted. As a script: one sweep, told."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve()


def here(what: dict, how: dict) -> None:
    """One sweep in this process; a JSON line with clock, CPU time and memory for every line it says."""
    from kdnb.studies import registry
    from kdnb.sweeps.engines import How, run
    from kdnb.sweeps.record import Sweep

    def say(line: str) -> None:
        clocks = {"time": time.time(), "cpu": _cpu_seconds(), "rss_mib": _rss_mib()}
        print(json.dumps({**clocks, "line": line}), flush=True)

    registry.grids()
    run(Sweep(**what), How(**how), say)


def _cpu_seconds() -> float:
    """CPU time of this process and of those below it that live: Ray's own and its workers."""
    import psutil

    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


class Store:
    """An empty store, and sweeps on it in processes of their own."""

    def __init__(self, folder: Path):
        self.outputs, self.journal = folder / "outputs", folder / "journal"
        folder.mkdir()
        self.journal.touch()

    def start(self, what: dict, **how) -> subprocess.Popen:
        """A sweep; its trainings begin and end in the journal (tests/watched)."""
        watched = HERE.parents[1] / "tests" / "watched"
        environment = {
            **os.environ,
            "PYTHONPATH": str(watched),
            "KDNB_OUTPUTS": str(self.outputs),
            "KDNB_JOURNAL": str(self.journal),
            "KDNB_REFERENCE": str(self.outputs / "none"),
        }
        command = [sys.executable, str(HERE), json.dumps([what, how])]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def run(self, what: dict, **how) -> list[dict]:
        """The same to its end; what it said."""
        return self.end(self.start(what, **how))

    def end(self, process: subprocess.Popen) -> list[dict]:
        """What a process said until its end, which must be a good one."""
        told = process.communicate()[0]
        if process.returncode:
            raise RuntimeError(f"a sweep ended with code {process.returncode}: {told[-2000:]}")
        return [json.loads(line) for line in told.splitlines() if line.startswith("{")]

    def count(self, word: str) -> Counter:
        """How often each training began or ended."""
        return Counter(line.split()[1] for line in self.journal.read_text().splitlines() if line.startswith(word))

    def busy(self) -> list[int]:
        """Processes in the middle of a training."""
        last = {line.split()[2]: line.split()[0] for line in self.journal.read_text().splitlines()}
        return [int(process) for process, word in last.items() if word == "begin"]

    def table(self) -> dict[str, bytes]:
        """run_id -> the bytes of its logits, labels and curves."""
        import numpy as np

        found = {}
        for path in sorted((self.outputs / "runs").glob("[!.]*")):
            with np.load(path / "arrays.npz", allow_pickle=False) as arrays:
                content = b"".join(arrays[name].tobytes() for name in sorted(arrays.files))
            found[path.name] = content + (path / "history.csv").read_bytes()
        return found


if __name__ == "__main__":
    here(*json.loads(sys.argv[1]))
