"""Several trainings at a time on one card: processes that wait for a word, so that all of them run at once."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Callable


class Trainings:
    """Processes of `gpu_kdnb.py serve`; all are loaded, some are asked to train."""

    def __init__(self, command: list, environment: dict[str, str], count: int, seconds: float):
        """seconds: after these, whatever still runs is ended and what was asked of it fails."""
        self.errors = [tempfile.TemporaryFile("w+") for _ in range(count)]  # noqa: SIM115
        self.processes = [
            subprocess.Popen(
                [str(word) for word in command],
                env={**environment, "OMP_NUM_THREADS": "1"},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            for errors in self.errors
        ]
        self.clock = threading.Timer(max(0.0, seconds), self.close)
        self.clock.start()

    def say(self, count: int) -> None:
        """A line to the first `count` processes."""
        for process in self.processes[:count]:
            process.stdin.write("\n")
            process.stdin.flush()

    def hear(self, count: int) -> list[dict]:
        """The next line of each of the first `count` processes; RuntimeError if one has ended."""
        lines = [process.stdout.readline() for process in self.processes[:count]]
        if not all(lines):
            raise RuntimeError(f"{lines.count('')} of {count} trainings ended early: {self._why(lines.index(''))}")
        return [json.loads(line) for line in lines]

    def train(self, count: int) -> dict:
        """One training in each of the first `count` processes, begun at once when all have warmed up."""
        self.say(count)
        self.hear(count)
        self.say(count)
        runs = self.hear(count)
        seconds = max(run["end"] for run in runs) - min(run["begin"] for run in runs)
        memory = max(run["peak_mib"] for run in runs), max(run.get("card_used_mib", 0) for run in runs)
        return {"rate": sum(run["examples"] for run in runs) / seconds, "peak_mib": memory[0], "card_mib": memory[1]}

    def _why(self, number: int) -> str:
        self.errors[number].seek(0)
        return (self.errors[number].read().strip().splitlines() or ["no reason given"])[-1][:500]

    def close(self) -> None:
        """End all processes."""
        self.clock.cancel()
        for process in self.processes:
            end(process)


def measure(
    command: list,
    environment: dict[str, str],
    counts: tuple[int, ...],
    rounds: int,
    left: Callable[[], float],
    tell: Callable[[str], None],
) -> dict:
    """Aggregate throughput [examples/s] of each count of trainings at a time.

    Args:
        command: starts one process that serves trainings.
        environment: of those processes, which compute on one CPU thread each.
        counts: trainings at a time, ascending.
        rounds: how often each count is measured; fewer where the time is spent.
        left: seconds that are left.
        tell: called with lines of progress.
    """
    found = {count: [] for count in counts}
    trainings, reason = Trainings(command, environment, counts[-1], left()), {}
    try:
        trainings.hear(counts[-1])
        for _ in range(rounds):
            for count in counts:
                found[count].append(trainings.train(count))
                tell(f"  {count} at a time: {found[count][-1]['rate']:.0f} examples/s")
    except (RuntimeError, OSError) as error:
        over = left() <= 1
        reason = {"skipped": "the time of this part is spent"} if over else {"failed": str(error)}
    finally:
        trainings.close()
    return {"measured": {str(count): summary(runs, found[counts[0]]) or reason for count, runs in found.items()}}


def summary(runs: list[dict], alone: list[dict]) -> dict:
    """Median over the rounds, and the ratio to one training at a time, round by round."""
    if not runs:
        return {}
    rates = [run["rate"] for run in runs]
    ratios = [run["rate"] / one["rate"] for run, one in zip(runs, alone, strict=False)]
    peaks = {name: max(run[name] for run in runs) for name in ("peak_mib", "card_mib")}
    return {"rate": statistics.median(rates), "rates": rates, "ratio_to_one": statistics.median(ratios), **peaks}


def end(process: subprocess.Popen) -> None:
    """End a process, if it still runs, and all that it started; it leads a group of its own."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
