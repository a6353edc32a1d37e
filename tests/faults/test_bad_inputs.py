"""Generated bad inputs: each ends with exit code 2 and one line that names its cause, and leaves no run behind.

KDNB_FAULTS_EXAMPLES says how many refused inputs of each kind are tried; what is accepted, being good, does not count.
"""

import gzip
import io
import json
import os
import random
import struct
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
import typer
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from refusals import Accepted, told

from kdnb import paths
from kdnb.catalog import TASKS
from kdnb.cli import again, commands
from kdnb.data import glue, idx, own, teacher_table
from kdnb.data.own import OwnData
from kdnb.report import parameters
from kdnb.sweeps import grid_files, only

pytestmark = pytest.mark.faults
EXAMPLES = int(os.environ.get("KDNB_FAULTS_EXAMPLES", "150"))


def many(share=1.0):
    """The settings of a kind: so many refused inputs, always the same ones."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow]
    checks += [HealthCheck.data_too_large, HealthCheck.large_base_example]
    most = max(5, int(EXAMPLES * share))
    return settings(max_examples=most, deadline=None, derandomize=True, suppress_health_check=checks, database=None)


@pytest.fixture(autouse=True)
def row(request, record_property):
    with refusals.counting(request, record_property, "Input", request.node.originalname[5:].replace("_", " ")):
        yield


def refuse(monkeypatch, call, *causes):
    """Assert that a call is refused and one of its causes named; an input that is good is left out of the count."""
    line = told(monkeypatch, call)
    assume(line)
    assert any(cause in line for cause in causes), line


# What is wrong with bytes


@st.composite
def harmed(draw, content):
    """Some bytes cut, flipped, mixed or replaced."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "noise", "twice", "empty", "zero", "huge number"]))
    rng = random.Random(draw(st.integers(0, 2**32)))
    place = rng.randrange(len(content))
    if kind == "cut":
        return content[:place]
    if kind == "flip":
        harmed = bytearray(content)
        for _ in range(rng.choice([1, 1, 5, 50])):
            harmed[rng.randrange(len(harmed))] ^= 1 << rng.randrange(8)
        return bytes(harmed)
    if kind == "insert":
        return content[:place] + rng.randbytes(rng.choice([1, 4, 100])) + content[place:]
    if kind == "noise":
        return rng.choice([b"", b"PAR1", b"\x1f\x8b", b"PK\x03\x04", b"{", b"[", b"\x93NUMPY"]) + rng.randbytes(64)
    if kind == "twice":
        return content[place:] + content
    if kind == "zero":
        return content[:place] + bytes(8) + content[place:]
    if kind == "huge number":
        return content[:place] + b"9" * 5000 + content[place:]
    return b""


WORDS = st.text(alphabet="abcdefgh ", min_size=1, max_size=12).filter(str.strip)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just("\ud800"),
    st.just("x" * 100_000),
    st.just("[" * 60_000),
    st.just("\x1b]0;x\x07"),
    st.just(float("nan")),
    st.just("../../x"),
    st.just("<script>"),
)
UTF8 = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


# Tables of the user's own


def rows_of(number=12):
    return [{"text": f"text number {i}", "label": "ab"[i % 2]} for i in range(number)]


def as_csv(rows, separator=","):
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [separator.join(names), *(separator.join(str(row.get(name, "")) for name in names) for row in rows)]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def as_json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows):
    content = io.BytesIO()
    pd.DataFrame(rows).to_parquet(content, index=False)
    return content.getvalue()


FORMATS = {"t.csv": as_csv, "t.tsv": lambda rows: as_csv(rows, "\t"), "t.jsonl": as_json_lines, "t.parquet": as_parquet}


@pytest.fixture
def read_own(store, tmp_path, monkeypatch):
    """read_own(name, content): refused, and the file named."""

    def read(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        asked = OwnData(path=str(path), text="text", label="label")
        refuse(monkeypatch, lambda: own.load(asked, "toy"), name)

    return read


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@many()
def test_a_table_of_harmed_bytes(read_own, name, data):
    content = FORMATS[name](rows_of())
    if data.draw(st.booleans()) and name != "t.parquet":
        packed = gzip.compress(content, mtime=0)
        read_own(f"{name}.gz", data.draw(harmed(packed)))
    else:
        read_own(name, data.draw(harmed(content)))


@given(data=st.data())
@many(2)
def test_a_table_of_odd_values(read_own, data):
    """A value, a row or a column that makes no sense, in a file that is whole."""
    rows, name = rows_of(data.draw(st.integers(1, 14))), data.draw(st.sampled_from(sorted(FORMATS)))
    column = data.draw(st.sampled_from(["text", "label", "both", "drop", "name"]))
    for row in data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=len(rows), unique=True)):
        if column in ("text", "label"):
            rows[row][column] = data.draw(ODD)
        elif column == "both":
            rows[row] = {"text": data.draw(ODD), "label": data.draw(ODD), "more": data.draw(ODD)}
        elif column == "drop":
            rows[row].pop(data.draw(st.sampled_from(["text", "label"])), None)
        else:
            rows[row] = {data.draw(UTF8): value for value in rows[row].values()}
    try:
        content = FORMATS[name](rows)
    except (ValueError, TypeError, OverflowError, NotImplementedError, pa.ArrowException):
        assume(False)  # this format cannot hold it
    read_own(name, content)


