"""Tables as people keep them: delimited text, JSON lines or Parquet, gzipped or not, told apart by what is in them."""

import contextlib
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kdnb import files
from kdnb.errors import first_line, nearest

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
FORMATS = "CSV, TSV, JSON lines or Parquet"
CHUNK = 2**24  # bytes that are unpacked at a time
ROWS = 512  # of a Parquet file that are unpacked at a time
_BACKSLASHES = ", quotes escaped by backslashes"
_BLANKS = ", blanks before quotes"
_LINE_END = re.compile(r"\r\n|\r|\n")
_EXCEL_HINT = re.compile(r"\Asep=[^\r\n]{1,2}\r?\n", re.IGNORECASE)  # Excel's own first line
_OTHER_FORMATS = {  # how files begin that hold no table we read
    b"PK\x03\x04": "an Excel or zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
    b"%PDF": "a PDF file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3\x00": "an SQLite file",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip file within a gzip file",
}


@dataclass(frozen=True, eq=False)
class TextTable:
    """A file's table. Rows are counted from 1, without the header.

    path: the file.
    columns: names, in order; one may stand there twice.
    rows: how many.
    values: the values of the column at a position, one a row.
    form: what kind of file it was found to be, in words.
    """

    path: str
    columns: tuple[str, ...]
    rows: int
    values: Callable[[int], list[Any]]
    form: str

    def column(self, name: str) -> list[Any]:
        """The values of a column.

        Raises:
            ValueError: there is none of that name, or there are two.
        """
        count = self.columns.count(name)
        if count > 1:
            raise ValueError(f"{self.path}: {count} columns are named {name!r}; rename all but one")
        if not count:
            raise ValueError(f"{self.path}: no column {name!r}{nearest(name, self.columns)}")
        return self.values(self.columns.index(name))


def open_table(path: str, wanted: Sequence[str] = (), label: str = "", columns: Sequence[str] = ()) -> TextTable:
    """The table in a file, whatever its name ends in.

    Args:
        path: on this machine.
        wanted: columns that it must have; they tell which separator is meant.
        label: the one of them that holds a label, "" for none: a stray quote swallows rows, which labels give away.
        columns: names of all its columns, where it has no header.
    Raises:
        ValueError: one line with the file, where there is one the row, and what was expected.
    """
    content, suffixes = files.given(path), [suffix.lower() for suffix in Path(path).suffixes]
    packed = ""
    if content[:2] == b"\x1f\x8b":
        content, packed = unzipped(path, content), ", gzipped"
    for start, what in _OTHER_FORMATS.items():
        if content.startswith(start):
            raise ValueError(f"{path}: {what}, expected {FORMATS}")
    if content[:4] == b"PAR1":
        table = _parquet(path, content)
    else:
        text = _EXCEL_HINT.sub("\n", _decoded(path, content), count=1)
        rows = _json_rows(path, text, expected=bool({".json", ".jsonl", ".ndjson"} & set(suffixes)))
        if rows is None:
            return _Delimited(path, text, tuple(wanted), label, tuple(columns)).table(".tsv" in suffixes, packed)
        table = _of_json(path, rows)
    if columns:
        raise ValueError(f"{path}: --columns is for text without a header, got {table.form}, which names its columns")
    return replace(table, form=table.form + packed)


def read_table(path: str) -> pd.DataFrame:
    """All columns of the table in a file, under their names, of which two may be one; otherwise as `open_table`."""
    table = open_table(path)
    frame = pd.DataFrame({place: pd.Series(table.values(place)) for place in range(len(table.columns))})
    frame.columns = pd.Index(table.columns)
    return frame


def unzipped(path: str, content: bytes) -> bytes:
    """What a gzip file holds.

    Raises:
        ValueError: it is damaged, or holds more than is read into memory.
    """
    parts, size = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while part := file.read(CHUNK):
                parts.append(part)
                size += len(part)
                files.check_size(path, size, "or more when unpacked")
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not readable as gzip ({error})") from None
    return b"".join(parts)


