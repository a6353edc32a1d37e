"""Files of texts: told apart by what is in them, read to the last row or refused with the row."""

import gzip
import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdnb.data.table_files import open_table, read_table

ROWS = [(f"sentence number {i}", "good" if i % 2 else "bad") for i in range(12)]
NAMES = ("text", "label")


def lines(rows, separator=",", header=NAMES):
    return "\n".join(separator.join(row) for row in ([header, *rows] if header else rows)) + "\n"


def columns(path, names=NAMES, **options):
    table = open_table(str(path), names, names[-1], **options)
    return list(zip(*(table.column(name) for name in names), strict=True))


def form(path, **options):
    return open_table(str(path), NAMES, "label", **options).form


def refused(path, **options):
    """The message of the ValueError: one line that begins with the file."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        columns(path, **options)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


def parquet(path):
    pd.DataFrame(ROWS, columns=NAMES).to_parquet(path, index=False)
    return path.read_bytes()


CONTENTS = {
    "text with commas": lines(ROWS).encode(),
    "text with tabs": lines(ROWS, "\t").encode(),
    "text with semicolons": lines(ROWS, ";").encode(),
    "text with bars": lines(ROWS, "|").encode(),
    "text with commas, line ends of Windows": lines(ROWS).replace("\n", "\r\n").encode(),
    "text with tabs, line ends of old Macs": lines(ROWS, "\t").replace("\n", "\r").encode(),
    "text with commas, marked UTF-8": b"\xef\xbb\xbf" + lines(ROWS).encode(),
    "text with commas, marked twice": b"\xef\xbb\xbf" * 2 + lines(ROWS).encode(),
    "text with tabs, UTF-16": lines(ROWS, "\t").encode("utf-16"),
    "text with commas, blank lines": ("\n" + lines(ROWS).replace("3,good\n", "3,good\n\n") + "\n \n").encode(),
    "text with commas, an empty row first": (" ,\n" + lines(ROWS)).encode(),
    "text with tabs, blank lines": ("\n" + lines(ROWS, "\t") + "\n\n").encode(),
    "text with semicolons, as Excel marks it": ("sep=;\r\n" + lines(ROWS, ";")).encode(),
    "JSON lines": "\n".join(json.dumps(dict(zip(NAMES, row, strict=True))) for row in ROWS).encode(),
    "JSON lines, as one array": json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS], indent=1).encode(),
}


@pytest.mark.parametrize("name", ["data", "data.txt", "data.csv", "data.tsv", "data.parquet"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", CONTENTS)
def test_content_decides_whatever_the_file_is_called(tmp_path, name, packed, kind):
    path = tmp_path / name
    path.write_bytes(gzip.compress(CONTENTS[kind]) if packed else CONTENTS[kind])
    assert columns(path) == ROWS
    assert form(path) == kind.partition(",")[0] + (", gzipped" if packed else "")


@pytest.mark.parametrize("name", ["data.parquet", "data.csv", "data.parquet.gz"])
def test_parquet_too(tmp_path, name):
    path = tmp_path / name
    content = parquet(tmp_path / "made.parquet")
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert columns(path) == ROWS


CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('",;\t|\n\\'), min_size=1, max_size=9)


@pytest.mark.slow
@given(st.lists(st.tuples(CELLS.filter(str.strip), st.sampled_from(["x1", "x2"])), min_size=3, max_size=12))
def test_what_pandas_writes_as_csv_is_read_back(rows):
    """Or refused, where quoted lines read like rows: never read as something else."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        pd.DataFrame(rows, columns=NAMES).to_csv(file.name, index=False)
        try:
            read = columns(file.name)
        except ValueError:
            read = None
    assert read == rows or (read is None and any("\n" in text for text, _ in rows))


@pytest.mark.parametrize("quoting", ["minimal", "all", "text"])
def test_quoted_tsv_is_read_as_its_writer_meant_it(tmp_path, quoting):
    import csv

    rows = [*ROWS, ('he called it "a treat" twice', "good")]
    path = tmp_path / "moods.tsv"
    how = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL, "text": csv.QUOTE_NONNUMERIC}[quoting]
    pd.DataFrame(rows, columns=NAMES).to_csv(path, sep="\t", index=False, quoting=how)
    assert columns(path) == rows
    assert form(path) == "text with tabs, quotes around fields"


@pytest.mark.parametrize("odd", ['"open', 'say "no', '"a" and "b"', 'a 5" pipe', '"'])
def test_quotes_between_tabs_are_text_unless_all_are_quotes(tmp_path, odd):
    rows = [*ROWS, (odd, "good"), ('"whole"', "bad")]
    path = tmp_path / "moods.tsv"
    path.write_text(lines(rows, "\t"), encoding="utf-8")
    assert columns(path) == rows
    assert form(path) == "text with tabs; quotes are text, also around 1 whole fields"