@pytest.mark.parametrize("unpacked", [1 << 20])
def test_a_small_file_that_stands_for_a_large_one(store, tmp_path, monkeypatch, unpacked):
    """Gzip and Parquet, by their own metadata and against them: one word many times is a few bytes."""
    monkeypatch.setattr("kdnb.files.LARGEST", unpacked)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a,b\n" * unpacked))
    table = pa.table({"text": pa.array(["x" * 1000] * 10_000).dictionary_encode(), "label": ["a", "b"] * 5000})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    (tmp_path / "t.csv").write_bytes(b"text,label\n" + b"a,b\n" * unpacked)
    np.savez_compressed(tmp_path / "t.npz", probabilities=np.zeros((unpacked, 2)))
    for name in ("t.csv.gz", "t.parquet", "t.csv"):
        assert (tmp_path / name).stat().st_size < unpacked or name == "t.csv"
        asked = OwnData(path=str(tmp_path / name), text="text", label="label")
        line = told(monkeypatch, lambda asked=asked: own.load(asked, "toy"))
        assert f"{name}: " in line
        assert "at most" in line
    assert "at most" in told(monkeypatch, lambda: teacher_table.arrays_of(str(tmp_path / "t.npz")))


@pytest.mark.parametrize("what", ["pipe", "folder", "address", "nothing", "unreadable", "device", "loop", "dangling"])
def test_what_is_no_file_is_told_and_not_waited_for(store, tmp_path, monkeypatch, toy, what):
    path = str(tmp_path / "t.json")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        os.mkdir(path)
    elif what == "address":
        path = "s3://bucket/t.json"
    elif what == "device":
        path = "/dev/zero"
    elif what in ("loop", "dangling"):
        os.symlink(path if what == "loop" else tmp_path / "nowhere", path)
    elif what == "unreadable":
        (tmp_path / "t.json").write_bytes(b"{}")
        (tmp_path / "t.json").chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
    for call in (
        lambda: own.load(OwnData(path=path, text="text", label="label"), "toy"),
        lambda: teacher_table.read(path, toy),
        lambda: teacher_table.arrays_of(path),
        lambda: grid_files.named(paths.Path(path)) if what != "address" else grid_files.files.given(path),
        lambda: again.read(paths.Path(path)) if what not in ("address", "folder") else grid_files.files.given(path),
    ):
        line = told(monkeypatch, call)
        assert path in line


# Teachers that are written down


@pytest.fixture
def teach(store, toy, tmp_path, monkeypatch):
    """teach(name, content): refused as a teacher of the toy data, and the file named; .whole is a good table."""

    def read(name, content):
        (tmp_path / name).write_bytes(content)
        refuse(monkeypatch, lambda: teacher_table.read(str(tmp_path / name), toy), name)

    table = teacher_table.row_ids(toy)[["id"]]
    sure = np.where(np.arange(len(table)) % 2, 0.75, 0.25)
    read.whole = table.assign(**dict(zip(toy.task.labels, (sure, 1 - sure), strict=True)))
    return read


@given(data=st.data())
@many(2)
def test_a_teacher_table_of_odd_values(teach, data):
    answers = teach.whole
    rows, name = answers.head(8).to_dict("records"), data.draw(st.sampled_from(sorted(FORMATS)))
    for row in data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3, unique=True)):
        column = data.draw(st.sampled_from([*answers.columns, "more"]))
        rows[row][column] = data.draw(st.one_of(ODD, st.sampled_from([-1.0, 2.0, 1e308, -1e308, "1e999", "train:-1"])))
    try:
        content = FORMATS[name](rows)
    except (ValueError, TypeError, OverflowError, NotImplementedError, pa.ArrowException):
        assume(False)
    teach(name, content)