def _decoded(path: str, content: bytes) -> str:
    """Text of UTF-8, or of UTF-16 where the file's first bytes say so."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}) in line {line}; save it as UTF-8") from None
    text = text.lstrip("\ufeff")
    if (place := text.find("\0")) >= 0:
        wide = "; UTF-16 or UTF-32? Save it as UTF-8" if 0 in content[:4] else ""
        raise ValueError(f"{path}: a zero byte in line {text.count(chr(10), 0, place) + 1}, expected {FORMATS}{wide}")
    return text


def _parquet(path: str, content: bytes) -> TextTable:
    try:
        table = _unpacked(path, pq.ParquetFile(io.BytesIO(content)))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not readable as Parquet ({first_line(error)})") from None

    def values(position: int) -> list[Any]:
        return _texts_of_bytes(path, names[position], table.column(position))

    names = tuple(map(str, table.schema.names))
    return TextTable(path, names, table.num_rows, values, "Parquet")


def _unpacked(path: str, file: pq.ParquetFile) -> pa.Table:
    """A Parquet file's table, in steps: a few bytes of it may stand for gigabytes, whatever its metadata say."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    files.check_size(path, sum(group.total_byte_size for group in groups), "unpacked")
    names, batches, size = file.schema_arrow.names, [], 0
    for batch in file.iter_batches(batch_size=ROWS):
        columns = [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in batch.columns]
        size += sum(one.nbytes for one in columns)
        files.check_size(path, size, "or more when unpacked")
        batches.append(pa.RecordBatch.from_arrays(columns, names=names))
    return pa.Table.from_batches(batches) if batches else file.schema_arrow.empty_table()


def _texts_of_bytes(path: str, name: str, column: pa.ChunkedArray) -> list[Any]:
    """A Parquet column's values; bytes are read as UTF-8."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())  # writers are trusted to have checked them, and some have not
    values = column.to_pylist()
    for row, value in enumerate(values, 1):
        if isinstance(value, bytes):
            try:
                values[row - 1] = value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}: column {name!r}, data row {row}: not UTF-8 text (byte {error.start} of it)"
                ) from None
    return values


def _json_rows(path: str, text: str, expected: bool) -> list[dict[str, Any]] | None:
    """The objects of JSON lines or of one JSON array; None where the text is no JSON and need not be."""
    start = text.lstrip()[:1]
    if start == "[":
        rows = _loaded(path, text, "", expected and not _list_in(text.lstrip().split("\n", 1)[0]))
        if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
            return rows
    elif start == "{":
        return _json_lines(path, text, expected)
    if expected and text.strip():
        raise ValueError(f"{path}: expected JSON lines, an object in each")
    return [] if expected else None


def _json_lines(path: str, text: str, expected: bool) -> list[dict[str, Any]] | None:
    """The objects of JSON lines; None where the first line is none and none is expected."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _loaded(path, line, f" in line {number}", expected or bool(rows))
        if row is None and not rows:
            return None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number}: expected a JSON object, got {_kind(row)}")
        rows.append(row)
    if len(rows) == 1 and _holds_rows(rows[0]):
        raise ValueError(
            f"{path}: one object for the whole file ({', '.join(rows[0])}), expected one for each row: "
            "JSON lines, or an array of objects"
        )
    return rows


def _holds_rows(row: dict[str, Any]) -> bool:
    """Whether an object is a whole table: lists or objects alone, or a list of objects among its values."""
    values = row.values()
    if any(isinstance(value, list) and value and all(isinstance(one, dict) for one in value) for value in values):
        return True
    return bool(row) and all(isinstance(value, list | dict) for value in values)


