"""A teacher from a file: every form and format gives the same logits, and what does not fit is refused by row."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from kdnb import files
from kdnb.catalog import Task
from kdnb.data import splits, teacher_table
from kdnb.data.splits import Split, TaskData

LABELS = ("neg", "pos", "so so")
POSTERIORS = np.array(
    [[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [0.0, 1.0, 0.0], [0.1, 0.8, 0.1]]
)  # of train rows 0, 2, 3, 4


def task_data(source="glue", pair=False):
    """Six train rows, two of validation, two of test."""
    task = Task(name="mine", title="mine", question="?", labels=LABELS, source=source, pair=pair)
    made = {}
    for name, rows in {"train": 6, "validation": 2, "test": 2}.items():
        texts = [f"{name} text {row}" for row in range(rows)]
        made[name] = Split(texts, [f"second {row}" for row in range(rows)] if pair else None, np.arange(rows) % 3)
    return TaskData(task, made, "f" * 16)


@pytest.fixture
def data():
    return task_data()


def columns(values=POSTERIORS, prefix="", order=LABELS):
    return {f"{prefix}{name}": values[:, LABELS.index(name)] for name in order}


ROWS = [0, 2, 3, 4]
IDS = {"id": ["0", "train:2", "3", "4"]}


def texts(rows=ROWS):
    return {"text": [f"train text {row}" for row in rows]}


def write(path, table):
    frame = pd.DataFrame(table) if path.suffix != ".npz" else None
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")), encoding="utf-8")
    else:
        np.savez(path, **{name: np.asarray(column) for name, column in table.items()})
    return str(path)


OBJECTS = [dict(zip(LABELS, map(float, row), strict=True)) for row in POSTERIORS]
WRITTEN = {  # file name -> table
    "ids.csv": IDS | columns(),
    "texts.csv": texts() | columns(),
    "other order.csv": IDS | columns(order=("so so", "neg", "pos")),
    "prefixed.csv": columns(prefix="p_") | IDS,
    "predicted.csv": texts()
    | {"entropy": [0.5] * 4}
    | {f"p({name})": POSTERIORS[:, i] for i, name in enumerate(LABELS)},
    "predicted.jsonl": texts() | {"prediction": ["neg"] * 4, "entropy": [0.5] * 4, "posterior": OBJECTS},
    "objects.jsonl": texts() | {"probabilities": OBJECTS},
    "objects as text.csv": IDS | {"probabilities": [json.dumps(one) for one in OBJECTS]},
    "typed.parquet": {"id": [0, 2, 3, 4]} | columns(),
    "objects.parquet": texts() | {"probabilities": OBJECTS},
    "arrays.npz": {"id": ["0", "2", "3", "4"], "probabilities": POSTERIORS[:, ::-1], "classes": LABELS[::-1]},
    "votes.csv": IDS | columns((20 * POSTERIORS).astype(int)),
    "blanks.csv": {"text": [f" train  text\t{row}\n" for row in ROWS]} | columns(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_form_of_a_file_says_the_same(tmp_path, data, name):
    table = teacher_table.read(write(tmp_path / name, WRITTEN[name]), data)
    logits = table.logits["train"]
    assert np.isnan(logits[[1, 5]]).all()
    powers = np.exp(logits[ROWS].astype(float))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), POSTERIORS, atol=1e-6)
    assert (table.rows, table.blank, table.unknown, table.rescaled) == (4, 0, 0, 0)
    assert np.isnan(table.logits["test"]).all()


def test_logits_are_logits(tmp_path, data):
    given = np.random.default_rng(0).normal(size=(4, 3)) * 5
    table = teacher_table.read(write(tmp_path / "z.csv", IDS | columns(given, prefix="logit_")), data)
    assert table.form == "logits"
    shift = table.logits["train"][ROWS] - given
    np.testing.assert_allclose(shift - shift[:, :1], 0, atol=1e-5)
    plain = teacher_table.read(write(tmp_path / "plain.csv", IDS | columns(given)), data)
    assert plain.form == "logits"
    np.testing.assert_array_equal(plain.logits["train"], table.logits["train"])


def test_probabilities_that_rounding_took_below_0_are_probabilities(tmp_path, data):
    values = np.array([[1 + 1e-7, 0, -1e-7], [0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
    table = teacher_table.read(write(tmp_path / "t.csv", IDS | columns(values)), data)
    assert table.form == "probabilities"
    np.testing.assert_allclose(np.exp(table.logits["train"][0]), [1, 0, 0], atol=1e-6)
    assert teacher_table.read(write(tmp_path / "z.csv", IDS | columns(values - [0.3, 0, -0.3])), data).form == "logits"


def test_ids_that_count_the_rows_of_a_split_are_of_that_split(tmp_path, data):
    rows = {"id": [0, 1, 0, "test:1"], "split": ["train", " train", "test", "train"]} | columns()
    table = teacher_table.read(write(tmp_path / "t.csv", rows), data)
    assert (table.unknown, table.ignored) == (0, ())
    for split, known in (("train", [0, 1]), ("test", [0, 1]), ("validation", [])):
        assert np.flatnonzero(~np.isnan(table.logits[split]).any(axis=1)).tolist() == known
    rows["split"] = ["train", "dev", "dev", "dev"]
    assert teacher_table.read(write(tmp_path / "t.csv", rows), data).unknown == 2


def test_logits_that_rule_every_class_out_are_no_answer(tmp_path, data):
    values = np.array([[-np.inf] * 3, [0, -np.inf, 1], [1, 2, 3], [1e308, -1e308, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = teacher_table.read(write(tmp_path / "t.csv", IDS | columns(values)), data)
    assert table.blank == 1
    assert np.isnan(table.logits["train"][0]).all()
    assert table.logits["train"][2, 1] <= -1e4
    assert table.logits["train"][4].argmax() == 0


def test_a_column_s_form_can_be_said(tmp_path, data):
    path = write(tmp_path / "z.csv", IDS | columns(POSTERIORS))
    table = teacher_table.read(path, data, "logits")
    np.testing.assert_allclose(table.logits["train"][0], POSTERIORS[0] - 0.7, atol=1e-6)


def test_rows_are_counted_and_said(tmp_path):
    """30 % of the train rows are missing and 5 % of the table's ids unknown: both numbers are told."""
    data = splits.load("rt", "toy")
    n, labels = len(data.splits["train"]), data.splits["train"].labels
    kept = np.random.default_rng(0).permutation(n)[: round(0.7 * n)]
    posteriors = np.where(np.eye(2)[labels[kept]] == 1, 0.8, 0.2)
    unknown = round(0.05 * len(kept))
    rows = {"id": [*kept, *range(n, n + unknown)]}
    rows |= {name: [*posteriors[:, k], *[0.5] * unknown] for k, name in enumerate(data.task.labels)}
    table = teacher_table.read(write(tmp_path / "t.csv", rows), data)
    told = "\n".join(teacher_table.told(table, data))
    missing = n - len(kept)
    assert table.unknown == unknown > 1
    assert f"{unknown} ({100 * unknown / (len(kept) + unknown):.1f} %) of its rows name no row of rt" in told
    assert f"{missing} ({100 * missing / n:.1f} %) of {n} train rows are missing: there the label alone" in told
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert f"entropy {entropy:.3f} nats, accuracy 100.0 %" in told
    assert "are ids and classes right?" not in told


