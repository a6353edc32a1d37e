"""`kdnb export` and `kdnb predict`: a student as a folder of its own, and what such a folder says of new texts."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb.cli.options import Json, check_files, finish, of_own_files, of_rows, on_this_machine, words

if TYPE_CHECKING:
    from kdnb.data.own import OwnData
    from kdnb.data.splits import Rows

FORMATS = (".csv", ".jsonl")


@of_own_files
@of_rows
def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Name of a stored run.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.", parser=on_this_machine)],
    *,
    own: "OwnData",
    rows: "Rows",
    as_json: Json = False,
) -> None:
    """Export a run's model as a folder that transformers loads without kdnb, trained again if not kept.

    A run on files of your own finds them again by itself; where they were moved to is said with --data and the like,
    which are held to the run where its weights are kept too.
    """
    from kdnb.core import store
    from kdnb.data import origins
    from kdnb.data.splits import AS_PROFILE
    from kdnb.experiment import export as exports
    from kdnb.experiment import records, weights
    from kdnb.experiment.obtain import Bar, lock

    exports.check_folder(folder)
    if run_id not in store.stored_ids():
        raise ValueError(f"no run {run_id!r}{records.nearest_runs(run_id)}")
    if store.kind_of(run_id):
        raise ValueError(f"{run_id} is no classification run: kdnb lm export has the students of language models")
    run = store.load(run_id)
    weights.check_exportable(run.config)
    kept = weights.kept(run_id)
    if own.path:
        check_files(own, "")
    if kept is None or own.path or rows != AS_PROFILE:
        splits = origins.data_of(run.config, own, rows)
    if kept is None:
        print(f"{run_id}: its weights were not kept, it is trained again")
        with lock(run.config.training()), Bar(run_id) as bar:  # a second export waits, and has them
            kept = weights.ensure(run, splits, bar.step)
    exports.export(run, kept, folder)
    for line in exports.told(kept):
        print(line)
    print(f"model: {folder}")
    result = {"run_id": run_id, "folder": str(folder), "difference": kept.difference, "written": kept.written}
    finish(as_json, {**result, "labels": list(kept.labels)})


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of kdnb export, or any classifier of transformers.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="New texts: a table as --data reads it.")],
    text: Annotated[str, typer.Option(help="Its text column. [default: text, or the only column]")] = "",
    text2: Annotated[str, typer.Option(help="Its second text column, for pairs.")] = "",
    columns: Annotated[str, typer.Option(help="All its columns, where it has no header: text")] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .csv or .jsonl file to write. [default: CSV on stdout]", parser=on_this_machine
        ),
    ] = None,
    max_length: Annotated[int, typer.Option(help="Longer texts are cut, tokens; 0 for what DIR says.")] = 0,
    as_json: Json = False,
) -> None:
    """Classify new texts: a posterior and its entropy [nats] for each row, in the file's order."""
    from kdnb.core import store

    if out and out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out {out}: expected a name that ends in {' or '.join(FORMATS)}")
    if out and out.is_dir():
        raise ValueError(f"--out {out}: a folder, expected a file")
    if out and out.exists() and Path(file).exists() and out.samefile(file):
        raise ValueError(f"--out {out}: the file that is read, name another one")
    if max_length and not 8 <= max_length <= 512:
        raise ValueError(f"--max-length must be in 8..512 tokens, got {max_length}")
    if not folder.exists() and folder.name == str(folder) and store.exists(folder.name):
        raise ValueError(f"{folder}: a run, expected a folder; kdnb export {folder} DIR makes one")
    texts, seconds = _texts(file, text, text2, words(columns))
    from kdnb import files
    from kdnb.cli import telling
    from kdnb.core import metrics
    from kdnb.data import checkpoints
    from kdnb.errors import printable
    from kdnb.models import finished

    classifier = finished.read(folder, max_length)
    way_out = ": leave --text2 out" if seconds else ": name the column of the second text with --text2"
    checkpoints.check_pairs(str(folder), classifier.pairs, seconds is not None, way_out)
    tokens = classifier.tokens(texts, seconds)
    for line in telling.of_tokens([tokens], classifier.max_length):
        print(f"{printable(file)}: {line}", file=sys.stderr)
    if out:
        files.check_writable(out.parent)  # before the texts are classified, which may take long
    logits = classifier.logits(tokens)
    posteriors, entropies = metrics.posterior(logits), metrics.entropies(logits)
    rows = []
    for i, (posterior, entropy) in enumerate(zip(posteriors, entropies, strict=True)):
        shown = {"text": texts[i], **({"text2": seconds[i]} if seconds else {})}
        row = {"row": i + 1, **shown, "prediction": classifier.labels[int(posterior.argmax())]}
        by_class = dict(zip(classifier.labels, posterior.tolist(), strict=True))
        rows.append({**row, "entropy": float(entropy), "posterior": by_class})
    content = _json_lines(rows) if out and out.suffix.lower() == ".jsonl" else _csv(rows)
    if out:
        files.write_atomically(out, content.encode())
        print(f"{len(rows):,} rows, mean entropy {entropies.mean():.3f} nats: {out}")
    else:
        on_screen = sys.stdout.isatty()  # where a text's control characters would move the cursor, or do worse
        sys.stdout.write("\n".join(map(printable, content.split("\n"))) if on_screen else content)
    mean = float(entropies.mean())
    finish(as_json, {"rows": len(rows), "entropy": mean, "labels": list(classifier.labels), "file": str(out or "")})


def _texts(file: str, text: str, text2: str, columns: list[str]) -> tuple[list[str], list[str] | None]:
    """The texts of a file, and the second ones of pairs."""
    from kdnb.data.own import texts_of
    from kdnb.data.table_files import open_table
    from kdnb.errors import nearest

    table = open_table(file, tuple(filter(None, (text, text2))), columns=columns)
    names = table.columns
    text = text or ("text" if "text" in names else names[0] if len(names) == 1 else "")
    if not text:
        raise ValueError(f"{file}: which column has the texts? --text{nearest('text', names)}")
    if not table.rows:
        raise ValueError(f"{file}: no rows")
    return texts_of(table, text), texts_of(table, text2) if text2 else None


def _csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV, a column p(class) for each class."""
    from kdnb.files import csv_cell

    written = io.StringIO()
    flat = [
        {name: csv_cell(value) for name, value in row.items() if name != "posterior"}
        | {f"p({label})": p for label, p in row["posterior"].items()}
        for row in rows
    ]
    writer = csv.DictWriter(written, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return written.getvalue()


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
