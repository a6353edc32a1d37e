"""The command `kdnb`: its overview at once, everything else by `kdnb.cli.commands`, which takes its time to import."""

import os
import sys

ABOUT = "Is knowledge distillation just label smoothing? Train, compare, read. Entropies are in nats."
COMMANDS = {  # name -> the first sentence of its own --help; a test holds the two together
    "doctor": "Tell what this machine has: Python, torch, device, bf16, packages, caches, hub.",
    "fetch": "Bring a profile's texts and models into data_cache, pinned and checked; later no network is needed.",
    "train": "Fine-tune one model, or load it if it was trained before.",
    "compare": "Compare ERM, LS and KD (standard, self, reverse, teacher-free) on a task or on your own data.",
    "export": "Export a run's model as a folder that transformers loads without kdnb, trained again if not kept.",
    "predict": "Classify new texts: a posterior and its entropy [nats] for each row, in the file's order.",
    "study": "Execute the notebooks of a profile (demo: all but the 50s) and write the report; what is current stays.",
    "run": "Execute one notebook with papermill into outputs/executed/.",
    "notebooks": "Copy the notebooks, from a wheel too, into a folder of yours, to be opened and changed there.",
    "report": "Write the report of the stored runs: a site, outputs/site/, and all of it in outputs/report.html.",
    "runs": "The run store: list, show, table, verify, migrate.",
    "teachers": "Teachers that no training gives: average, list, rows.",
    "lm": "Language models: fetch, check, cache, train, export.",
    "simulate": "Run what the second paper's claims need beside stored runs: toys and small networks, a minute.",
    "plan": "Count a grid's runs and training epochs, what is done, and estimate the time and memory of the rest.",
    "sweep": "Train what a grid lacks: ERM, then what its selected models teach. Start it again: it goes on.",
    "status": "Tell how far a sweep is: done, running, failed, left, expected end.",
    "select": "Select each arm's and seed's best stored run of a grid on validation; then show its test metrics.",
}


def overview() -> str:
    """What `kdnb --help` prints."""
    lines = [f"  {name:<9} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: kdnb [OPTIONS] COMMAND [ARGS]...",
            "",
            f"  {ABOUT}",
            "",
            "Options:",
            "  --version  Show the version and exit.",
            "  --help     Show this message and exit; kdnb COMMAND --help tells of a command.",
            "",
            "Commands:",
            *lines,
        ]
    )


def plainly() -> None:
    """Have what is printed come out whatever the streams can hold, and nothing drawn over and over into a log.

    A character that a stream's encoding lacks is written as a plain one. Where nobody watches, bars of other
    libraries are off, here and in the processes that are started: tqdm reads its variable when it is imported.
    """
    from kdnb import plain

    for stream in (sys.stdout, sys.stderr):
        plain.reconfigure(stream)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")


def main() -> None:
    """Entry point."""
    plainly()
    words = sys.argv[1:]
    if words in ([], ["--help"]):
        print(overview())
        sys.exit(0 if words else 2)
    import signal

    asked: list[int] = []

    def terminated(number: int, _frame: object) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminated)  # it ends a command as SIGINT does: what it began is put away
    try:
        from kdnb.cli.commands import run_command

        run_command()
    except KeyboardInterrupt:
        print("kdnb: stopped; finished runs are kept, start again to go on", file=sys.stderr)
        sys.exit(143 if asked else 130)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