def npz_of(answers, **changes):
    arrays = {
        "id": answers.id.to_numpy(dtype=str),
        "probabilities": answers.drop(columns="id").to_numpy(),
        "classes": np.array(answers.columns[1:], dtype=str),
        **changes,
    }
    content = io.BytesIO()
    np.savez(content, **{name: value for name, value in arrays.items() if value is not None})
    return content.getvalue()


def npy(header, body=b""):
    text = header.encode().ljust(118 - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


HEADERS = [
    "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 2), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 2.5), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }",
    "{'descr': 'no', 'fortran_order': False, 'shape': (2, 2), }",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,), }",
    "__import__('os').system('false')",
    "{'descr': " + "[" * 80,
    "{",
]


@given(data=st.data())
@many(2)
def test_an_npz_of_odd_arrays(teach, data):
    answers = teach.whole
    kind = data.draw(st.sampled_from(["bytes", "header", "array", "missing", "shape"]))
    whole = npz_of(answers)
    if kind == "bytes":
        content = data.draw(harmed(whole))
    elif kind == "header":
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as file:
            file.writestr("id.npy", npy(data.draw(st.sampled_from(HEADERS)), data.draw(st.binary(max_size=16))))
        content = content.getvalue()
    elif kind == "missing":
        content = npz_of(answers, **{data.draw(st.sampled_from(["id", "probabilities", "classes"])): None})
    elif kind == "shape":
        name = data.draw(st.sampled_from(["id", "probabilities", "classes"]))
        content = npz_of(answers, **{name: np.zeros(data.draw(st.lists(st.integers(0, 3), max_size=3)))})
    else:
        odd = [
            np.array(["a"]),
            np.array([1j]),
            np.array([True]),
            np.array("x"),
            np.array([np.nan]),
            np.array([b"\xff"]),
        ]
        odd += [np.full((len(answers), 2), fill) for fill in (np.nan, np.inf, -1.0, 3.0, "x")]
        name = data.draw(st.sampled_from(["id", "probabilities", "classes", "text"]))
        content = npz_of(answers, **{name: data.draw(st.sampled_from(odd))})
    teach("t.npz", content)


# GLUE's own files, and IDX files


def glue_file(header, rows=8):
    return (
        "\t".join(header) + "\n" + "".join("\t".join([str(i % 2)] * len(header)) + "\n" for i in range(rows))
    ).encode()


@pytest.mark.parametrize("name", ["mrpc", "qnli", "sst2", "qqp"])
@given(data=st.data())
@many(0.4)
def test_glues_own_files_harmed(store, tmp_path, monkeypatch, name, data):
    headers = {
        "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        "qnli": ["index", "question", "sentence", "label"],
        "sst2": ["sentence", "label"],
        "qqp": ["id", "question1", "question2", "is_duplicate"],
    }
    monkeypatch.setattr(paths, "GLUE", tmp_path)
    folder = tmp_path / TASKS[name].glue_folder
    folder.mkdir(exist_ok=True)
    content = {file: glue_file(headers[name]) for file in ("train.tsv", "dev.tsv", "msr_paraphrase_test.txt")}
    file = data.draw(st.sampled_from(["train.tsv", "dev.tsv"]))
    how = data.draw(st.sampled_from(["bytes", "header", "label", "fields", "gone"]))
    if how == "header":
        header = data.draw(st.permutations(headers[name][:-1])) + data.draw(
            st.sampled_from([["x"], ["label", "label"]])
        )
        content[file] = glue_file(header)
    elif how == "label":
        content[file] += b"\t".join(
            [data.draw(st.sampled_from([b"7", b"-1", b"", b"nan", b"\xff"]))] * len(headers[name])
        )
    elif how == "fields":
        content[file] += b"1\t" * data.draw(st.integers(0, 9)) + b"1\n"
    elif how == "bytes":
        content[file] = data.draw(harmed(content[file]))
    for where, text in content.items():
        (folder / where).unlink(missing_ok=True)
        if (how, where) != ("gone", file):
            (folder / where).write_bytes(text)
    refuse(monkeypatch, lambda: glue.read(TASKS[name]), str(folder), TASKS[name].title)


