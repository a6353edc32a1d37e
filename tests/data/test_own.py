"""The user's own files: what becomes of their rows and labels, and one line for each mistake."""

import json
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kdnb.data import own
from kdnb.data.splits import AS_PROFILE, Rows, make

ROWS = [(f"sentence number {i}", "good" if i % 2 else "bad") for i in range(20)]


def write(path, rows=ROWS, columns=("sentence", "mood")):
    table = pd.DataFrame(rows, columns=columns)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return str(path)


def read(path, **options):
    """The task and its examples."""
    examples = own.read(own.OwnData(path=str(path), **{"text": "sentence", "label": "mood", **options}))
    return examples.task, examples.table


def notes(path, **options):
    """What is told of the files, in one text."""
    return "\n".join(own.read(own.OwnData(path=str(path), **{"text": "sentence", "label": "mood", **options})).notes)


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


def test_a_rare_class_with_a_name_like_another_s_is_asked_about(tmp_path):
    rows = [(f"text {i}", ("pos", "neg")[i % 2]) for i in range(199)]
    told = notes(write(tmp_path / "a.csv", [*rows, ("a slip", "postive")]))
    assert "class 'postive' has 1 row: a misspelling of 'pos'?" in told
    assert "in train alone, for want of 3 different texts: postive (1 row)" in told
    held = {split: write(tmp_path / f"{split}.csv", rows[:9]) for split in ("validation", "test")}
    told = notes(write(tmp_path / "b.csv", [*rows, ("one", "negg"), ("two", "negg")]), **held)
    assert "class 'negg' has 2 rows: a misspelling of 'neg'?" in told


@pytest.mark.parametrize("others", [
    ["negg"] * 3, ["sad"], [f"neg{i}" for i in range(21)],  # enough rows; another word; the names of many classes
])  # fmt: skip
def test_a_class_of_its_own_is_not_asked_about(tmp_path, others):
    rows = [(f"text {i}", ("pos", "neg")[i % 2]) for i in range(60)]
    assert "misspelling" not in notes(
        write(tmp_path / "a.csv", [*rows, *((f"x {i}", one) for i, one in enumerate(others))])
    )


def test_a_rare_number_is_not_asked_about(tmp_path):
    rows = [(f"text {i}", (10, 20)[i % 2]) for i in range(60)]
    assert "misspelling" not in notes(write(tmp_path / "a.csv", [*rows, ("x", 100)]))


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
    assert f"(byte {place}) in line 9;" in refused(path)


def test_one_class(tmp_path):
    path = write(tmp_path / "moods.csv", [(text, "good") for text, _ in ROWS])
    assert refused(path) == f"{path}: column 'mood' has one class only ('good'), expected two or more"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("empty", ["", "  "])
def test_rows_with_empty_text(tmp_path, suffix, empty):
    rows = [*ROWS[:4], (empty, "good"), *ROWS[5:8], (empty, "bad"), *ROWS[9:]]
    path = write(tmp_path / f"moods{suffix}", rows)
    assert refused(path) == (
        f"{path}: 2 rows with nothing in column 'sentence', the first is data row 5; take such rows out"
    )


def test_missing_text_in_parquet(tmp_path):
    path = write(tmp_path / "moods.parquet", [(None, "good"), *ROWS])
    assert refused(path) == (
        f"{path}: 1 row with nothing in column 'sentence', the first is data row 1; take such rows out"
    )


def test_an_empty_second_text(tmp_path):
    rows = [(text, "" if i == 2 else "other", mood) for i, (text, mood) in enumerate(ROWS)]
    path = write(tmp_path / "moods.csv", rows, ("sentence", "other", "mood"))
    assert "1 row with nothing in column 'other', the first is data row 3;" in refused(path, text2="other")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_missing_label(tmp_path, suffix):
    path = write(tmp_path / f"moods{suffix}", [*ROWS[:6], ("no mood", None), ("nor here", None), *ROWS[8:]])
    assert refused(path) == (
        f"{path}: 2 rows with nothing in column 'mood', the first is data row 7; take such rows out"
    )


