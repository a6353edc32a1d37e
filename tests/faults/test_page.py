"""docs/reliability.md is what its numbers say, and each of its rows has its test."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from kdnb import paths

DOCS = paths.ROOT / "docs"
NUMBERS = json.loads((DOCS / "reliability.json").read_text(encoding="utf-8"))


def test_the_page_is_made_of_the_numbers():
    spec = importlib.util.spec_from_file_location("write_reliability", DOCS / "write_reliability.py")
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    assert (DOCS / "reliability.md").read_text(encoding="utf-8") == writer.page(NUMBERS)


@pytest.mark.parametrize("row", NUMBERS["rows"], ids=lambda row: row["fault"])
def test_a_row_has_its_test_and_was_put_in(row):
    file, _, name = row["test"].partition("::")
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {re.escape(name)}\(", text, re.MULTILINE)
    assert row["injected"] > 0
    assert [row[count] for count in ("lost", "repeated", "corrupted", "unclear")] == [0, 0, 0, 0]


def test_every_kind_of_fault_is_told():
    kinds = ["Damage", "Determinism", "Disk", "Exposure", "Input", "Kill", "Numbers", "Soak", "Supply", "papermill"]
    assert sorted({row["kind"] for row in NUMBERS["rows"]}) == kinds


def test_the_shares_of_the_kills_add_up():
    """Those of SIGKILL; what is stopped otherwise is counted in `test_a_stop` alone."""
    folder = Path(__file__).parent
    (every,) = re.findall(r"^ALL = (\d+)", (folder / "conftest.py").read_text(encoding="utf-8"), re.MULTILINE)
    shares = re.findall(r"\bshare\((\d+)\)", (folder / "test_kill.py").read_text(encoding="utf-8"))
    assert sum(map(int, shares)) == int(every)
