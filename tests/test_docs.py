"""docs/experiments.md holds every id that the tree cites, as the ledger has it, and names tests that cite it back."""

import re

import pytest

from kdnb import paths
from kdnb.studies import registry

PAGE = (paths.ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
ID = re.compile(r"\b([HT]\d+)\.(\d+)([a-z]?)\b(?:-\1\.(\d+))?")  # a range, T1.1-T1.3, is each of its ids
READ = ("kdnb/**/*", "tests/**/*", "notebooks/*", "benchmarks/*", "README.md")
TEXT = {".py", ".md", ".ipynb", ".json", ".html"}
TESTS = {path.name: path for path in (paths.ROOT / "tests").rglob("test_*.py")}
NONE_SUCH = {"H9.7"}  # test_simulations.py asks for it to see it refused
ROWS = {line.split("**")[1]: line for line in PAGE.splitlines() if re.match(r"\| \*\*[HT]\d", line)}
COUNTS = {name: row.split("|")[3].strip() for name, row in ROWS.items() if name[0] == "H"}  # in print, hypotheses only
HEADINGS = {name for name, count in COUNTS.items() if not count}  # what has parts, a row each, and no test of its own


def cited(path):
    """Every id a file names, with those in the middle of a range."""
    found = set()
    for family, number, part, last in ID.findall(path.read_text(encoding="utf-8")):
        found |= {f"{family}.{i}" for i in range(int(number), int(last) + 1)} if last else {f"{family}.{number}{part}"}
    return found


def files():
    return [path for pattern in READ for path in sorted(paths.ROOT.glob(pattern)) if path.suffix in TEXT]


def test_ranges_and_parts_are_read(tmp_path):
    (tmp_path / "some.py").write_text("(T1.1-T1.3, H3.7b), T15.1-T15.2; not H1, 3.1 or XT1.9")
    assert cited(tmp_path / "some.py") == {"T1.1", "T1.2", "T1.3", "H3.7b", "T15.1", "T15.2"}


def test_every_id_has_one_row():
    ids = re.findall(r"^\| \*\*(\S+?)\*\* \|", PAGE, re.MULTILINE)
    assert len(ids) == len(set(ids)) == len(ROWS)
    assert all(ID.fullmatch(name) for name in ids)


@pytest.mark.slow
@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(paths.ROOT).as_posix())
def test_what_a_file_cites_is_on_the_page(path):
    assert cited(path) - NONE_SUCH <= set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_tests_that_a_row_names_cite_it(name):
    tested_in = re.findall(r"`(test_\w+\.py)`", ROWS[name].split("|")[-2])
    assert tested_in or name in HEADINGS
    for file in tested_in:
        assert name in cited(TESTS[file]), file


@pytest.mark.slow
def test_the_hypotheses_are_the_ledgers():
    """As many, and with the counts that the printed tables give."""
    ledger = registry.ledger(None, others=dict.fromkeys(set(registry.evidence_kinds()) - {"study"})).set_index("id")
    assert {name: count for name, count in COUNTS.items() if count} == ledger.published.to_dict()
    assert {name[:-1] for name in ledger.index if name[-1].isalpha()} - set(ledger.index) == HEADINGS


def test_the_files_and_notebooks_it_names_exist():
    named = set(re.findall(r"`(kdnb/[\w/]+\.\w+|test_\w+\.py|\d\d_\w+)`", PAGE))
    notebooks = {path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")}
    assert not {name for name in named if not (paths.ROOT / name).is_file()} - notebooks - set(TESTS)
    assert len(named) > 30
