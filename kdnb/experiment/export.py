"""A run's model as a folder that transformers loads without kdnb, with a card that says how it was made."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdnb import __version__, files
from kdnb.catalog import model_behind, source_of
from kdnb.core import metrics
from kdnb.core.methods import METHODS, used_settings
from kdnb.core.store import Run
from kdnb.data.checkpoints import TEXT_PAIRS
from kdnb.experiment.weights import Kept

_TOLD = {
    "accuracy": "accuracy",
    "nll": "NLL [nats]",
    "brier": "Brier score",
    "entropy": "mean entropy [nats]",
    "confidence": "mean confidence",
    "ece": "ECE, 15 bins",
    "agreement": "agreement with the teacher",
    "kl_to_teacher": "KL to the teacher [nats]",
}
_EXACT = 1e-5  # what rounding in another order of sums may change in a logit


def check_folder(folder: Path) -> None:
    """Raise ValueError, before any work, unless a folder is new or empty."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder}: expected a new or an empty folder")
    above = next(one for one in folder.absolute().parents if one.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise ValueError(f"{folder}: cannot be written, {above} is no folder that you may write to")


def export(run: Run, weights: Kept, folder: Path) -> None:
    """Copy a run's weights, config and tokenizer into a folder, with README.md, the card; whole or not at all.

    Its config.json says under TEXT_PAIRS whether an example is two texts.

    Args:
        run: the stored run.
        weights: its weights, see `kdnb.experiment.weights.ensure`.
        folder: a new one, or an empty one.
    Raises:
        ValueError: the folder holds something.
    """
    check_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in weights.files:
            shutil.copyfile(weights.folder / name, partial / name)
        config = {**files.read_json(partial / "config.json"), TEXT_PAIRS: weights.pair}
        files.write_json(partial / "config.json", config)
        files.write_atomically(partial / "README.md", card(run, weights).encode())
        partial.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def card(run: Run, weights: Kept) -> str:
    """What a user of the model has to know: task, classes, method, what was measured, what it can not be used for."""
    config, test = run.config, run.metrics["test"]
    labels, cost = weights.labels, run.metrics.get("cost", {})
    rows = ", ".join(f"{len(run.labels[split]):,} {split}" for split in run.labels)
    counts = np.bincount(run.labels["train"], minlength=len(labels))
    made: Mapping[str, Any] = {
        "run": config.run_id(),
        "task": weights.title,
        "an example": "a pair of texts" if weights.pair else "a text",
        "classes, train rows": ", ".join(f"{label} {n:,}" for label, n in zip(labels, counts, strict=True)),
        "rows": rows,
        "data fingerprint": config.data,
        "method": METHODS[config.method].title,
        **{name: getattr(config, name) for name in used_settings(config)},
        "starts from": _origin(run),
        "learning rate, epochs, batch": f"{config.lr:g}, {config.epochs}, {config.batch_size}",
        "seed, order": f"{config.seed}, {config.order_seed}",
        "longest text": f"{config.max_length} tokens, longer ones were cut",
        "trained on": f"{cost.get('device', 'unknown')}, {cost.get('precision', '')}, {cost.get('seconds', 0):,.0f} s",
    }
    of = "F1, mean over the classes" if len(labels) > 2 else f"F1 of {labels[1]}"
    measured = {words: f"{test[name]:.4f}" for name, words in (_TOLD | {"f1": of}).items() if name in test}
    tau = metrics.fit_temperature(run.logits["validation"], run.labels["validation"])
    measured["temperature of least validation NLL"] = f"{tau:.3f}"
    floor = metrics.majority_floor(run.labels["test"])
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "---",
        f"# {_cell(weights.title)}: {METHODS[config.method].title}",
        "",
        "A text classifier, fine-tuned with kdnb. transformers alone is needed to use it:",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        'classify = pipeline("text-classification", model="this folder", truncation=True, top_k=None)',
        'classify("a text")' if not weights.pair else 'classify({"text": "one", "text_pair": "two"})',
        "```",
        "",
        "## How it was made",
        "",
        *_table(made),
        "",
        f"## What was measured, on {len(run.labels['test']):,} test texts",
        "",
        *_table(measured),
        "",
        f"Always naming the most frequent class of the test texts would give an accuracy of {floor:.4f}. A temperature "
        "above 1 says that the posteriors are too sure, one below 1 that they are not sure enough.",
        "",
        "## Limits",
        "",
        "What was measured holds for texts like those it was trained on; an entropy says how sure the model is, not "
        "how right. The licence of the model it starts from, and that of the texts, hold for it too.",
        "",
        "## These weights",
        "",
        *told(weights),
        "",
        f"Written by kdnb {__version__}.",
        "",
    ]
    return "\n".join(lines)


def told(weights: Kept) -> list[str]:
    """What is said of exported weights: whether they are the run's, and what transformers makes of them."""
    if weights.difference == 0:
        first = "The weights give the logits of the stored run, bit for bit."
    else:
        first = (
            f"NOT the very weights of the stored run: trained again, the logits differ from the stored ones by up to "
            f"{weights.difference:.3g} (another machine, another number of threads, or other versions of libraries)."
        )
    if weights.written <= _EXACT:
        second = f"transformers computes the same test logits from them, to {max(weights.written, 1e-9):.1g}."
    else:
        second = (
            f"transformers' test logits differ from the model's own by up to {weights.written:.3g}: it was trained in "
            "bf16, and float32 is what a folder is read in."
        )
    return [first, second]


def _origin(run: Run) -> str:
    """The pretrained model behind a run, in words."""
    name = model_behind(run.config)
    source = source_of(name)
    where = {"tiny": "random weights", "asset": f"the packaged {source.where}", "folder": "a folder of the user's"}
    at = f"{source.where} at {source.revision[:12]}" if source.kind == "hub" else where[source.kind]
    layers = f", layers {', '.join(map(str, source.layers))}" if source.layers and source.kind != "tiny" else ""
    return f"{name} ({at}{layers})"


def _table(content: Mapping[str, Any]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in content.items())]


def _cell(value: Any) -> str:
    """A value in a table of Markdown: on one line, and nothing in it ends the cell or begins HTML."""
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
