"""Commands that something is done to: on a store of their own, with a journal of their trainings."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import forked
from command import KDNB

from kdnb.core.config import RunConfig

WATCHED = Path(__file__).parent / "watched"
LONGEST = 600  # seconds after which a process counts as hung


def code_of(lines):
    """How a process of some code begins."""
    return [sys.executable, "-c", lines]


class Moments:
    """Random moments of a command's time, whatever else the machine is at."""

    def __init__(self, rng, seconds):
        """Moments within some seconds at first."""
        self.rng, self.first, self.seconds = rng, seconds, seconds

    def reached(self, running):
        """Wait for the next one; those of some processes that still run then."""
        moment = time.monotonic() + self.rng.uniform(0, self.seconds)
        while time.monotonic() < moment and any(process.poll() is None for process in running):
            time.sleep(0.002)
        alive = [process for process in running if process.poll() is None]
        self.seconds = min(self.first, 1.1 * self.seconds) if alive else max(0.05, 0.8 * self.seconds)
        return alive


def training_of(path):
    """The training that gave a stored run, of its config.json."""
    values = json.loads(path.read_text())
    return RunConfig.from_dict(values).training() if "kind" not in values else path.parent.name


def trainings_of(outputs):
    """training -> its number of stored runs."""
    found = {}
    for path in (outputs / "runs").glob("[!.]*/config.json"):
        name = training_of(path)
        found[name] = found.get(name, 0) + 1
    return found


class Victim:
    """One command on one store, again and again, with a journal of its trainings."""

    every: ClassVar[list] = []  # all processes that were started, to be ended with their test

    def __init__(self, folder, *commands, begin=None, real=False, environment=None):
        """A command, or several that run side by side.

        Args:
            folder: new, for the store, the journal and what is told.
            commands: lists of words.
            begin: what comes before the words; None is `kdnb`.
            real: whether a fresh interpreter is needed, not a fork of one that has the libraries.
            environment: further variables.
        """
        self.folder, self.commands, self.begin, self.real = folder, commands, begin or KDNB, real
        folder.mkdir(parents=True)
        self.outputs, self.journal = folder / "outputs", folder / "journal"
        self.journal.touch()
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(WATCHED), os.environ.get("PYTHONPATH", "")]),
            "KDNB_OUTPUTS": str(self.outputs),
            "KDNB_JOURNAL": str(self.journal),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self.number = 0

    def start(self, words):
        self.number += 1
        self.told = self.folder / f"told-{self.number}"
        with self.told.open("w") as told:
            make = subprocess.Popen if self.real else forked.Popen
            more = {"start_new_session": True} if self.real else {}
            process = make([*self.begin, *words], env=self.environment, stdout=told, stderr=subprocess.STDOUT, **more)
        self.every.append(process)
        return process

    def run(self):
        """All commands to their ends, side by side; seconds that took."""
        if not self.real:
            forked.run(code_of("pass"))  # the server's own start is none of it
        started = time.monotonic()
        for process in [self.start(words) for words in self.commands]:
            process.wait(LONGEST)
            assert process.returncode == 0, self.said()
        return time.monotonic() - started

    def said(self):
        """What was told since the beginning, and to be shown where a process failed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("told-*"))[-3:])

    def at_work(self):
        """Whether something was written since it was made: into the store or to the terminal."""
        return self.outputs.exists() or any(path.stat().st_size for path in self.folder.glob("told-*"))

    def begun(self):
        """Trainings in the order in which they began."""
        return [line.split()[1] for line in self.journal.read_text().splitlines() if line.startswith("begin")]

    def wholly_stored(self, trainings):
        """Of some trainings those whose runs are all stored: training -> how many it gives."""
        stored = trainings_of(self.outputs)
        return {name for name, count in stored.items() if count == trainings.get(name)}