def test_a_label_that_training_never_saw(tmp_path):
    path = write(tmp_path / "train.csv")
    valid = write(tmp_path / "valid.csv", [ROWS[0], ROWS[1], ("odd one", "ugly")])
    assert refused(path, validation=valid) == (
        f"{valid}: column 'mood', data row 3: label 'ugly' is none of the train rows' (bad, good)"
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_no_rows(tmp_path, suffix):
    path = write(tmp_path / f"moods{suffix}", [])
    assert refused(path) == f"{path}: no rows"


def test_an_empty_file(tmp_path):
    path = tmp_path / "moods.csv"
    path.write_bytes(b"")
    assert refused(path) == f"{path}: the file is empty"


def test_no_such_file(tmp_path):
    assert refused(tmp_path / "moods.csv") == f"{tmp_path}/moods.csv: no such file"
    assert refused(write(tmp_path / "a.csv"), test=str(tmp_path / "b.csv")) == f"{tmp_path}/b.csv: no such file"


def test_a_parquet_file_that_is_cut_short(tmp_path):
    path = tmp_path / "moods.parquet"
    path.write_bytes(Path(write(path)).read_bytes()[:200])
    assert refused(path).startswith(f"{path}: not readable as Parquet")


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
    told = "2 classes in 3 rows; is it the label? If so, more rows are needed"
    assert told.replace("3", str(count)) in refused(path)


def test_six_rows_are_enough_to_cut(tmp_path):
    _, table = read(write(tmp_path / "moods.csv", ROWS[:6]))
    assert table.split.value_counts().to_dict() == {"train": 2, "validation": 2, "test": 2}
    assert all(set(part.label) == {0, 1} for _, part in table.groupby("split"))


def sizes(table):
    """(split, class) -> rows."""
    return table.groupby(["split", "label"]).size().to_dict()


@pytest.mark.slow
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(1, 3))
def test_a_class_of_three_texts_is_in_every_split_and_a_smaller_one_in_train(counts, copies):
    """Every row is in one split, and equal texts together, however often each stands there."""
    assume(max(counts) > 2 and len(counts) <= sum(counts) * copies / 2)
    rows = [(f"text {i} of {k}", f"class {k}") for k, count in enumerate(counts) for i in range(count)] * copies
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "moods.csv", rows)
        task, table = read(path)
        lines = notes(path)
    assert len(table) == len(rows)
    assert table.groupby("text").split.nunique().max() == 1
    for k, name in enumerate(task.labels):
        count, splits = counts[int(name.split()[1])], set(table[table.label == k].split)
        assert splits == ({"train", "validation", "test"} if count > 2 else {"train"})
        rows_of = f"{count * copies} row{'s' * (count * copies != 1)}"
        assert (f"{name} ({rows_of})" in lines) == (count <= 2)
    assert "misspelling" not in lines  # names that differ by their numbers


def test_the_cut_keeps_the_classes_shares(tmp_path):
    rows = [(f"text {i}", "rare" if i % 10 == 0 else "common") for i in range(200)]
    _, table = read(write(tmp_path / "moods.csv", rows))
    held = {"common": 27, "rare": 3}  # 15 % of 180 and of 20
    assert sizes(table) == {
        (split, k): (count if split != "train" else {"common": 126, "rare": 14}[name])
        for split in ("train", "validation", "test")
        for k, (name, count) in enumerate(held.items())
    }


def test_equal_texts_are_counted_and_so_are_those_with_two_labels(tmp_path):
    rows = [*ROWS, *ROWS[:4], ("Sentence  number 0", "good")]  # case and blanks make no other text
    lines = notes(write(tmp_path / "moods.csv", rows))
    assert "5 of 25 rows repeat an earlier row's text; equal texts stay in one split" in lines
    assert "1 different texts have more than one label" in lines


@pytest.mark.parametrize("other", ["caf\u0065\u0301 {}", "café\u200b {}", "CAFÉ\u00a0{}", "ｃａｆé {}"])
def test_texts_that_look_the_same_are_equal(tmp_path, other):
    rows = [(text.format(i), "good" if i % 2 else "bad") for text in ("café {}", other) for i in range(20)]
    path = write(tmp_path / "moods.csv", rows)
    assert "20 of 40 rows repeat an earlier row's text" in notes(path)
    table = read(path)[1]
    assert table.groupby(table.text.str[-2:].str.strip()).split.nunique().max() == 1


def test_a_class_without_a_text_of_its_own_is_not_called_one_in_train_alone(tmp_path):
    rows = [(f"text {i}", mood) for mood in ("good", "bad") for i in range(20)]
    assert "in train alone" not in notes(write(tmp_path / "moods.csv", rows))


@pytest.mark.parametrize("quotes", ['""', "''", "“”", "«»"])
def test_quotes_that_are_part_of_every_value_are_told(tmp_path, quotes):
    first, last = quotes
    rows = [(f"{first}text {i}{last}", f" {first}{i % 2}{last}") for i in range(20)]
    told = notes(write(tmp_path / "moods.parquet", rows))
    for column in ("sentence", "mood"):
        assert f"column {column!r}: every value stands in quotes, {quotes}, which are read as part of it" in told
    rows[3] = ("text", rows[3][1])
    assert "column 'sentence'" not in notes(write(tmp_path / "moods.parquet", rows))


