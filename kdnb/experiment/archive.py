"""Stored runs as one Parquet file, a row a run, with a Croissant description beside it: what an archive takes in.

No logits are opened: a row has a run's settings, its stored metrics, what it cost, and the hashes of its other files,
by which they are found again. Croissant is MLCommons' JSON-LD for data sets (version 1.0).
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb import __version__, files
from kdnb.core import store
from kdnb.core.config import SPLITS, RunConfig, declared
from kdnb.core.methods import setting_of
from kdnb.errors import DamagedRun, NoRuns
from kdnb.experiment.tables import arm_of

if TYPE_CHECKING:
    from pyarrow import Table

TITLE = "kdnb: is knowledge distillation just label smoothing?"
CREATOR = "The kdnb developers"
LICENCE = "https://spdx.org/licenses/MIT.html"
ABOUT = (
    "Trainings of small text and image classifiers, and of small language models, by plain training (ERM), label "
    "smoothing (LS) and knowledge distillation (KD): settings, metrics on train, validation and test, and what each "
    "took. A row is a run; entropies, losses and divergences are in nats, accuracies are shares."
)
METRICS = {  # of a split -> what it is [unit], as kdnb.core.metrics has them
    "accuracy": "share of examples whose largest logit is the label's [-]",
    "f1": "F1 of class 1 for two classes, macro F1 for more [-]",
    "entropy": "mean Shannon entropy of the posteriors [nats]",
    "nll": "mean negative log likelihood of the labels [nats]",
    "brier": "mean squared distance of posterior and one-hot label, summed over classes [-]",
    "ece": "expected calibration error over 15 bins of equal width [-]",
    "confidence": "mean largest posterior [-]",
    "majority_share": "share of the class predicted most often; 1 where a run predicts one class alone [-]",
    "agreement": "share of examples on which student and teacher predict the same class; none without a teacher [-]",
    "kl_to_teacher": "mean KL of the teacher's posterior to the student's, at tau 1; none without a teacher [nats]",
}
NAMED = {  # fields of a config that carry no help
    "task": "what was classified; @0.2 behind it is the share of train labels drawn anew",
    "data": "fingerprint of the examples of all three splits, in hexadecimal",
    "method": "what the run was trained on",
}
CROISSANT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TYPES = {
    str: ("string", "sc:Text"),
    float: ("float64", "sc:Float"),
    int: ("int64", "sc:Integer"),
    bool: ("bool", "sc:Boolean"),
}
_KINDS = {kind.__name__: kind for kind in TYPES}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: of the column.
        kind: a key of TYPES; a cell may be empty.
        about: what it holds, its unit in brackets.
    """

    name: str
    kind: type
    about: str


def columns() -> list[Column]:
    """The columns in their order; those of settings are the fields that a config may have by now."""
    found = [
        Column("run_id", str, "name of the run: what it is, for people, and the hash of its settings"),
        Column("kind", str, "empty for a classification run, else the experiment that the record is of"),
        Column("arm", str, "method, model and teacher in a word, whatever the other settings; empty for none"),
    ]
    for name, field in declared().items():
        if name != "extra":
            one = setting_of(field)
            unit = f" [{one.unit}]" if one.unit else ""
            kind = field.type if isinstance(field.type, type) else _KINDS[str(field.type)]
            found.append(Column(name, kind, f"setting: {NAMED.get(name, one.help)}{unit}"))
    found += [
        Column(f"{split}_{name}", float, f"{split}: {text}") for split in SPLITS for name, text in METRICS.items()
    ]
    return [
        *found,
        Column("seconds", float, "what the run took, reading and evaluation included [s]"),
        Column("peak_memory_mib", int, "largest memory of the process, or of the GPU where there was one [MiB]"),
        Column("device", str, "where it was trained"),
        Column("threads", int, "CPU threads of the training"),
        Column("precision_used", str, "precision of the training"),
        Column("revision", str, "revision of the code; dirty: with changes that were not committed"),
        Column("config", str, "all settings as JSON, those of experiments that are no classification run among them"),
        Column("metrics", str, "all metrics and costs as JSON"),
        Column("arrays_sha256", str, "SHA-256 of the file of the run's logits or other arrays"),
    ]


def row(run_id: str) -> dict[str, Any]:
    """The cells of a run, by column; what it does not have is left out.

    Raises:
        DamagedRun: its settings or metrics are not what was written.
    """
    metrics, sums = store.read_metrics(run_id)
    try:
        return _cells(run_id, metrics, sums)
    except store.UNREADABLE as error:
        raise store.damaged(run_id, error) from None