def test_a_teacher_that_knows_nothing_is_pointed_out(tmp_path, data):
    wrong = np.roll(np.eye(3)[[0, 2, 0, 1]], 1, axis=1)
    table = teacher_table.read(write(tmp_path / "t.csv", IDS | columns(wrong)), data)
    assert "accuracy 0.0 %, no better than the most frequent class" in "\n".join(teacher_table.told(table, data))


def test_a_teacher_of_rows_of_one_class_is_not_doubted(tmp_path, data):
    rows = {"id": [0, 3]} | columns(np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]]))
    told = "\n".join(teacher_table.told(teacher_table.read(write(tmp_path / "t.csv", rows), data), data))
    assert "accuracy 100.0 %" in told
    assert "are ids and classes right?" not in told


def test_a_row_without_an_answer_is_missing(tmp_path, data):
    path = tmp_path / "t.csv"
    path.write_text("id,neg,pos,so so\n0,.5,.25,.25\n1,,,\n2,.5,.5,0\n")
    table = teacher_table.read(str(path), data)
    assert table.blank == 1
    assert np.isnan(table.logits["train"]).any(axis=1).tolist() == [False, True, False, True, True, True]
    votes = columns(np.array([[3, 0, 0], [0, 0, 0], [1, 1, 0], [0, 2, 0]]))
    assert teacher_table.read(write(tmp_path / "v.csv", IDS | votes), data).blank == 1