@given(data=st.data())
@many(1)
def test_idx_files_harmed(store, tmp_path, monkeypatch, data):
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path)
    monkeypatch.setattr(idx, "KNOWN", {})
    folder = tmp_path / "fashion"
    folder.mkdir(exist_ok=True)
    whole = {}
    for split in ("train", "test"):
        whole[idx._name(split, "images")] = struct.pack(">4B3I", 0, 0, 8, 3, 2, 28, 28) + bytes(2 * 28 * 28)
        whole[idx._name(split, "labels")] = struct.pack(">4BI", 0, 0, 8, 1, 2) + bytes(2)
    name = data.draw(st.sampled_from(sorted(whole)))
    if data.draw(st.booleans()):
        sizes = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3))
        whole[name] = struct.pack(">4B3I", 0, 0, data.draw(st.integers(0, 14)), 3, *sizes) + whole[name][16:]
    else:
        whole[name] = data.draw(harmed(whole[name]))
    packed = data.draw(st.booleans())
    for where, content in whole.items():
        (folder / f"{where}.gz").unlink(missing_ok=True)
        (folder / where).write_bytes(content)
        if packed and where == name:
            (folder / f"{where}.gz").write_bytes(gzip.compress(content, mtime=0)[: data.draw(st.integers(0, 60))])
    refuse(monkeypatch, lambda: idx.read(TASKS["fashion"]), str(folder))


# Configs, grids, parts of grids


@given(data=st.data())
@many(2)
def test_a_config_that_makes_no_sense(store, quick, tmp_path, monkeypatch, data):
    values = json.loads(quick().to_json())
    how = data.draw(st.sampled_from(["bytes", "value", "field", "kind"]))
    if how == "value":
        values[data.draw(st.sampled_from(sorted(values)))] = data.draw(ODD)
    elif how == "field":
        values[data.draw(st.sampled_from(["lrr", "extra", "", "kind", "__class__", "gamma"]))] = data.draw(ODD)
    elif how == "kind":
        values = data.draw(ODD)
    content = json.dumps(values).encode()
    path = tmp_path / "config.json"
    path.write_bytes(data.draw(harmed(content)) if how == "bytes" else content)
    refuse(monkeypatch, lambda: again.read(path), "config.json")


@given(data=st.data())
@many(2)
def test_a_grid_that_makes_no_sense(store, tmp_path, monkeypatch, data):
    grid = {"title": "t", "arms": ["erm_small", "ls_small"], "axes": {"lr": [1e-4], "ls_small": {"alpha": [0.1]}}}
    how = data.draw(st.sampled_from(["bytes", "value", "field", "axis", "arms", "kind"]))
    if how == "value":
        grid[data.draw(st.sampled_from(sorted(grid)))] = data.draw(ODD)
    elif how == "field":
        grid[data.draw(UTF8)] = data.draw(ODD)
    elif how == "axis":
        axis = data.draw(st.sampled_from(["lr", "alpha", "epochs", "tau", "seed", "batch_size", "x", "erm_small"]))
        grid["axes"][axis] = data.draw(st.one_of(ODD, st.lists(ODD, max_size=3)))
    elif how == "arms":
        grid["arms"] = data.draw(st.lists(st.one_of(ODD, st.just("erm_small")), max_size=3))
    elif how == "kind":
        grid = data.draw(ODD)
    content = json.dumps(grid).encode()
    name = data.draw(st.sampled_from(["g.json", "g.toml"])) if how == "bytes" else "g.json"
    toml = b'title = "t"\narms = ["erm_small"]\n[axes]\nlr = [1e-4, 2e-4]\n'
    (tmp_path / name).write_bytes(
        data.draw(harmed(toml if name == "g.toml" else content)) if how == "bytes" else content
    )
    refuse(monkeypatch, lambda: grid_files.named(tmp_path / name), name)


@given(text=st.lists(st.one_of(UTF8, st.from_regex(r"(lr|alpha|epochs|x)(=|\.\.|,|-|[0-9e.]){0,8}", fullmatch=True))))
@many(1)
def test_a_part_of_a_grid_that_makes_no_sense(store, monkeypatch, text):
    assume(any(text))
    refuse(monkeypatch, lambda: only.parse(text), "only", "field", "=", "axis", *filter(None, text))


# Parameters of notebooks


CODE = st.sampled_from(
    [
        "x;import os",
        "{__import__('os')}",
        "f'{1}'",
        "\\",
        "\n",
        "'''",
        '"; import os; "',
        "!!python/object:os.system",
        "alpha",
        "＝",
        "ａlpha",
        "alph\u0430",
        "__class__",
        "tau\u200b",
        " alpha",
        "a.b",
    ]
)


@given(
    name=st.one_of(UTF8, CODE, st.sampled_from(["alpha", "tau", "num_classes", "profile", "task", "seed"])),
    value=st.one_of(
        UTF8,
        CODE,
        st.sampled_from(["[" * 60_000, "9" * 5000, "a" * 100_000, "1e999", "nan", "[1]", "{}", "t\u043ey"]),
    ),
)
@many(2)
def test_a_parameter_that_makes_no_sense(store, monkeypatch, name, value):
    path = paths.NOTEBOOKS / "10_entropy_of_targets.ipynb"
    refuse(
        monkeypatch,
        lambda: parameters.given(path, [f"{name}={value}"]),
        "10_entropy_of_targets",
        "name=value",
        "profile",
    )


