"""Your own data: a CSV, TSV or Parquet file with text and label columns becomes a task."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from kdnb.catalog import Task
from kdnb.errors import nearest

HOLDOUT_SEED = 42
HOLDOUT_SHARE = 0.15  # of the rows, for each of validation and test, where no file is given


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """The user's own files and their columns; all "" for none."""

    path: str = ""
    text: str = ""
    text2: str = ""  # the second text of pairs
    label: str = ""
    validation: str = ""  # "" cuts it from path
    test: str = ""


def read(own: OwnData) -> tuple[Task, pd.DataFrame]:
    """The task and its examples (columns split, text, text2, label) from the user's files.

    Raises:
        ValueError: one line naming file, column or row, and what was expected.
    """
    path, text, text2, label, validation, test = own.path, own.text, own.text2, own.label, own.validation, own.test
    parts = {
        "train": read_table(path),
        "validation": validation and read_table(validation),
        "test": test and read_table(test),
    }
    parts = {
        split: _columns(table, where, text, text2, label)
        for (split, table), where in zip(parts.items(), (path, validation, test), strict=True)
        if isinstance(table, pd.DataFrame)
    }
    labels = _label_names(parts["train"].label, path, label)
    for split, where in {"train": path, "validation": validation, "test": test}.items():
        if split in parts:
            parts[split]["label"] = _numbers(parts[split].label, labels, where, label)
    _cut(parts, path)
    task = Task(
        name=f"own:{Path(path).stem}",
        title=Path(path).stem,
        question=f"Which {label}?",
        labels=labels,
        source="own",
        pair=bool(text2),
    )
    return task, pd.concat([part.assign(split=split) for split, part in parts.items()], ignore_index=True)


def read_table(path: str) -> pd.DataFrame:
    """A file as strings; quoted fields in CSV, plain tabs in TSV."""
    kind = Path(path).suffix.lower()
    if kind not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"{path}: expected a .csv, .tsv or .parquet file")
    form = {"sep": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {"sep": ","}
    try:
        if kind == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(path, **form, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not readable as {kind[1:].upper()} ({str(error).splitlines()[0]})") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus fields for an index
        raise ValueError(f"{path}: rows have more fields than the header; quote texts that hold a comma")
    return table


def _columns(table: pd.DataFrame, where: str, text: str, text2: str, label: str) -> pd.DataFrame:
    for column in filter(None, (text, text2, label)):
        if column not in table:
            raise ValueError(f"{where}: no column {column!r}{nearest(column, map(str, table.columns))}")
    if table.empty:
        raise ValueError(f"{where}: no rows")
    tidy = pd.DataFrame({"text": table[text], "text2": table[text2] if text2 else "", "label": table[label]})
    for column in ("text", "text2") if text2 else ("text",):
        empty = tidy[column].isna() | (tidy[column].astype(str).str.strip() == "")
        if empty.any():
            raise ValueError(f"{where}: {int(empty.sum())} rows with empty text, the first is data row {_first(empty)}")
        tidy[column] = tidy[column].astype(str)
    missing = tidy.label.isna() | (tidy.label.astype(str).str.strip() == "")
    if missing.any():
        raise ValueError(f"{where}: no label in data row {_first(missing)}")
    tidy["label"] = tidy.label.astype(str).str.strip()
    return tidy


def _label_names(labels: pd.Series, where: str, column: str) -> tuple[str, ...]:
    """Names in label order: sorted, or 0..K-1 where all are integers."""
    names = sorted(set(labels))
    if len(names) < 2:
        raise ValueError(f"{where}: column {column!r} has one class only ({names[0]!r}), expected two or more")
    if len(names) > len(labels) / 2:
        raise ValueError(f"{where}: column {column!r} has {len(names)} classes in {len(labels)} rows; is it the label?")
    try:
        numbers = sorted(int(name) for name in names)
    except ValueError:
        return tuple(names)
    if numbers != list(range(len(numbers))):
        raise ValueError(f"{where}: integer labels must be 0..K-1, got {', '.join(map(str, numbers[:6]))}")
    return tuple(map(str, numbers))


def _numbers(labels: pd.Series, names: tuple[str, ...], where: str, column: str) -> pd.Series:
    numbers = labels.map({name: i for i, name in enumerate(names)})
    if numbers.isna().any():
        row = _first(numbers.isna())
        raise ValueError(
            f"{where}: column {column!r}, data row {row}: label {labels.iloc[row - 1]!r} is none of {', '.join(names)}"
        )
    return numbers.astype(int)


def _cut(parts: dict[str, pd.DataFrame], where: str) -> None:
    """Take the splits that no file gives out of the train rows, at random, always the same ones."""
    held = max(1, int(HOLDOUT_SHARE * len(parts["train"])))
    for split in ("validation", "test"):
        if split not in parts:
            order = np.random.default_rng(HOLDOUT_SEED).permutation(len(parts["train"]))
            parts[split] = parts["train"].iloc[np.sort(order[:held])]
            parts["train"] = parts["train"].iloc[np.sort(order[held:])]
    if parts["train"].label.nunique() < 2:
        raise ValueError(f"{where}: fewer than two classes are left to train on after the cut; give more rows")


def _first(mask: pd.Series) -> int:
    """Number of the first True row, counted from 1 as a person would."""
    return int(np.flatnonzero(mask.to_numpy())[0]) + 1