def test_rounded_probabilities_are_rescaled_and_counted(tmp_path, data):
    rounded = np.array([[0.33, 0.33, 0.33], [0.25, 0.25, 0.5], [0, 1, 0], [0.1, 0.8, 0.1]])
    table = teacher_table.read(write(tmp_path / "t.csv", IDS | columns(rounded)), data)
    assert table.rescaled == 1
    np.testing.assert_allclose(np.exp(table.logits["train"][0]), 1 / 3, atol=1e-6)


def test_equal_texts_have_one_answer(tmp_path, data):
    data.splits["train"].text[5] = data.splits["train"].text[0]
    table = teacher_table.read(write(tmp_path / "t.csv", texts() | columns()), data)
    np.testing.assert_array_equal(table.logits["train"][5], table.logits["train"][0])


def test_pairs_are_named_by_both_texts(tmp_path):
    data = task_data(pair=True)
    pairs = texts() | {"text2": [f"second {row}" for row in (0, 2, 3, 0)]} | columns()
    table = teacher_table.read(write(tmp_path / "t.csv", pairs), data)
    assert table.unknown == 1
    assert (~np.isnan(table.logits["train"]).any(axis=1)).tolist() == [True, False, True, True, False, False]


def test_rows_of_other_splits_are_taken_too(tmp_path, data):
    rows = {"id": ["train:0", "validation:1", "test:0", "test:9"]} | columns()
    table = teacher_table.read(write(tmp_path / "t.csv", rows), data)
    assert table.unknown == 1
    np.testing.assert_allclose(np.exp(table.logits["validation"][1]), POSTERIORS[1], atol=1e-6)
    assert np.isnan(table.logits["validation"][0]).all()


def test_the_rows_that_are_written_are_understood(tmp_path):
    data = task_data("own", pair=True)
    rows = teacher_table.row_ids(data)
    assert len(rows) == 10
    for k, name in enumerate(LABELS):
        rows[name] = np.where(rows.label == LABELS[k], 0.8, 0.1)
    table = teacher_table.read(write(tmp_path / "t.csv", rows.to_dict("list")), data)
    assert (table.by, table.unknown, table.ignored) == ("id", 0, ("label",))
    for name, split in data.splits.items():
        assert (table.logits[name].argmax(axis=1) == split.labels).all()


def changed(row, column, value):
    table = {name: list(values) for name, values in (IDS | columns()).items()}
    table[column][row] = value
    return table


REFUSED = {
    "sum": (changed(1, "pos", 0.9), ["row 2: probabilities must sum to 1, got 0.25, 0.9, 0.5", "one of 1 such"]),
    "negative probability": (columns(POSTERIORS - 0.1, "p_") | IDS, ["row 3: probabilities must be >= 0"]),
    "hole": (changed(2, "neg", ""), ["row 3: a number is missing"]),
    "word": (changed(2, "neg", "high"), ["column 'neg', row 3: 'high' is no number"]),
    "class missing": (IDS | columns(order=("neg", "pos")), ["no column for class 'so so'"]),
    "prefixed class missing": (columns(prefix="p_", order=("neg", "pos")) | IDS, ["expected class 'so so' once"]),
    "foreign class": (
        columns(prefix="p_") | {"p_other": [0.0] * 4} | IDS,
        ["'other' is no class of mine"],
    ),
    "two forms": ({**columns(prefix="p_", order=LABELS[:2]), "votes_so so": [1] * 4} | IDS, ["columns of"]),
    "no key": (columns(), ["no column that names the rows"]),
    "no row of ours": ({"id": [90, 91, 92, 93]} | columns(), ["none of its 4 rows names a train row", "train:0"]),
    "no text of ours": ({"text": list("abcd")} | columns(), ["none of its 4 rows", "'train text 0'"]),
    "twice": ({"id": [0, 0, 2, 3]} | columns(), ["rows 1 and 2 say different things on train:0"]),
    "another cut": (IDS | texts([0, 2, 3, 5]) | columns(), ["row 4: its text is not that of row train:4"]),
    "neither": (
        IDS | columns(POSTERIORS * 3.1),
        ["neither probabilities", "--teacher-form logits, probabilities or votes"],
    ),
    "percent": (
        IDS | columns(POSTERIORS * 100 + [0.5, -0.5, 0]),
        ["--teacher-form", "or votes; percent go as votes"],
    ),
    "a list": (IDS | {"logits": ["[1, 2, 3]"] * 4}, ["row 1: logits must be an object", "order of classes"]),
    "no object": (IDS | {"logits": ["0.1 0.2"] * 4}, ["row 1: logits must be an object"]),
    "object lacks": (IDS | {"logits": ['{"neg": 1, "pos": 2}'] * 4}, ["row 1: no number for class 'so so'"]),
    "votes lack one": (IDS | {"votes": ['{"neg": 1, "pos": 2}'] * 4}, ["no number for class 'so so'", "0 stands for"]),
    "named percent": (
        IDS | columns(POSTERIORS * 100 + [0.5, -0.5, 0], "p_"),
        ["must sum to 1; percent go with --teacher-form votes, got"],
    ),
    "object of words": (IDS | {"votes": ['{"neg": "x", "pos": 2, "so so": 1}'] * 4}, ["votes must be numbers"]),
    "infinite": (columns(POSTERIORS + np.array([[np.inf], [0], [0], [0]]), "logit_") | IDS, ["logits must be finite"]),
}


