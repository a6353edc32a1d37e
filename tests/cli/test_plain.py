"""What is printed comes out on streams that are not UTF-8, in narrow terminals, and in logs without bars."""

import io
import os
import re
import subprocess
import sys

import pytest
from command import process
from rich.table import Table

from kdnb import plain
from kdnb.catalog import SOURCES
from kdnb.cli import options


def stream(encoding, tty=True):
    made = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    made.isatty = lambda: tty
    return made


def written(to):
    to.flush()
    return to.buffer.getvalue().decode(to.encoding)


@pytest.mark.parametrize(
    ("encoding", "comes_out"),
    [
        ("ascii", "0.5 +/- 0.1 - tau^2 \\u4f60\\u597d \\xe9\n"),
        ("cp1252", "0.5 ± 0.1 – tau² \\u4f60\\u597d é\n"),
        ("utf-8", "0.5 ± 0.1 – τ² 你好 é\n"),
    ],
)
def test_nothing_is_lost_on_a_stream_that_lacks_characters(encoding, comes_out):
    to = stream(encoding)
    plain.reconfigure(to)
    print("0.5 ± 0.1 – τ² 你好 é", file=to)
    assert written(to) == comes_out


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_log_grows_line_by_line(encoding):
    to = stream(encoding, tty=False)
    print("one", file=to)
    assert to.buffer.getvalue() == b""
    plain.reconfigure(to)
    print("two", file=to)
    assert to.buffer.getvalue() == b"one\ntwo\n"


def test_what_the_package_prints_has_a_plain_form():
    assert all(text.isascii() and text for text in plain.PLAIN.values())


COLUMNS = ("task", "arm", "seed", "lr", "epochs", "alpha", "tau", "validation accuracy, %", "of", "test entropy, nats")
CELLS = (
    "section",
    "Teacher-free KD",
    "12",
    "2e-05",
    "128",
    "0.123457",
    "20",
    "81.25",
    "12,345 of 99,999",
    "0.123 ± 0.001",
)


def shown(monkeypatch, width, encoding="utf-8", tty=True, keys=3):
    table = Table(*COLUMNS)
    table.add_row(*CELLS)
    to = stream(encoding, tty)
    with monkeypatch.context() as patch:
        for name, value in {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdout", to)
        options.show(table, keys)
    return re.sub(r"\x1b\[[0-9;]*m", "", written(to))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_a_table_has_whole_numbers_in_any_terminal(monkeypatch, width, encoding):
    text = shown(monkeypatch, width, encoding)
    assert max(map(len, text.splitlines())) <= width
    found = set(text.split())
    for cell in CELLS:
        assert set(plain.text(cell, encoding).split()) <= found, text
    assert "…" not in text
    assert "..." not in text


def test_the_first_columns_are_repeated_where_a_table_is_cut(monkeypatch):
    assert shown(monkeypatch, 80).count("Teacher-free") == 2
    assert shown(monkeypatch, 250).count("Teacher-free") == 1
    assert shown(monkeypatch, 80, tty=False).count("Teacher-free") == 1  # a program reads it


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_compare_shows_its_table_whatever_the_terminal_holds(tmp_path, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    words = ["compare", "rt", "--profile", "toy", "--seeds", "0,1", "--epochs", "1", "--arms", "ls_small"]
    done = process(*words, outputs=tmp_path, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "LS small" in done.stdout
    assert re.search(r"\d\.\d{3} \+/- \d" if encoding == "ascii" else r"\d\.\d{3} ± \d", done.stdout)


@pytest.mark.slow
def test_a_log_holds_no_bar_of_a_library():
    """Neither where the command was started, nor where a notebook's kernel loads a model."""
    (name, *_) = (name for name, source in SOURCES.items() if source.kind == "asset")
    code = f"from kdnb.models import text; text._pretrained({name!r})"
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_the_command_turns_bars_off_in_a_log(kdnb, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    kdnb("--help")
    assert os.environ.pop("TQDM_DISABLE") == "1"


@pytest.mark.parametrize(("seconds", "told"), [
    (0, "0 s"), (89, "89 s"), (90, "2 min"), (3590, "1 h 0 min"), (12000, "3 h 20 min"), (187200, "2 d 4 h"),
])  # fmt: skip
def test_durations_are_told_in_words(seconds, told):
    assert plain.duration(seconds) == told
