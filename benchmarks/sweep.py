"""Sweeps: the same table after kills, cost per point over a long sweep, what Ray adds. Results in sweep.json.

kills     a search of 84 points of the MiniLM pair on rt, undisturbed inline; then on Ray with two workers, of which
          one is killed, then the driver, then started again: bits compared, trainings counted
flat      63 equal points, one after another in one process: seconds and memory per point, from first to last
overhead  points of 10 s and more: Ray with one worker against inline, with equal threads, in alternate rounds
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE, RESULTS = Path(__file__).resolve(), Path(__file__).resolve().with_name("sweep.json")
SEARCH = {"grid": "search", "tasks": ["rt"], "profile": "cpu", "train_rows": 96}
EQUAL = {**SEARCH, "grid": "table1", "arms": ["ls_small"], "where": "epochs == 1"}
LONG = {**EQUAL, "train_rows": 2000, "where": "epochs == 1 and lr == 1e-5 and alpha <= 0.6"}


def here(what: dict, how: dict) -> None:
    """One sweep in this process; a JSON line with clock, CPU time and memory for every line it says."""
    from kdnb.sweeping import How, run
    from kdnb.sweeps import Sweep

    def say(line: str) -> None:
        clocks = {"time": time.time(), "cpu": time.process_time(), "rss_mib": _rss_mib()}
        print(json.dumps({**clocks, "line": line}), flush=True)

    run(Sweep(**what), How(**how), say)


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
            **os.environ, "PYTHONPATH": str(watched), "KDNB_OUTPUTS": str(self.outputs),
            "KDNB_JOURNAL": str(self.journal), "KDNB_REFERENCE": str(self.outputs / "none"),
        }  # fmt: skip
        command = [sys.executable, str(HERE), "--here", json.dumps([what, how])]
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
            with np.load(path / "logits.npz", allow_pickle=False) as arrays:
                content = b"".join(arrays[name].tobytes() for name in sorted(arrays.files))
            found[path.name] = content + (path / "history.csv").read_bytes()
        return found


def kills(folder: Path) -> dict:
    """The search inline, then on Ray with kills; are the tables one, was anything trained twice?"""
    inline, ray = Store(folder / "inline"), Store(folder / "ray")
    started = time.time()
    inline.run(SEARCH, threads=1)
    inline_seconds, started = time.time() - started, time.time()
    how = {"engine": "ray", "workers": 2, "threads": 1}
    driver = ray.start(SEARCH, **how)
    _wait(lambda: sum(ray.count("end").values()) >= 5 and ray.busy(), driver)
    os.kill(ray.busy()[0], signal.SIGKILL)
    worker_killed_at = sum(ray.count("end").values())
    _wait(lambda: sum(ray.count("end").values()) >= 14 and ray.busy(), driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver_killed_at = sum(ray.count("end").values())
    ray.run(SEARCH, **how)
    ours, theirs = ray.table(), inline.table()
    begun, ended = ray.count("begin"), ray.count("end")
    return {
        "points": len(theirs), "trainings": len(inline.count("end")), "same_points": set(ours) == set(theirs),
        "points_with_other_bits": sum(ours.get(name) != content for name, content in theirs.items()),
        "trainings_ended_before_worker_killed": worker_killed_at,
        "trainings_ended_before_driver_killed": driver_killed_at,
        "trainings_ended_twice": sum(count > 1 for count in ended.values()),
        "trainings_begun_again": sum(count > 1 for count in begun.values()),
        "inline_seconds": round(inline_seconds, 1), "ray_seconds_with_kills": round(time.time() - started, 1),
    }  # fmt: skip


def _wait(test, process: subprocess.Popen) -> None:
    while not test():
        if process.poll() is not None:
            raise RuntimeError("the sweep ended before it could be killed")
        time.sleep(0.05)


def flat(folder: Path) -> dict:
    """Seconds and memory of each of 63 equal points in one process."""
    said = Store(folder / "flat").run(EQUAL, threads=2)
    marks = [one for one in said if one["line"].startswith("[")]
    pairs = list(itertools.pairwise(marks))  # the first point also reads weights and text
    wall, cpu = ([b[name] - a[name] for a, b in pairs] for name in ("time", "cpu"))
    return {
        "points": len(marks), "seconds_first_10": statistics.median(wall[:10]),
        "seconds_last_10": statistics.median(wall[-10:]), "cpu_seconds_first_10": statistics.median(cpu[:10]),
        "cpu_seconds_last_10": statistics.median(cpu[-10:]),
        "seconds_per_point_at_10": (marks[9]["time"] - marks[0]["time"]) / 9,
        "seconds_per_point_at_60": (marks[59]["time"] - marks[0]["time"]) / 59,
        "cpu_seconds_per_point_at_10": (marks[9]["cpu"] - marks[0]["cpu"]) / 9,
        "cpu_seconds_per_point_at_60": (marks[59]["cpu"] - marks[0]["cpu"]) / 59,
        "rss_mib_at_10": marks[9]["rss_mib"], "rss_mib_at_60": marks[59]["rss_mib"],
        "rss_mib": [mark["rss_mib"] for mark in marks], "seconds": [round(value, 3) for value in wall],
    }  # fmt: skip


def overhead(folder: Path, rounds: int) -> dict:
    """Seconds per point of Ray's one worker and of inline, from the second point on, in alternate rounds."""
    times, starts = {"inline": [], "ray": []}, {"inline": [], "ray": []}
    for number in range(rounds):
        for engine in ("inline", "ray") if number % 2 else ("ray", "inline"):
            began = time.time()
            more = {"engine": "ray", "workers": 1} if engine == "ray" else {}
            said = Store(folder / f"{engine}-{number}").run(LONG, threads=2, **more)
            marks = [one["time"] for one in said if one["line"].startswith("[")]
            times[engine].append([round(b - a, 3) for a, b in itertools.pairwise(marks)])
            starts[engine].append(round(marks[0] - began, 2))
    means = {engine: statistics.mean(value for part in parts for value in part) for engine, parts in times.items()}
    medians = {engine: statistics.median(value for part in parts for value in part) for engine, parts in times.items()}
    return {
        "points_per_round": len(times["inline"][0]) + 1, "rounds": rounds, "seconds_per_point": means,
        "median_seconds_per_point": medians, "overhead": means["ray"] / means["inline"] - 1,
        "median_overhead": medians["ray"] / medians["inline"] - 1,
        "seconds_to_the_first_point": {engine: statistics.median(found) for engine, found in starts.items()},
        "times": times,
    }  # fmt: skip


def main() -> None:
    """Measure, and put the results beside the earlier ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=("kills", "flat", "overhead"), default=["kills", "flat", "overhead"]
    )
    parser.add_argument("--rounds", type=int, default=2, help="of overhead, for each engine")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        here(*json.loads(options.here))
        return
    import machine

    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="kdnb-sweep-") as folder:
            measure = {"kills": kills, "flat": flat, "overhead": lambda path: overhead(path, options.rounds)}[name]
            load = os.getloadavg()[0]
            found[name] = {**measure(Path(folder)), "load_before": load, "machine": machine.facts()}
        told = {
            key: value for key, value in found[name].items() if key not in ("machine", "times", "rss_mib", "seconds")
        }
        print(json.dumps({name: told}, indent=1), flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