def _loaded(path: str, text: str, where: str, expected: bool) -> Any:
    """What a JSON text holds; None where it holds none and none is expected."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if not expected:
            return None
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        lines = ", expected a whole object in each line" if where and text.strip() == "{" else ""
        raise ValueError(f"{path}: not readable as JSON{where}{lines} ({reason})") from None


def _list_in(line: str) -> bool:
    """Whether a line is a JSON list by itself."""
    try:
        return isinstance(json.loads(line), list)
    except (ValueError, RecursionError):
        return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    for name, value in pairs:
        try:
            f"{name}{value if isinstance(value, str) else ''}".encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name!r} holds half a surrogate pair, which is no sign") from None
    return named


def _of_json(path: str, rows: list[dict[str, Any]]) -> TextTable:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return TextTable(path, names, len(rows), lambda i: [row.get(names[i]) for row in rows], "JSON lines")


def _kind(value: Any) -> str:
    """What a value is, for messages."""
    kinds = {list: "a list", dict: "an object", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _of_records(path: str, names: tuple[str, ...], rows: list[list[str]], form: str) -> TextTable:
    return TextTable(path, names, len(rows), lambda i: [row[i] for row in rows], form)


class _Misread(Exception):
    """Text that does not parse under one assumption of how it is delimited; the message says where and why."""


@dataclass(frozen=True)
class _Delimited:
    """Text with a separator, which has to be found; arguments as `open_table`."""

    path: str
    text: str
    wanted: tuple[str, ...]
    label: str
    columns: tuple[str, ...]

    def table(self, tabs_first: bool, packed: str) -> TextTable:
        """The table: of the separators that make sense of the first line, the first that makes sense of all."""
        if not self.text.replace('"', "").strip():
            raise ValueError(f"{self.path}: the file is empty")
        separators = sorted(SEPARATORS, key=lambda one: one != "\t") if tabs_first else list(SEPARATORS)
        firsts = {one: self._first(one) for one in separators}
        separators.sort(key=lambda one: len(firsts[one]) == 1)  # what does not occur there comes last
        fit = [one for one in separators if self._fits(firsts[one])]
        if not fit:
            raise self._unfit(max(firsts, key=lambda one: len(firsts[one])), firsts)
        problems = []
        for separator in fit:
            try:
                records, said = self._records(separator)
            except _Misread as error:
                problems.append(str(error))
                continue
            names = self.columns or tuple(name.strip() for name in records[0])
            rows = records if self.columns else records[1:]
            form = f"text with {SEPARATORS[separator]}" if len(names) > 1 else "text of one column"
            return _of_records(self.path, names, rows, form + packed + said)
        raise ValueError(f"{self.path}: {problems[0]}")

    def _first(self, separator: str) -> list[str]:
        """The first record that is not blank; blanks behind a separator are no part of its fields."""
        with _long_fields():
            records = csv.reader(io.StringIO(self.text, newline=""), delimiter=separator, skipinitialspace=True)
            try:
                return next((row for row in records if any(field.strip() for field in row)), [])
            except csv.Error:
                return []

    def _fits(self, first: list[str]) -> bool:
        if self.columns:
            return len(first) == len(self.columns)
        return {name.strip() for name in first} >= set(self.wanted)

    def _unfit(self, separator: str, firsts: dict[str, list[str]]) -> ValueError:
        """Why no separator makes sense of the first line."""
        first, between = firsts[separator], SEPARATORS[separator]
        if self.columns:
            given = f"--columns names {len(self.columns)} ({', '.join(self.columns)})"
            return ValueError(f"{self.path}: its first row has {len(first)} fields between {between}, {given}")
        names = [name.strip() for name in first]
        lacking = next(name for name in self.wanted if name not in names)
        known = nearest(lacking, [_short(name) for name in names])
        hint = f"; {between} separate them" if len(first) > 1 and separator != "," else ""
        if "did you mean" not in known:
            hint += "; no header? use --columns text,label (all its columns, in their order)"
        return ValueError(f"{self.path}: no column {lacking!r}{known}{hint}")

    def _records(self, separator: str) -> tuple[list[list[str]], str]:
        """All records under a separator, the header among them, and what is to be said of their quotes.

        Quotes are read as CSV has them; between tabs only where all fields that hold a quote are quoted properly.
        """
        if separator == "\t":
            try:
                plain = self._checked(self._plain(separator))
            except _Misread as misread:
                try:
                    return self._quoted(separator), ", quotes around fields"
                except _Misread:
                    raise misread from None
            return self._between_tabs(plain)
        try:
            records = self._quoted(separator)
        except _Misread:
            if '\\"' in self.text:
                with contextlib.suppress(_Misread):
                    return self._quoted(separator, backslash=True), _BACKSLASHES
            if f'{separator} "' in self.text:
                with contextlib.suppress(_Misread):
                    return self._quoted(separator, blanks=True), _BLANKS
            raise
        if self._blanks_before_quotes(records):
            with contextlib.suppress(_Misread):
                return self._quoted(separator, blanks=True), _BLANKS
        return records, ""

    def _blanks_before_quotes(self, records: list[list[str]]) -> bool:
        """Whether every value of some column is a blank and a text in quotes, which CSV takes for text."""
        rows = records if self.columns else records[1:]
        columns = zip(*rows, strict=True)
        return any(all(field[:1] == " " and _enclosed(field.strip(), '""') for field in column) for column in columns)

    def _between_tabs(self, plain: list[list[str]]) -> tuple[list[list[str]], str]:
        """`_records` of lines that tabs cut into rows of one width: their quotes enclose fields, or are text."""
        holding = [field for record in plain for field in record if '"' in field]
        for escape, said in {'""': ", quotes around fields", '\\"': _BACKSLASHES}.items():
            enclosing = bool(holding) and all(_enclosed(field, escape) for field in holding)
            if enclosing and (self._one_column_quoted(plain) or any(escape in field[1:-1] for field in holding)):
                return self._quoted("\t", backslash=said == _BACKSLASHES), said
        whole = sum(_enclosed(field, '""') for field in holding)
        return plain, f"; quotes are text, also around {whole:,} whole fields" if whole else ""

    def _one_column_quoted(self, records: list[list[str]]) -> bool:
        """Whether some column has every field in quotes, its name or not."""
        rows = records if self.columns else records[1:]
        return any(all(field[:1] == '"' for field in column) for column in zip(*rows, strict=True))

    def _plain(self, separator: str) -> Iterator[tuple[int, list[str]]]:
        """(line number, fields) of each line that is not blank; quotes are text."""
        ends = "\n" if "\n" in self.text else "\r"
        for number, line in enumerate(self.text.split(ends), 1):
            if line.strip():
                yield number, line.removesuffix("\r").split(separator)

    def _quoted(self, separator: str, backslash: bool = False, blanks: bool = False) -> list[list[str]]:
        records = self._checked(self._parsed(separator, backslash, blanks))
        self._refuse_swallowed(records, separator)
        if blanks and any(_LINE_END.search(field) for record in records for field in record):
            raise _Misread("a field of several lines: its quote may be text")
        return records

    def _parsed(self, separator: str, backslash: bool, blanks: bool) -> Iterator[tuple[int, list[str]]]:
        """(line number, fields) of each record that is not blank; quotes enclose fields.

        Args:
            separator: between fields.
            backslash: whether one escapes a quote.
            blanks: whether those behind a separator are no part of a field.
        """
        text = self.text
        if backslash:  # a quote is doubled in CSV; other backslashes are text
            text = re.sub(r'\\(["\\])', lambda escaped: '""' if escaped[1] == '"' else "\\", text)
        begins, number = 1, 1 if self.columns else 0
        with _long_fields():
            reader = csv.reader(
                io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=blanks
            )
            try:
                for record in reader:
                    if any(field.strip() for field in record) or (len(record) > 1 and number):  # none above a header
                        yield begins, record
                        number += 1
                    begins = reader.line_num + 1
            except csv.Error as error:
                raise _Misread(f"{_row(number)} (line {begins}): {self._why(error, separator)}") from None

    def _why(self, error: csv.Error, separator: str) -> str:
        """What is wrong with a record's quotes."""
        if "unexpected end" in str(error):
            why = "a quote opens there and does not close"
        elif "expected after" in str(error):
            why = f"a quote opens there and closes before something else than {SEPARATORS[separator][:-1]} or line end"
        else:
            why = str(error)
        escapes = ' (it holds \\", a quote in CSV is doubled: "")' if '\\"' in self.text else ""
        return f'{why}; quote texts that hold a quote, as in "said ""no"""{escapes}'

    def _checked(self, records: Iterator[tuple[int, list[str]]]) -> list[list[str]]:
        """The records, of one width."""
        checked: list[list[str]] = []
        for line, record in records:
            if checked and len(record) != len(checked[0]):
                number, wide = len(checked) + bool(self.columns), len(record) > len(checked[0])
                hint = "; quote texts that hold the separator" if wide else ""
                hint += " (a backslash before it does not)" if wide and re.search(r"\\[,;|\t]", self.text) else ""
                raise _Misread(
                    f"{_row(number)} (line {line}) has {len(record)} fields, expected {len(checked[0])}{hint}"
                )
            checked.append(record)
        if self.columns and [field.strip() for field in checked[0]] == list(self.columns):
            raise _Misread(f"its first row is {', '.join(self.columns)}: leave --columns out")
        return checked

    def _refuse_swallowed(self, records: list[list[str]], separator: str) -> None:
        """Refuse a quoted field of several lines that reads like several rows.

        The label gives them away, known ones and few; where none is named, numbers that each stand in a column once.
        """
        names = self.columns or tuple(name.strip() for name in records[0])
        rows = records if self.columns else records[1:]
        if len(names) == 1 or not rows:
            return
        if self.label in names:
            tales = {names.index(self.label): _known_labels(rows, names.index(self.label))}
        else:
            columns = {place: [row[place].strip() for row in rows] for place in range(len(names))}
            tales = {place: _unknown_numbers(values) for place, values in columns.items() if _ids(values)}
        for number, row in enumerate(rows, 1):
            for position, field in enumerate(row):
                if "\n" not in field and "\r" not in field:
                    continue
                lines = [line.split(separator) for line in _LINE_END.split(field)]
                if any(tell(_values_within(lines, position, place, len(names))) for place, tell in tales.items()):
                    raise _Misread(
                        f"{_row(number)}: a quote opens there and closes {len(lines) - 1} lines further on, and what "
                        "is between reads like rows of their own; double a quote that is text"
                    )