@pytest.mark.parametrize(("table", "told"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_a_line(tmp_path, data, table, told):
    path = write(tmp_path / "t.csv", table)
    with pytest.raises(ValueError, match=r"t\.csv") as refused:
        teacher_table.read(path, data)
    for part in told:
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_predictions_on_ones_own_file_are_a_teacher(tmp_path):
    """Their numbers count the file's rows, before it was cut into splits: the text says which row it is."""
    table = {"row": [1, 3, 4, 5]} | texts() | {f"p({name})": POSTERIORS[:, i] for i, name in enumerate(LABELS)}
    read = teacher_table.read(write(tmp_path / "predicted.csv", table), task_data("own"))
    assert list(np.flatnonzero(np.isfinite(read.logits["train"]).all(axis=1))) == ROWS


def test_a_number_alone_names_no_row_of_ones_own_file(tmp_path):
    path = write(tmp_path / "t.csv", {"id": [0, 1, 2, 3]} | columns())
    with pytest.raises(ValueError, match="kdnb teachers rows"):
        teacher_table.read(path, task_data("own"))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"id": ["0"], "probabilities": [[0.5, 0.5, 0.0]]}, "expected an array classes"),
        ({"id": ["0"], "probabilities": [[1.0, 0.0]], "classes": LABELS}, r"must be numbers \(N, 3\)"),
        ({"id": ["0"], "votes": [[1, 2, 3]], "classes": ["neg", "neg", "pos"]}, "'neg' once, got it 2 times"),
        ({"id": ["0", "1"], "probabilities": [[1.0, 0.0, 0.0]], "classes": LABELS}, r"id must be \(1,\)"),
        ({"id": ["0"], "votes": [[None, 1, 2]], "classes": LABELS}, "without pickled objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, data, arrays, told):
    with pytest.raises(ValueError, match=told):
        teacher_table.read(write(tmp_path / "t.npz", arrays), data)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("gone.jsonl", None, "no such file"),
        ("gone.npz", None, "no such file"),
        ("gone.csv", None, "no such file"),
        ("t.jsonl", "{}\nnot json\n", "not readable as JSON in line 2"),
        ("t.jsonl", "[1]\n", "expected JSON lines, an object in each"),
        ("t.jsonl", "", "no"),
        ("t.npz", "not an npz", "not readable as npz"),
    ],
)
def test_an_unreadable_file_is_a_line(tmp_path, data, name, content, told):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=told):
        teacher_table.read(str(tmp_path / name), data)


@pytest.mark.parametrize("by", ["id", "text"])
def test_rows_whose_texts_begin_like_formulas_are_read_back(tmp_path, data, by):
    """What `kdnb teachers rows` writes has an apostrophe before them, so that no spreadsheet runs them."""
    train = data.splits["train"]
    odd = ["=1+1", "-ish", "\t=a  b", "@you", "plain", "'quoted'"]
    data.splits["train"] = Split(odd, None, train.labels)
    rows = teacher_table.row_ids(data)[lambda table: table.id.str.startswith("train")]
    written = files.csv_bytes(rows.assign(**dict.fromkeys(LABELS, 1 / 3)).drop(columns="id" if by == "text" else []))
    assert b"'=1+1" in written
    (tmp_path / "rows.csv").write_bytes(written)
    table = teacher_table.read(str(tmp_path / "rows.csv"), data)
    assert table.by == by
    assert not np.isnan(table.logits["train"]).any()