def test_stray_quotes_that_swallow_rows_are_refused(tmp_path):
    path = tmp_path / "moods.csv"
    for first, second in [(3, 8), (3, 4), (0, 11)]:
        for place in ("begins", "ends"):
            rows = [*ROWS]
            rows[first] = ('"' + rows[first][0], rows[first][1])
            text = rows[second][0]
            rows[second] = (f'"{text}' if place == "begins" else f'{text}"', rows[second][1])
            path.write_text(lines(rows), encoding="utf-8")
            assert refused(path).startswith(f"data row {first + 1}")


def test_the_same_where_the_label_stands_first(tmp_path):
    path = tmp_path / "moods.csv"
    rows = [(label, text) for text, label in ROWS]
    rows[2], rows[5] = (rows[2][0], '"' + rows[2][1]), (rows[5][0], rows[5][1] + '"')
    path.write_text(lines(rows, header=("label", "text")), encoding="utf-8")
    assert refused(path).startswith("data row 3: a quote opens there and closes 3 lines further on")


def test_the_same_where_no_label_is_named(tmp_path):
    """Of new texts a column of row numbers gives it away; lines that only begin with numbers do not."""
    path = tmp_path / "new.csv"
    rows = [(str(i), f"text {i}") for i in range(20)]
    path.write_text(
        lines([*rows[:3], ("3", '"text 3'), *rows[4:9], ("9", 'text 9"'), *rows[10:]], header=("id", "text"))
    )
    with pytest.raises(ValueError, match=r"data row 4: a quote opens there and closes 6 lines further on"):
        open_table(str(path), ("text",))
    shopping = [("0", "to buy\n1, eggs\n2, milk"), ("1", "12, rue de la Paix\n75002, Paris"), *rows[2:]]
    pd.DataFrame(shopping, columns=["id", "text"]).to_csv(path, index=False)
    assert open_table(str(path), ("text",)).column("text")[:2] == [text for _, text in shopping[:2]]


def test_a_quoted_text_of_several_lines_is_a_text(tmp_path):
    rows = [("Dear Sir,\nyours, truly,\nme", "good"), ("one\n\ntwo", "bad"), *ROWS]
    path = tmp_path / "moods.csv"
    pd.DataFrame(rows, columns=NAMES).to_csv(path, index=False)
    assert columns(path) == rows