def test_test_texts_that_train_has_are_counted(tmp_path):
    test = write(tmp_path / "test.csv", [*ROWS[:3], ("another", "good")])
    assert "3 of 4 test texts are in train as well" in notes(write(tmp_path / "moods.csv"), test=test)


def test_one_text_alone_cannot_be_cut(tmp_path):
    path = write(tmp_path / "moods.csv", [("yes", "good"), ("no", "bad")] * 10)
    assert "no class has 3 different texts" in refused(path)


LABELS = {
    "stars": ("5 1 3 2 4", "1 2 3 4 5"),
    "below 0": ("1 -1 0", "-1 0 1"),
    "a number left out": ("2 0", "0 2"),
    "codes": ("01 00", "00 01"),
    "other digits": ("１ ０", "０ １"),
    "decimals": ("0.5 -2.5 10", "-2.5 0.5 10"),
    "names and numbers": ("b 10 9", "10 9 b"),
    "truth values": ("True False", "False True"),
    "words for nothing": ("none NA null", "NA none null"),
}


@pytest.mark.parametrize(("given", "named"), LABELS.values(), ids=LABELS)
def test_labels_of_any_kind_are_classes_of_those_names(tmp_path, given, named):
    given = given.split()
    rows = [(f"text {i}", given[i % len(given)]) for i in range(30)]
    assert read(write(tmp_path / "moods.csv", rows))[0].labels == tuple(named.split())


SPELLINGS = {
    "numbers": (["1", "1.0", "1", "2"], ("1", "2")),
    "zeros in front": (["7", "007", "7", "8"], ("7", "8")),
    "exponents": (["1e3", "1000", "1000", "5"], ("5", "1000")),
    "digits": (["1", "１", "1", "0"], ("0", "1")),
    "case": (["pos", "Pos", "pos", "neg"], ("neg", "pos")),
    "blanks": (["pos", " pos ", "pos", "neg"], ("neg", "pos")),
    "signs that are not seen": (["pos", "pos\u200b", "pos", "neg"], ("neg", "pos")),
    "blanks within": (["so so", "so  so", "so so", "no"], ("no", "so so")),
}


