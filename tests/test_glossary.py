"""docs/glossary.md: fifty terms and more, in order, one meaning a symbol, each met in the notebook it points to."""

import re
from pathlib import Path

import nbformat
import pytest

from kdnb import paths

PAGE = paths.ROOT / "docs" / "glossary.md"
ROW = re.compile(
    r"^\| (?P<term>[^|]+) \| (?P<symbol>(?:[^|\\]|\\.)*)\| (?P<meaning>.+) \| \[\d\d\]\((?P<link>[^)]+)\) \|$"
)
ROWS = [ROW.match(line) for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]


def test_every_row_is_whole_and_in_order():
    assert None not in ROWS
    terms = [row["term"] for row in ROWS]
    assert len(terms) >= 50
    assert terms == sorted(terms, key=str.lower)
    symbols = [row["symbol"].strip() for row in ROWS if row["symbol"].strip()]
    assert len(symbols) == len(set(symbols))


def spelled(text):
    return text.lower().replace("-", " ")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["term"].replace(" ", "-"))
def test_a_term_is_met_where_the_glossary_says(row):
    notebook = nbformat.read(Path(PAGE.parent, row["link"]).resolve(), as_version=4)
    text = spelled("\n".join(cell.source for cell in notebook.cells))
    words = row["term"].partition(",")[0], row["symbol"].strip() or row["term"]
    assert any(re.search(rf"\b{re.escape(spelled(word))}s?\b", text) for word in words), (words, row["link"])