# Words of the command line


def options_of(command, words=()):
    """(words, option, whether it takes a number) of every option with a value, of every command."""
    if hasattr(command, "commands"):
        for name, one in sorted(command.commands.items()):
            yield from options_of(one, (*words, name))
        return
    for option in command.params:
        if option.opts[0].startswith("-") and not option.is_flag:
            yield words, option.opts[0], option.type_descriptor.annotation in (int, float)


COMMAND = typer.main.get_command(commands.app)
OPTIONS = list(options_of(COMMAND))
GROUPS = [name for name, one in COMMAND.commands.items() if hasattr(one, "commands")]
ARGUMENTS = {  # what a command needs besides, and would take
    ("train",): ["rt", "--profile", "toy"],
    ("compare",): ["rt", "--profile", "toy"],
    ("export",): ["erm-x", "/nowhere/else"],
    ("predict",): ["/nowhere", "/nowhere/t.csv"],
    ("run",): ["10_entropy_of_targets"],
    ("plan",): ["search", "--profile", "toy"],
    ("sweep",): ["search", "--profile", "toy"],
    ("select",): ["search", "--profile", "toy"],
    ("teachers", "rows"): ["/nowhere/rows.csv", "--task", "rt", "--profile", "toy"],
    ("lm", "train"): ["--student", "cut-2", "--data", "/nowhere"],
    ("lm", "check"): ["/nowhere", "cut-2"],
    ("lm", "fetch"): ["owner/name"],
    ("lm", "plan"): ["--teacher", "1e9", "--student", "1e8", "--tokens", "1e9"],
    ("lm", "cache", "make"): ["--teacher", "/nowhere", "--data", "/nowhere"],
    ("lm", "cache", "plan"): ["--tokens", "1000", "--vocabulary", "100", "--width", "8"],
}
TEXTS = st.one_of(UTF8, CODE, st.sampled_from(["--x", "-", "\udcff", "x" * 5000, "1e999", "nan", "-1", "0", "9" * 400]))


@pytest.fixture
def line(store, tmp_path, monkeypatch):
    """line(words): what `kdnb words` says, without the work that good words would begin."""
    from kdnb.analysis import simulations
    from kdnb.cli import doctor, sweeps, train
    from kdnb.data import fetch
    from kdnb.experiment import obtain
    from kdnb.report import notebooks, report
    from kdnb.studies.language_models import models
    from kdnb.sweeps import engines, plan

    monkeypatch.chdir(tmp_path)  # where a path among the words would lie

    def begun(*_, **__):
        raise Accepted

    for where, name in (
        *((obtain, "run_points"), (train, "run_points"), (notebooks, "run_steps"), (notebooks, "run_notebook")),
        *((report, "write"), (engines, "run"), (plan, "probe"), (doctor, "check"), (fetch, "fetch")),
        *((simulations, "simulate"), (models, "smollm2"), (sweeps.time, "sleep")),
    ):
        monkeypatch.setattr(where, name, begun)

    def say(words):
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["kdnb", *words])
            return told(monkeypatch, lambda: COMMAND(standalone_mode=False))

    return say


@given(data=st.data())
@many(3)
def test_an_option_that_makes_no_sense(line, data):
    words, option, number = data.draw(st.sampled_from(OPTIONS))
    value = data.draw(st.one_of(TEXTS, st.sampled_from(["-1", "1.5", "1e400", "inf"])) if number else TEXTS)
    said = line([*words, *ARGUMENTS.get(words, []), option, value])
    assume(said)


@pytest.mark.parametrize("option", ["--tokens", "--vocabulary", "--width", "--length", "--kept"])
def test_a_plan_of_more_than_there_is(line, option):
    """Numbers that no float holds, in the two plans."""
    huge, own = "9" * 400, option.replace("--width", "--student-width")
    assert "must be" in line(["lm", "cache", "plan", *ARGUMENTS["lm", "cache", "plan"], option, huge])
    assert "must be" in line(["lm", "plan", *ARGUMENTS["lm", "plan"], own, huge])


@given(words=st.lists(st.one_of(UTF8, CODE, st.sampled_from([*COMMAND.commands, "--json", "--help="])), min_size=1))
@many(1)
def test_words_that_make_no_sense(line, words):
    assume(len(words) > 1 or words[0] not in GROUPS)  # one alone is answered with its help
    assume(line(words))
