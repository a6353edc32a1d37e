"""A trained student as a folder of its own, with a card that says how it was made."""

import shutil
from pathlib import Path

from kdnb import files
from kdnb.core import store
from kdnb.errors import NoRuns
from kdnb.experiment import records
from kdnb.experiment.export import check_folder
from kdnb.studies.language_models import divergences
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.runs import MODELS, whole

_TOLD = {
    "nll": "NLL [nats]",
    "perplexity": "perplexity",
    "entropy": "entropy [nats]",
    "kl": "KL to the teacher [nats]",
    "agreement": "agreement with the teacher",
    "acceptance": "expected acceptance as a draft",
    "ece": "ECE",
    "length_ratio": "length of its texts over the teacher's",
}


def export(run_id: str, folder: Path) -> None:
    """Copy a student: weights, config, tokenizer, and README.md, its card. Nothing of the training but what is told.

    Args:
        run_id: of a run whose student is on this machine.
        folder: a new one, or an empty one.
    Raises:
        NoRuns: there is no such run, or its student is not here.
        ValueError: the folder holds something, or cannot be written.
    """
    source = MODELS / run_id / "model"
    if not store.exists(run_id):
        raise NoRuns(f"no run {run_id!r}{records.nearest_runs(run_id)}")
    if not whole(source):
        raise NoRuns(f"run {run_id} is stored without its student; kdnb lm train with its settings makes it again")
    check_folder(folder)
    record = store.read(run_id)
    config = LMConfig.from_record(record.config)

    def fill(partial: Path) -> None:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        files.write_atomically(partial / "README.md", card(config, record.metrics).encode())

    files.write_folder(folder, fill)


def card(config: LMConfig, metrics: dict) -> str:
    """What a user of the student has to know: teacher, loss and its convention, budget, what was measured."""
    rows = [f"| {words} | {metrics[name]:.4g} |" for name, words in _TOLD.items() if name in metrics]
    lines = [f"# {config.run_id()}", "", f"A student ({config.student}) trained with kdnb: {config.method}."]
    if config.targets != "none":
        convention = divergences.DIVERGENCES[config.divergence].convention(config.tau)
        kept = f" of {metrics['storage']}, {metrics['kept']}" if "storage" in metrics else ""
        kept += f", learned as {config.variant}" if metrics.get("storage", "hidden") != "hidden" else ""
        teacher = f"{config.teacher} (weights {config.teacher_weights[:16]})"
        lines += ["", f"Teacher: {teacher}, targets: {config.targets}{kept}."]
        lines += ["", "| the soft term | |", "|---|---|", f"| weight alpha | {config.alpha:g} |"]
        lines += [f"| {name} | {value} |".replace("||", "\\|\\|") for name, value in convention.items()]
    cost = metrics.get("cost", {})
    lines += [
        "",
        f"Budget: {config.tokens:,} tokens in sequences of {config.length}, {cost.get('seconds', 0):,.0f} s "
        f"on {cost.get('device', 'unknown')}.",
        "",
        "| on held-out text | |",
        "|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)