@pytest.mark.parametrize(("given", "named"), SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_of_one_class_are_one_aloud(tmp_path, given, named):
    path = write(tmp_path / "moods.csv", [(f"text {i}", given[i % 4]) for i in range(40)])
    assert read(path)[0].labels == named
    told = f"one class, {given[0]!r}: {given[0]!r} in 20 rows, {given[1]!r} in 10 rows"
    other = f"one class, {given[2]!r}: {given[2]!r} in 20 rows, {given[0]!r} in 10 rows"
    assert told in notes(path) or other in notes(path)


def test_a_test_file_may_spell_a_class_its_own_way(tmp_path):
    train = write(tmp_path / "moods.csv", [(f"text {i}", i % 2) for i in range(20)])
    test = write(tmp_path / "test.parquet", [(f"new {i}", float(i % 2)) for i in range(4)])
    _, table = read(train, test=test)
    assert table[table.split == "test"].label.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("value", [["joy"], {"joy": 1}, []])
def test_several_labels_in_a_row_are_refused(tmp_path, value):
    path = tmp_path / "moods.jsonl"
    rows = [{"sentence": f"text {i}", "mood": value if i == 3 else "joy"} for i in range(9)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    what = "an object" if isinstance(value, dict) else "a list"
    assert refused(path).startswith(f"{path}: column 'mood', data row 4: expected one label a row, got {what}")


def test_lists_of_labels_in_parquet_and_as_text(tmp_path):
    rows = [(f"text {i}", ["anger", "joy"][: 1 + i % 2]) for i in range(12)]
    path = write(tmp_path / "moods.parquet", rows)
    assert "data row 1: expected one label a row, got a list (['anger'])" in refused(path)
    assert "expected one label a row, got a list (['anger'])" in refused(write(tmp_path / "moods.csv", rows))


SEVERAL = {
    "a list among names": (["joy", "['joy', 'anger']", "anger"], "data row 2: expected one label a row, got a list"),
    "one in a list": (["joy", '["joy"]', "anger"], "data row 2: expected one label a row, got a list"),
    "tuples": (["('joy', 'anger')", "('joy',)"], "data row 1: expected one label a row, got a list"),
    "sets": (["{'joy'}", "{'anger'}"], "data row 1: expected one label a row, got a list"),
    "objects": (['{"joy": 1}', '{"anger": 1}'], "data row 1: expected one label a row, got an object"),
    "numpy's": (["[1 0]", "[0 1]"], "data row 1: expected one label a row, got a list"),
    "names in brackets": (["[joy]", "(anger)", "{fear}", "(1)"], ""),
}


@pytest.mark.parametrize(("labels", "told"), SEVERAL.values(), ids=SEVERAL)
def test_several_labels_written_as_text(tmp_path, labels, told):
    path = write(tmp_path / "moods.csv", [(f"text {i}", labels[i % len(labels)]) for i in range(36)])
    if told:
        assert told in refused(path)
    else:
        assert set(read(path)[0].labels) == set(labels)


@pytest.mark.parametrize("joint", [",", ", ", "|", "/", " & "])
def test_labels_of_several_classes_are_told(tmp_path, joint):
    rows = [(f"text {i}", ["joy", "anger", f"joy{joint}anger"][i % 3]) for i in range(36)]
    path = write(tmp_path / "moods.csv", rows)
    assert f"12 rows have several classes in their label, as in 'joy{joint}anger'" in notes(path)
    assert read(path)[0].labels == ("anger", "joy", f"joy{joint}anger")
    assert "several classes" not in notes(write(tmp_path / "x.csv", [(t, f"{m}/or so") for t, m in ROWS]))


def test_a_files_long_name_is_cut_in_the_tasks(tmp_path):
    task, _ = read(write(tmp_path / f"{'m' * 240}.csv"))
    assert task.name == f"own:{'m' * 180}"


def test_texts_that_no_model_can_read(tmp_path):
    path = tmp_path / "moods.jsonl"
    path.write_text('{"sentence": "half \\ud83d", "mood": 1}\n{"sentence": ["a"], "mood": 0}\n' * 3)
    assert "line 1 ('sentence' holds half a surrogate pair" in refused(path)
    path.write_text('{"sentence": ["a", "b"], "mood": 1}\n{"sentence": "c", "mood": 0}\n' * 3)
    assert "data row 1: expected one text a row, got a list" in refused(path)


def test_a_text_of_nothing_to_see_is_empty(tmp_path):
    path = write(tmp_path / "moods.csv", [*ROWS[:5], ("\u200b\ufeff", "good"), *ROWS[6:]])
    assert refused(path) == (
        f"{path}: 1 row with nothing in column 'sentence', the first is data row 6; take such rows out"
    )


def test_text_and_label_are_two_columns(tmp_path):
    path = write(tmp_path / "moods.csv")
    assert refused(path, text="mood") == f"{path}: column 'mood' cannot be both text and label"


def capped(path, profile="demo", rows=AS_PROFILE, **options):
    return own.load(own.OwnData(path=str(path), text="sentence", label="mood", **options), profile, rows)


def test_a_file_given_as_test_is_never_cut_unasked(tmp_path):
    train = write(tmp_path / "moods.csv")
    many = [(f"test {i}", "good" if i % 2 else "bad") for i in range(1000)]
    test = write(tmp_path / "test.csv", many)
    data = capped(train, test=test)
    assert data.splits["test"].text == [text for text, _ in many]
    data = capped(train, test=test, rows=Rows(test=100))
    assert (len(data.splits["test"]), data.available["test"]) == (100, 1000)


def test_a_cap_keeps_every_class_and_can_be_lifted(tmp_path):
    rows = [(f"text {i}", "rare" if i < 10 else "common") for i in range(2000)]
    path = write(tmp_path / "moods.csv", rows)
    data = capped(path)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 1000, "validation": 200, "test": 300}
    assert data.available == {"train": 1400, "validation": 300, "test": 300}
    assert all(set(part.labels) == {0, 1} for part in data.splits.values())
    lifted = capped(path, rows=Rows(train=0, validation=0, test=0))
    assert {split: len(part) for split, part in lifted.splits.items()} == data.available


def test_fewer_train_rows_than_classes(tmp_path):
    path = write(tmp_path / "moods.csv")
    with pytest.raises(ValueError, match="1 train rows are fewer than its 2 classes"):
        capped(path, rows=Rows(train=1))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_below_0_are_refused(split):
    with pytest.raises(ValueError, match=rf"^--{split}-rows must be >= 0 \(0 takes all\), got -5$"):
        Rows(**{split: -5})
