"""The user's own CSV, TSV and Parquet files: what is read, and one line for each mistake."""

from pathlib import Path

import pandas as pd
import pytest

from kdnb.data import own
from kdnb.data.splits import make

ROWS = [(f"sentence number {i}", "good" if i % 2 else "bad") for i in range(20)]


def write(path, rows=ROWS, columns=("sentence", "mood")):
    table = pd.DataFrame(rows, columns=columns)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return str(path)


def read(path, **options):
    return own.read(own.OwnData(path=str(path), **{"text": "sentence", "label": "mood", **options}))


def refused(path, **options):
    """The message of the ValueError: one line that begins with the file."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        read(path, **options)
    return str(error.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_three_formats_give_the_same_task(tmp_path, suffix):
    task, table = read(write(tmp_path / f"moods{suffix}"))
    assert (task.name, task.labels, task.pair) == ("own:moods", ("bad", "good"), False)
    assert sorted(zip(table.text, (task.labels[k] for k in table.label), strict=True)) == sorted(ROWS)
    assert table.split.value_counts().to_dict() == {"train": 14, "validation": 3, "test": 3}
    data = make(task, table, "demo")
    assert len(data.splits["train"]) == 14


def test_formats_agree_to_the_last_row(tmp_path):
    files = [write(tmp_path / f"moods{suffix}") for suffix in (".csv", ".tsv", ".parquet")]
    prints = {make(*read(file), "demo").fingerprint for file in files}
    assert len(prints) == 1


def test_commas_quotes_and_line_breaks_in_quoted_fields_are_text(tmp_path):
    rows = [('he said, "no"', "bad"), ("two\nlines", "good"), ("NA", "bad"), ("naïve, null", "good"), *ROWS]
    _, table = read(write(tmp_path / "moods.csv", rows))
    assert {row[0] for row in rows} == set(table.text)


def test_a_stray_quote_in_a_tsv_is_text(tmp_path):
    path = tmp_path / "moods.tsv"
    lines = ["sentence\tmood", '"open\tbad', 'say "no\tgood', *("\t".join(row) for row in ROWS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _, table = read(path)
    assert len(table) == len(ROWS) + 2
    assert {'"open', 'say "no'} <= set(table.text)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_bytes(b"\xef\xbb\xbf" + Path(write(path)).read_bytes())
    assert len(read(path)[1]) == 20


def test_pairs_and_files_for_each_split(tmp_path):
    columns = ("sentence", "other", "mood")
    rows = [(text, f"other {i}", mood) for i, (text, mood) in enumerate(ROWS)]
    parts = {"a": rows, "b": rows[:6], "c": rows[6:10]}
    train, valid, test = (write(tmp_path / f"{name}.csv", part, columns) for name, part in parts.items())
    task, table = read(train, text2="other", validation=valid, test=test)
    assert task.pair
    assert table.split.value_counts().to_dict() == {"train": 20, "validation": 6, "test": 4}
    assert table.text2[table.split == "test"].tolist() == [f"other {i}" for i in range(6, 10)]


def test_integer_labels_keep_their_order(tmp_path):
    rows = [(f"text {i}", i % 11) for i in range(44)]
    task, _ = read(write(tmp_path / "numbers.csv", rows))
    assert task.labels == tuple(map(str, range(11)))  # 10 after 9, not after 1


def test_the_cut_is_the_same_every_time_and_loses_no_row(tmp_path):
    path = write(tmp_path / "moods.csv")
    first, second = read(path)[1], read(path)[1]
    pd.testing.assert_frame_equal(first, second)
    assert sorted(first.text) == sorted(text for text, _ in ROWS)


def test_a_missing_column_gets_the_nearest_name(tmp_path):
    path = write(tmp_path / "moods.csv")
    assert refused(path, text="sentense") == (
        f"{path}: no column 'sentense'; did you mean 'sentence'? (known: sentence, mood)"
    )
    assert "no column 'polarity'" in refused(path, label="polarity")
    assert "no column 'second'" in refused(path, text2="second")


def test_a_missing_column_of_the_validation_file_names_that_file(tmp_path):
    path, other = write(tmp_path / "a.csv"), write(tmp_path / "b.csv", ROWS, ("sentence", "mod"))
    assert refused(path, validation=other).startswith(f"{other}: no column 'mood'; did you mean 'mod'?")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_file_that_is_not_utf_8(tmp_path, suffix):
    path = tmp_path / f"moods{suffix}"
    path.write_bytes(Path(write(path)).read_bytes().replace(b"number 7", b"num\xe9ro 7"))
    assert refused(path).startswith(f"{path}: not UTF-8 text (byte ")


def test_the_byte_named_is_where_utf_8_ends(tmp_path):
    path = tmp_path / "moods.csv"
    content = Path(write(path)).read_bytes()
    place = content.index(b"number 7")
    path.write_bytes(content.replace(b"number 7", b"\xe9umber 7"))
    assert f"(byte {place})" in refused(path)


def test_one_class(tmp_path):
    path = write(tmp_path / "moods.csv", [(text, "good") for text, _ in ROWS])
    assert refused(path) == f"{path}: column 'mood' has one class only ('good'), expected two or more"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("empty", ["", "  "])
def test_rows_with_empty_text(tmp_path, suffix, empty):
    rows = [*ROWS[:4], (empty, "good"), *ROWS[5:8], (empty, "bad"), *ROWS[9:]]
    path = write(tmp_path / f"moods{suffix}", rows)
    assert refused(path) == f"{path}: 2 rows with empty text, the first is data row 5"


def test_missing_text_in_parquet(tmp_path):
    path = write(tmp_path / "moods.parquet", [(None, "good"), *ROWS])
    assert refused(path) == f"{path}: 1 rows with empty text, the first is data row 1"


def test_an_empty_second_text(tmp_path):
    rows = [(text, "" if i == 2 else "other", mood) for i, (text, mood) in enumerate(ROWS)]
    path = write(tmp_path / "moods.csv", rows, ("sentence", "other", "mood"))
    assert refused(path, text2="other").endswith("data row 3")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_missing_label(tmp_path, suffix):
    path = write(tmp_path / f"moods{suffix}", [*ROWS[:6], ("no mood", None), *ROWS[7:]])
    assert refused(path) == f"{path}: no label in data row 7"


def test_labels_of_minus_1(tmp_path):
    path = write(tmp_path / "moods.csv", [(f"text {i}", (-1, 0, 1)[i % 3]) for i in range(12)])
    assert refused(path) == f"{path}: integer labels must be 0..K-1, got -1, 0, 1"


def test_labels_that_skip_a_number(tmp_path):
    path = write(tmp_path / "moods.csv", [(f"text {i}", (0, 2)[i % 2]) for i in range(12)])
    assert refused(path) == f"{path}: integer labels must be 0..K-1, got 0, 2"


def test_a_label_that_training_never_saw(tmp_path):
    path = write(tmp_path / "train.csv")
    valid = write(tmp_path / "valid.csv", [ROWS[0], ROWS[1], ("odd one", "ugly")])
    assert refused(path, validation=valid) == (f"{valid}: column 'mood', data row 3: label 'ugly' is none of bad, good")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_no_rows(tmp_path, suffix):
    path = write(tmp_path / f"moods{suffix}", [])
    assert refused(path) == f"{path}: no rows"


def test_an_empty_file(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_bytes(b"")
    assert refused(path).startswith(f"{path}: not readable as CSV")


def test_no_such_file(tmp_path):
    assert refused(tmp_path / "moods.csv") == f"{tmp_path}/moods.csv: no such file"
    assert refused(write(tmp_path / "a.csv"), test=str(tmp_path / "b.csv")) == f"{tmp_path}/b.csv: no such file"


def test_another_kind_of_file(tmp_path):
    assert refused(tmp_path / "moods.xlsx") == f"{tmp_path}/moods.xlsx: expected a .csv, .tsv or .parquet file"


def test_a_parquet_file_that_is_none(tmp_path):
    path = tmp_path / "moods.parquet"
    path.write_text("sentence,mood\na,good\n")
    assert refused(path).startswith(f"{path}: not readable as PARQUET")


@pytest.mark.parametrize("which", [slice(0, 20), slice(5, 6)])
def test_an_unquoted_comma_shifts_no_column(tmp_path, which):
    path = tmp_path / "moods.csv"
    odd = range(20)[which]
    lines = [f"{text}, really,{mood}" if i in odd else f"{text},{mood}" for i, (text, mood) in enumerate(ROWS)]
    path.write_text("sentence,mood\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert refused(path).startswith(f"{path}: ")


def test_text_given_as_the_label(tmp_path):
    path = write(tmp_path / "moods.csv")
    assert "has 20 classes in 20 rows; is it the label?" in refused(path, text="mood", label="sentence")


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_rows_to_cut(tmp_path, count):
    """Two of them would have to be held out: one row, or one class, would be left to train on."""
    path = write(tmp_path / "moods.csv", [*ROWS[:count]])
    assert refused(path).startswith(f"{path}: ")


def test_six_rows_are_enough_to_cut(tmp_path):
    _, table = read(write(tmp_path / "moods.csv", ROWS[:6]))
    assert table.split.value_counts().to_dict() == {"train": 4, "validation": 1, "test": 1}
    assert set(table[table.split == "train"].label) == {0, 1}
