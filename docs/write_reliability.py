"""Writes docs/reliability.md from docs/reliability.json, which `make faults` leaves: no number is written by hand.

`make docs` runs it. It needs nothing but Python.
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
NUMBERS, PAGE = HERE / "reliability.json", HERE / "reliability.md"
COUNTS = ("injected", "lost", "repeated", "corrupted", "unclear")

BEFORE = """# Reliability

What was put in on purpose, how often, and what came of it. *Lost*: a finished run, file or notebook that was not
there afterwards. *Repeated*: one that was made twice. *Corrupted*: bytes that are not what an undisturbed pass gives,
a run that `kdnb runs verify` finds, or a process or lock that outlived its command. *Unclear*: a fault that ended in
anything but one line that names the cause, or, for stops, in anything but the one line that says how to go on.

`make faults` makes all of them, by default with 200 random kills from fixed seeds, and writes `reliability.json`, of
which this page is made; a pass over some of the tests replaces their rows alone. These rows come of passes with
{kills} random kills at most, {minutes:g} minutes in all. `make faults FAULTS=8` makes fewer of them.

| kind | fault | times | lost | repeated | corrupted | unclear | test |
|---|---|---|---|---|---|---|---|
"""

AFTER = """
## What is done about them

- **A run is there whole or not at all.** It is written beside its place, synced, renamed. Finished runs are never
  written again, and whoever asks for one loads it. Notebooks, figures, reports, sweeps' records and caches are put in
  place by a rename as well.
- **Hashes show that bytes are as written; they do not show that a run was trained.** So a run is also held to itself
  whenever it is loaded: shapes, finite logits, labels in range, the columns of its curves, and every metric of each
  split computed again from its logits. `kdnb runs verify` holds what a run says of its teacher to the teacher's
  logits too. A forger who trains a model and stores its true metrics has made a run. A selection reads validation
  metrics alone, by design: verify a store that others could write to before selecting from it.
- **What lies beside the runs** is held to itself as well: a written teacher's logits to its name, kept weights to
  their run and their hashes, a cache of targets to its manifest and to what a law can be, the state of a language
  model's training to its hash, the record of a sweep to its name.
- **What fails is named, set aside in `outputs/damaged/` with its bytes, and made again**; reference runs stay where
  they are.
- **SIGINT and SIGTERM** end a command with one line and exit code 130 or 143. A training that is not finished is
  begun again; a language model's goes on from the step at which it was stopped. Workers end with the command that
  started them, also where that was killed.
- **A training whose loss is no number** ends at its next sample, or at its end where none are taken, and stores
  nothing; a sweep records it in `outputs/failed/` and goes on.

## Versions of the store

`metrics.json` says the format of its run: `"format": 2`; runs that do not say it are of format 2, or of 1, which had
`logits.npz`. A run of format 1 is converted in place, no bit of its arrays and no name changed, by `kdnb runs
migrate`, or on the way by `kdnb runs verify`; `tests/experiment/test_migrate.py` does it with runs that an earlier
commit wrote. A run of another format is refused by name, in one line, and left as it is: it takes the version of kdnb
that knows it. A future format keeps the outer form of `metrics.json`, gets the next number, and its conversion in
`kdnb/experiment/migrate.py`.

## What may differ, and where

On one machine the same command gives the same bits, whatever was killed on the way. Another number of threads,
another processor or a GPU adds up in another order: last bits of logits differ, training goes on from them, and so a
sweep keeps its number of threads.{threads} Metrics that are computed again may differ in their last
bits between machines; loading allows for a millionth, and in the calibration error for a few examples that move to the
next bin.
"""

THREADS = """ The {runs} runs of `test_two_passes_at_demo`,
trained with one thread and again with two, differ in a test logit by {largest:.2g} at most (the standard deviation of
all logits is {spread:.2g}), in the entropy of a run by {entropy:.2g} nats and in its accuracy by {points:.2g} points at
most; {predictions} of {all:,} predictions are others."""


def page(numbers: dict) -> str:
    """The page of some numbers."""
    rows = []
    for row in numbers["rows"]:
        file, _, name = row["test"].partition("::")
        cells = [row["kind"], row["fault"], *(f"{row[count]:,}" for count in COUNTS), f"`{name}` in `{file}`"]
        rows.append("| " + " | ".join(cells) + " |\n")
    before = BEFORE.format(kills=numbers["kills_asked_for"], minutes=numbers["minutes"])
    return before + "".join(rows) + AFTER.format(threads=_threads(numbers))


def _threads(numbers: dict) -> str:
    """What another number of threads was measured to change; "" before it was."""
    told = numbers.get("measured", {}).get("threads")
    return THREADS.format(**told, points=100 * told["accuracy"], all=told["runs"] * told["rows"]) if told else ""


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(NUMBERS.read_text(encoding="utf-8"))), encoding="utf-8")