def _cells(run_id: str, metrics: dict[str, Any], sums: dict[str, str]) -> dict[str, Any]:
    raw = files.ordinary(store.folder(run_id) / "config.json")
    digest = hashlib.sha256(raw).hexdigest()
    if digest != sums.get("config.json"):
        raise DamagedRun("config.json is not what was written")
    if digest[:12] != run_id.rpartition("-")[2]:
        raise DamagedRun("config.json belongs to another run")
    config, cost = json.loads(raw), metrics.get("cost", {})
    cells: dict[str, Any] = {**_settings(config), "run_id": run_id, "kind": config.get("kind", "")}
    for split in SPLITS:
        values = metrics.get(split)
        cells |= {f"{split}_{name}": values.get(name) for name in METRICS} if isinstance(values, dict) else {}
    cells |= {name: cost.get(name) for name in ("seconds", "peak_memory_mib", "device", "threads", "revision")}
    cells |= {"precision_used": cost.get("precision"), "arrays_sha256": sums.get("arrays.npz") or sums.get(store.OLD)}
    return cells | {name: json.dumps(one, sort_keys=True) for name, one in (("config", config), ("metrics", metrics))}


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Arm and settings; of an experiment that is no classification run, what it has under the same names."""
    if config.get("kind"):
        return config
    made = RunConfig.from_dict(config)
    return {name: getattr(made, name, None) for name in declared() if name != "extra"} | {"arm": arm_of(made)}


def table(run_ids: Iterable[str]) -> "Table":
    """Runs as a table, a row each; a damaged one is reported on stderr and left out.

    Raises:
        NoRuns: none is left.
    """
    import pyarrow

    rows = list(_rows(run_ids))
    if not rows:
        raise NoRuns("no runs to write: `kdnb compare rt` makes some")
    arrays, fields = [], []
    for column in columns():
        name, kind = column.name, column.kind
        arrays.append(pyarrow.array([_cell(cells.get(name), kind) for cells in rows], TYPES[kind][0]))
        fields.append(pyarrow.field(name, arrays[-1].type, metadata={"description": column.about}))
    return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))


def _cell(value: Any, kind: type) -> Any:
    """A value as a column of some type holds it; None, an empty cell, for one that it cannot hold."""
    if type(value) is int and abs(value) >= 2**63:
        return None
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is str:
        value = value.encode(errors="replace").decode()  # half a surrogate pair is no sign
    return value if type(value) is kind else None


def _rows(run_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of those that are whole."""
    for run_id in run_ids:
        try:
            yield row(run_id)
        except (DamagedRun, ValueError, OSError) as error:
            print(f"kdnb: {error}; left out", file=sys.stderr)


def write(path: Path, run_ids: Iterable[str], url: str = "") -> tuple[Path, int]:
    """Write runs as Parquet, and beside it their description.

    Args:
        path: of the Parquet file; the description is the same with .croissant.json at its end.
        run_ids: names of stored runs.
        url: where the file will be found, if that is known.
    Returns:
        The description's path, and how many rows were written.
    Raises:
        ValueError: the path does not end in .parquet.
        NoRuns: there is none.
    """
    import pyarrow.parquet

    if path.suffix.lower() != ".parquet":
        raise ValueError(f"{path}: expected a name that ends in .parquet")
    made = table(run_ids)
    files.write_atomically(path, lambda file: pyarrow.parquet.write_table(made, file, compression="zstd"))
    beside = path.with_name(f"{path.stem}.croissant.json")
    files.write_json(beside, described(path, url))
    return beside, made.num_rows


def described(path: Path, url: str = "") -> dict[str, Any]:
    """The Croissant description of a written file, its hash and size read from its bytes."""
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"runs/{column.name}",
            "name": column.name,
            "description": column.about,
            "dataType": TYPES[column.kind][1],
            "source": {"fileObject": {"@id": path.name}, "extract": {"column": column.name}},
        }
        for column in columns()
    ]
    file = {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "description": "A row a run.",
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": files.sha256(path),
    }
    return {
        "@context": CROISSANT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "kdnb_runs",
        "alternateName": TITLE,
        "description": ABOUT,
        "license": LICENCE,
        "creator": {"@type": "sc:Organization", "name": CREATOR},
        "citeAs": f"{CREATOR}. {TITLE} Version {__version__}.",
        "version": __version__,
        "datePublished": datetime.now(UTC).date().isoformat(),
        **({"url": url} if url else {}),
        "distribution": [file],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "runs",
                "name": "runs",
                "description": "Stored runs; what a run does not have is empty.",
                "key": {"@id": "runs/run_id"},
                "field": fields,
            }
        ],
    }