def _known_labels(rows: list[list[str]], place: int) -> Callable[[list[str]], bool]:
    """What tells whether the values in a field's lines are labels of rows."""
    labels = {row[place].strip() for row in rows}

    def tell(within: list[str]) -> bool:
        known = sum(label in labels for label in within)
        most = len(within) > len(rows) and 2 * len(set(within)) <= len(within)  # few are left to know any by
        return bool(within) and (2 * known >= len(within) or most)

    return tell


def _ids(values: list[str]) -> bool:
    """Whether a column's values are numbers, each once."""
    return len(set(values)) == len(values) and all(value.isdecimal() for value in values)


def _unknown_numbers(values: list[str]) -> Callable[[list[str]], bool]:
    """What tells whether the values in a field's lines are further numbers of a column, two or more."""
    known = set(values)

    def tell(within: list[str]) -> bool:
        return len(within) > 1 and all(value.isdecimal() and value not in known for value in within)

    return tell


def _values_within(lines: list[list[str]], position: int, place: int, width: int) -> list[str]:
    """A column's values in a field's lines, if those could be (the end, the whole, ..., the beginning of) rows.

    Args:
        lines: their fields.
        position: of the field in its row.
        place: of the column in a row.
        width: fields of a row.
    """
    first, *middle, last = lines
    if len(first) != width - position or len(last) != position + 1 or any(len(line) != width for line in middle):
        return []
    values = [first[place - position]] if place >= position else []
    values += [line[place] for line in middle]
    values += [last[place]] if place < position else []
    return [value.strip() for value in values]


def _enclosed(field: str, escape: str) -> bool:
    """Whether quotes enclose a field, and those inside it are escaped."""
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace(escape, "")


def _row(number: int) -> str:
    """A record by its number, 0 being the header."""
    return f"data row {number}" if number else "the header"


def _short(name: str) -> str:
    """A would-be column name, which may be a whole text, for a message."""
    return name if len(name) <= 40 else name[:39] + "…"


def check_filled(path: str, values: Sequence[Any], lacking: str) -> None:
    """Raise ValueError if something is missing in some rows.

    Args:
        path: the file.
        values: one a row.
        lacking: what such a row has or lacks, in words.
    """
    if empty := [row for row, value in enumerate(values, 1) if missing(value)]:
        rows = f"{len(empty):,} rows" if len(empty) > 1 else "1 row"
        raise ValueError(f"{path}: {rows} {lacking}, the first is data row {empty[0]}; take such rows out")


def missing(value: Any) -> bool:
    """Whether a table has nothing there: None, NaN, or blank text."""
    if isinstance(value, str):
        return not any(sign.isprintable() and not sign.isspace() for sign in value)
    return value is None or (isinstance(value, float) and math.isnan(value))


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Fields of any length: csv refuses those beyond 131,072 characters, a setting of the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