def test_a_quote_that_does_not_close(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_text(lines([*ROWS[:5], ('"open', "bad"), *ROWS[5:]]), encoding="utf-8")
    assert refused(path).startswith("data row 6 (line 7): a quote opens there and does not close")


def test_quotes_escaped_by_backslashes(tmp_path):
    path = tmp_path / "moods.csv"
    odd = [('"they said \\"well, no\\" and left"', "good"), ('"a path\\new, C:\\\\"', "bad")]
    path.write_text(lines([*odd, *ROWS]), encoding="utf-8")
    assert columns(path) == [('they said "well, no" and left', "good"), ("a path\\new, C:\\", "bad"), *ROWS]
    assert form(path) == "text with commas, quotes escaped by backslashes"


@pytest.mark.parametrize("also", ["name", "not the name"])
def test_the_same_between_tabs(tmp_path, also):
    rows = [('"they said \\"no\\""', "good"), *((f'"{text}"', label) for text, label in ROWS)]
    path = tmp_path / "moods.tsv"
    path.write_text(lines(rows, "\t", ('"text"' if also == "name" else "text", "label")), encoding="utf-8")
    assert columns(path) == [('they said "no"', "good"), *ROWS]
    assert form(path) == "text with tabs, quotes escaped by backslashes"


@pytest.mark.parametrize("header", [NAMES, ("text", ' "label"')])
def test_blanks_before_quotes(tmp_path, header):
    """Whether a quoted text holds the separator or not; blanks of texts without quotes stay."""
    path = tmp_path / "moods.csv"
    for more in ("", ", more"):
        rows = [(f'"{text}{more}"', f' "{label}"') for text, label in ROWS]
        path.write_text(lines(rows, header=header), encoding="utf-8")
        assert columns(path) == [(text + more, label) for text, label in ROWS]
        assert form(path) == "text with commas, blanks before quotes"
    rows = [(label, f' "{text}, more"') for text, label in ROWS]
    path.write_text(lines(rows, header=("label", "text")), encoding="utf-8")
    assert columns(path) == [(f"{text}, more", label) for text, label in ROWS]
    path.write_text(lines([(label, f" {text}") for text, label in ROWS], header=("label", "text")), encoding="utf-8")
    assert columns(path) == [(f" {text}", label) for text, label in ROWS]
    assert form(path) == "text with commas"


def test_quotes_behind_blanks_swallow_no_rows(tmp_path):
    path = tmp_path / "moods.csv"
    rows = [*ROWS[:3], ('they said, "no', "good"), *ROWS[3:6], ('and then, yes"', "bad"), *ROWS[6:]]
    for last in (rows, [*rows[:7], ('and then yes"',), *rows[8:]]):
        path.write_text(lines(last), encoding="utf-8")
        assert refused(path).startswith("data row 4 (line 5) has 3 fields, expected 2")


def test_escapes_that_make_no_sense_are_named(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_text(lines([('"they said \\"well, no\\" and left', "good"), *ROWS]), encoding="utf-8")
    assert 'it holds \\", a quote in CSV is doubled: ""' in refused(path)


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("more", ["one more", ""])
def test_a_row_of_another_width_is_named(tmp_path, separator, more):
    rows = [*ROWS[:6], ("a text", "good", more) if more else ("a text",), *ROWS[6:]]
    path = tmp_path / "moods.csv"
    path.write_text(lines(rows, separator), encoding="utf-8")
    assert refused(path).startswith(f"data row 7 (line 8) has {len(rows[6])} fields, expected 2")


def test_a_separator_behind_a_backslash_is_named(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_text(lines([("well\\, no", "good"), *ROWS]), encoding="utf-8")
    assert refused(path).endswith("; quote texts that hold the separator (a backslash before it does not)")


def test_no_header(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_text(lines([("3", *row) for row in ROWS], header=None), encoding="utf-8")
    assert "no header? use --columns" in refused(path)
    assert columns(path, columns=("id", "text", "label")) == ROWS
    assert refused(path, columns=NAMES) == "its first row has 3 fields between commas, --columns names 2 (text, label)"


def test_the_layout_of_cola(tmp_path):
    """No header, a column that is mostly empty, quotes that are text."""
    path = tmp_path / "train.tsv"
    path.write_text(
        lines([("gj04", label, "*" * (i % 2), text + ' "') for i, (text, label) in enumerate(ROWS)], "\t", None)
    )
    assert columns(path, columns=("source", "label", "mark", "text")) == [(text + ' "', label) for text, label in ROWS]


def test_a_header_under_columns(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_text(lines(ROWS), encoding="utf-8")
    assert refused(path, columns=NAMES) == "its first row is text, label: leave --columns out"
    parquet(path)
    assert refused(path, columns=NAMES).startswith("--columns is for text without a header, got Parquet")


def test_a_column_that_is_not_there_is_named_beside_the_separator(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_text(lines(ROWS, ";", ("texts", "label")), encoding="utf-8")
    assert refused(path) == ("no column 'text'; did you mean 'texts'? (known: texts, label); semicolons separate them")


def test_two_columns_of_one_name(tmp_path):
    rows = [(*row, "x") for row in ROWS]
    path = tmp_path / "moods.csv"
    path.write_text(lines(rows, header=(*NAMES, "label")))
    assert refused(path) == "2 columns are named 'label'; rename all but one"
    path = tmp_path / "moods.jsonl"
    path.write_text('{"text": "a", "label": 1, "label": 2}\n')
    assert "'label' stands twice in one object" in refused(path)
    path = tmp_path / "moods.parquet"
    pq.write_table(pa.table([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["text", "label", "label"]), path)
    assert refused(path) == "2 columns are named 'label'; rename all but one"


def test_names_that_are_numbers(tmp_path):
    path = tmp_path / "moods.parquet"
    pd.DataFrame(ROWS).to_parquet(path)
    assert columns(path, ("0", "1")) == ROWS


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.string()])
def test_parquet_bytes_are_read_as_utf_8_or_named(tmp_path, kind):
    path = tmp_path / "moods.parquet"
    texts = pa.array([text.encode() for text, _ in ROWS])
    pq.write_table(pa.table({"text": texts.cast(kind), "label": [label for _, label in ROWS]}), path)
    assert columns(path) == ROWS
    broken = pa.array([b"fine", "caf\xe9".encode("latin-1")])
    as_text = pa.Array.from_buffers(kind, 2, broken.buffers()) if kind == pa.string() else broken.cast(kind)
    pq.write_table(pa.table({"text": as_text, "label": [0, 1]}), path)
    assert refused(path) == "column 'text', data row 2: not UTF-8 text (byte 3 of it)"


def test_dictionaries_and_numbers_in_parquet(tmp_path):
    path = tmp_path / "moods.parquet"
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["x", "y"]), "n": [1, 2]})
    frame.to_parquet(path)
    assert columns(path) == [("a", "x"), ("b", "y")]
    assert open_table(str(path)).column("n") == [1, 2]


JSON = {
    "a broken line": ('{"text": "a", "label": 1}\n{"text": "b", "label"\n', "not readable as JSON in line 2"),
    "a list among objects": ('{"text": "a", "label": 1}\n[1]\n', "line 2: expected a JSON object, got a list"),
    "null among objects": ('{"text": "a", "label": 1}\nnull\n', "line 2: expected a JSON object, got null"),
    "no such key": ('{"text": "a", "mood": 1}\n', "no column 'label'"),
    "lists in lines": ('["a", 1]\n["b", 0]\n', "expected JSON lines, an object in each"),
    "objects over several lines": (
        '{\n "text": "a",\n "label": 1\n}\n' * 2,
        "not readable as JSON in line 1, expected a",
    ),
    "columns": (
        '{"text": ["a", "b"], "label": [1, 0]}',
        "one object for the whole file (text, label), expected one for",
    ),
    "columns of pandas": ('{"text": {"0": "a"}, "label": {"0": 1}}', "one object for the whole file (text, label)"),
    "rows inside": (
        '{"version": 1, "data": [{"text": "a", "label": 1}]}',
        "one object for the whole file (version, data)",
    ),
}


@pytest.mark.parametrize(("content", "told"), JSON.values(), ids=JSON)
def test_json_lines_that_are_none(tmp_path, content, told):
    path = tmp_path / "moods.jsonl"
    path.write_text(content)
    assert refused(path).startswith(told)


def test_one_row_is_a_table(tmp_path):
    path = tmp_path / "moods.jsonl"
    path.write_text('{"text": "a", "label": 1, "more": {"b": [1]}, "tags": ["c", "d"]}')
    assert columns(path) == [("a", 1)]


def test_a_key_that_a_row_lacks_is_nothing(tmp_path):
    path = tmp_path / "moods.jsonl"
    path.write_text('{"text": "a", "label": 1}\n\n{"label": true}\n')
    assert columns(path) == [("a", 1), (None, True)]


OTHERS = {
    "Excel": (b"PK\x03\x04" + b"x" * 99, "an Excel or zip file, expected CSV, TSV, JSON lines or Parquet"),
    "cut gzip": (gzip.compress(lines(ROWS).encode())[:40], "not readable as gzip"),
    "gzip in gzip": (gzip.compress(gzip.compress(lines(ROWS).encode())), "a gzip file within a gzip file, expected"),
    "NumPy": (b"\x93NUMPY\x01\x00", "a NumPy array, expected"),
    "UTF-16 without its mark": (
        lines(ROWS).encode("utf-16-le"),
        "a zero byte in line 1, expected CSV, TSV, JSON lines or Parquet; UTF-16 or UTF-32? Save it as UTF-8",
    ),
    "UTF-32": (
        lines(ROWS).encode("utf-32"),
        "a zero byte in line 1, expected CSV, TSV, JSON lines or Parquet; UTF-16 or",
    ),
    "bytes": (b"text,label\na,\x00\n", "a zero byte in line 2"),
    "Latin-1": (lines(ROWS).replace("number 7", "caf\xe9").encode("latin-1"), "not UTF-8 text (byte "),
    "nothing": (b"", "the file is empty"),
    "quotes around nothing": (b'""\n" "\n', "the file is empty"),
    "blanks": (b"\n \n", "the file is empty"),
}


@pytest.mark.parametrize(("content", "told"), OTHERS.values(), ids=OTHERS)
def test_other_files_are_refused(tmp_path, content, told):
    path = tmp_path / "moods.csv"
    path.write_bytes(content)
    assert refused(path).startswith(told)


@pytest.mark.parametrize("path", ["s3://bucket/x.csv", "https://host/x.csv", "hf://datasets/x/y.parquet"])
def test_what_lies_elsewhere_is_refused(path):
    assert refused(path) == "expected a file on this machine, no address; fetch it first"


def test_folders_and_pipes_are_refused(tmp_path):
    assert refused(tmp_path) == "a folder, expected a file"
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == "no ordinary file, expected a file"
    assert refused(tmp_path / "none.csv") == "no such file"


def test_long_fields_and_the_limit_of_csv(tmp_path):
    import csv

    before, path = csv.field_size_limit(), tmp_path / "moods.csv"
    path.write_text(lines([("word " * 60_000, "good"), *ROWS]))
    assert len(columns(path)[0][0]) == 300_000
    assert csv.field_size_limit() == before


def test_one_column_of_texts(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text('text\n"one, two"\nthree, four\n')
    assert open_table(str(path), ("text",)).column("text") == ['"one, two"', "three, four"]
    path.write_text('text\n"one, two"\nthree\n')
    assert open_table(str(path), ("text",)).column("text") == ["one, two", "three"]


def test_a_whole_table(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_text(lines(ROWS))
    assert read_table(str(path)).equals(pd.DataFrame(ROWS, columns=NAMES))
