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
import tempfile
import time
from pathlib import Path

import machine
from sweep_store import Store

RESULTS = Path(__file__).resolve().with_name("sweep.json")
SEARCH = {"grid": "search", "tasks": ["rt"], "profile": "cpu", "train_rows": 96}
EQUAL = {**SEARCH, "grid": "table1", "arms": ["ls_small"], "only": {"epochs": 1}}
LONG = {**EQUAL, "train_rows": 2000, "only": {"epochs": 1, "lr": 1e-5, "alpha": "0.1..0.6"}}


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
        "points": len(theirs),
        "trainings": len(inline.count("end")),
        "same_points": set(ours) == set(theirs),
        "points_with_other_bits": sum(ours.get(name) != content for name, content in theirs.items()),
        "trainings_ended_before_worker_killed": worker_killed_at,
        "trainings_ended_before_driver_killed": driver_killed_at,
        "trainings_ended_twice": sum(count > 1 for count in ended.values()),
        "trainings_begun_again": sum(count > 1 for count in begun.values()),
        "inline_seconds": round(inline_seconds, 1),
        "ray_seconds_with_kills": round(time.time() - started, 1),
    }


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
        "points": len(marks),
        "seconds_first_10": statistics.median(wall[:10]),
        "seconds_last_10": statistics.median(wall[-10:]),
        "cpu_seconds_first_10": statistics.median(cpu[:10]),
        "cpu_seconds_last_10": statistics.median(cpu[-10:]),
        "seconds_per_point_at_10": (marks[9]["time"] - marks[0]["time"]) / 9,
        "seconds_per_point_at_60": (marks[59]["time"] - marks[0]["time"]) / 59,
        "cpu_seconds_per_point_at_10": (marks[9]["cpu"] - marks[0]["cpu"]) / 9,
        "cpu_seconds_per_point_at_60": (marks[59]["cpu"] - marks[0]["cpu"]) / 59,
        "rss_mib_at_10": marks[9]["rss_mib"],
        "rss_mib_at_60": marks[59]["rss_mib"],
        "rss_mib": [mark["rss_mib"] for mark in marks],
        "seconds": [round(value, 3) for value in wall],
    }


def overhead(folder: Path, rounds: int) -> dict:
    """What Ray's one worker adds to a point of inline, from the second point on, in alternate rounds.

    inside: seconds that the training itself took, as its run has it. outside: the rest of the time between two
    finished points. cpu: CPU seconds of all processes, Ray's own among them. The clock differs with what else the
    machine does; outside and cpu hardly do.
    """
    points = {"inline": [], "ray": []}
    first = {"inline": [], "ray": []}
    for number in range(rounds):
        for engine in ("inline", "ray") if number % 2 else ("ray", "inline"):
            began, store = time.time(), Store(folder / f"{engine}-{number}")
            said = store.run(LONG, threads=2, **({"engine": "ray", "workers": 1} if engine == "ray" else {}))
            marks = [one for one in said if one["line"].startswith("[")]
            written = sorted((store.outputs / "runs").glob("[!.]*"), key=lambda path: path.stat().st_mtime)
            costs = [json.loads((path / "metrics.json").read_text())["cost"]["seconds"] for path in written]
            first[engine].append(marks[0]["time"] - began)
            for (a, b), inside in zip(itertools.pairwise(marks), costs[1:], strict=True):
                seconds = b["time"] - a["time"]
                points[engine].append({"inside": inside, "outside": seconds - inside, "cpu": b["cpu"] - a["cpu"]})
    mean = {
        engine: {name: statistics.mean(one[name] for one in found) for name in found[0]}
        for engine, found in points.items()
    }
    inside = statistics.mean(one["inside"] for found in points.values() for one in found)
    return {
        "points": {engine: len(found) for engine, found in points.items()},
        "mean_seconds": mean,
        "overhead": (mean["ray"]["outside"] - mean["inline"]["outside"]) / inside,
        "cpu_overhead": mean["ray"]["cpu"] / mean["inline"]["cpu"] - 1,
        "seconds_to_the_first_point": {engine: statistics.median(found) for engine, found in first.items()},
        "times": points,
    }


def main() -> None:
    """Measure, and put the results beside the earlier ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=("kills", "flat", "overhead"), default=["kills", "flat", "overhead"]
    )
    parser.add_argument("--rounds", type=int, default=2, help="of overhead, for each engine")
    options = parser.parse_args()
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
        found = json.loads(json.dumps(found), parse_float=lambda number: round(float(number), 4))
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
