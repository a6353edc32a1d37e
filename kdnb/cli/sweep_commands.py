"""What `kdnb sweep` and `kdnb status` do: print for people, return plain data."""

import time
from dataclasses import asdict

from kdnb.errors import nearest
from kdnb.sweeps import record as sweeps
from kdnb.sweeps import status
from kdnb.sweeps.record import Record, Sweep


def run(wanted, how: dict) -> dict:
    """Run the grid that the options ask for, a `kdnb.cli.grid_commands.Wanted`; prints its status at the end.

    Raises: as `kdnb.sweeps.engines.run`.
    """
    from kdnb.errors import Unfinished
    from kdnb.sweeps import engines

    how = engines.How(**{**how, "shard": _shard(how["shard"], how["engine"])})
    what = Sweep(**asdict(wanted))
    try:
        record = engines.run(what, how)
    except Unfinished:
        if record := sweeps.read(what.name):
            _told(record)
        raise
    return _told(record)


def _shard(text: str, engine: str) -> tuple[int, int]:
    """i and n of "i/n"; ValueError if it is not that, or goes with another engine."""
    try:
        i, n = map(int, text.split("/"))
    except ValueError:
        raise ValueError(f"shard must be i/n, such as 3/16, got {text!r}") from None
    if (engine == "shard") != (n > 1) and (i, n) != (1, 1):
        raise ValueError(f"--shard {text} goes with --engine shard, got {engine}")
    return i, n


def show_status(name: str, watch: float = 0.0) -> dict:
    """The status of a sweep by name, or by how its name begins; the latest for "". Again and again, if watched.

    Raises:
        ValueError: there is none.
    """
    names = sweeps.names()
    if not names:
        raise ValueError("no sweep was started yet: start one with kdnb sweep")
    found = [one for one in names if one.startswith(name)]
    if not found:
        raise ValueError(f"no sweep {name!r}{nearest(name, names)}")
    told = _told(sweeps.read(found[0]))
    while watch > 0 and told["left"] + told["running"]:
        time.sleep(watch)
        print()
        told = _told(sweeps.read(found[0]))
    if not name and len(names) > 1:
        print(f"other sweeps: {', '.join(names[1:10])}")
    return told


def _told(record: Record) -> dict:
    """Print a sweep's status; the same as plain data."""
    from rich.console import Console

    found = status.of(record)
    print(status.title(found))
    Console().print(status.table(found))
    print(*status.lines(found), sep="\n")
    arms = [{"task": task, "arm": arm, **states} for (task, arm), states in found.counts.items()]
    return {
        "sweep": record.sweep.name, **{state: found.total(state) for state in status.STATES}, "arms": arms,
        "seconds_left": found.seconds, "trainings": found.heartbeats, "failures": found.failed,
        "threads": record.threads, "teachers": record.teachers,
    }  # fmt: skip
