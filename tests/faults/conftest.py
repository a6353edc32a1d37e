"""Faults that are put in on purpose: how many, and a table of what came of them.

Tests marked `faults` take long: they are left out unless `--faults N` says how many random kills there shall be in all
(`make faults`: 200); soaks and other counts follow from it. With `--faults-to FILE` the run writes its numbers there.
"""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import stores

ALL = 200  # kills that the shares of the tests add up to
COUNTS = ("injected", "lost", "repeated", "corrupted", "unclear")


def pytest_addoption(parser):
    group = parser.getgroup("faults")
    group.addoption("--faults", type=int, metavar="N", help="run the long tests too, with N random kills in all")
    group.addoption("--faults-to", metavar="FILE", help="write what came of the faults to this JSON file")


def pytest_configure():
    """Started in the background of a script, SIGINT is ignored, and would be by every command that is tested."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--faults", default=None):
        long = [item for item in items if item.get_closest_marker("faults")]
        items[:] = [item for item in items if not item.get_closest_marker("faults")]
        config.hook.pytest_deselected(items=long)


@pytest.fixture
def share(request):
    """share(of_all): as many of a test's faults as were asked for, one at least; of_all are those of `make faults`."""
    asked = request.config.getoption("--faults", default=None) or 1
    return lambda of_all: max(1, round(of_all * asked / ALL))


@pytest.fixture
def told(request, record_property):
    """told(kind, fault, injected, ...): a row of the table, then a failure unless nothing was lost or unclear."""

    def tell(kind, fault, injected, lost=0, repeated=0, corrupted=0, unclear=0):
        counts = dict(zip(COUNTS, map(int, (injected, lost, repeated, corrupted, unclear)), strict=True))
        test = f"{request.node.path.name}::{request.node.originalname}"
        record_property("fault", {"kind": kind, "fault": fault, "test": test, **counts})
        assert injected > 0
        assert not any(list(counts.values())[1:]), counts

    return tell


@pytest.fixture
def measured(record_property):
    """measured(name, **values): what the page says of something that is no fault."""
    return lambda name, **values: record_property("measured", {name: values})


@pytest.fixture
def command(monkeypatch, capsys):
    """command(outputs, *words): kdnb in this process, on the store in a folder: exit code, stdout, stderr."""
    from kdnb.cli.main import main

    def call(outputs, *words):
        monkeypatch.setattr(sys, "argv", ["kdnb", *map(str, words)])
        capsys.readouterr()
        with stores.reading(outputs), pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def unclear():
    """unclear(err, *words): 1 unless what was told ends in one line of kdnb's that has one of the words, else 0."""

    def judge(err, *words):
        said = [line for line in err.splitlines() if line.strip()]
        good = said and said[-1].startswith("kdnb: ") and "Traceback" not in err
        return int(not (good and any(word in said[-1] for word in words or [""])))

    return judge


@pytest.fixture(autouse=True)
def nobody_left():
    """What a test that failed had started ends with it."""
    yield
    victim = sys.modules.get("victim")
    while victim and victim.Victim.every:
        process = victim.Victim.every.pop()
        if process.poll() is None:
            process.kill()


ROWS: dict[tuple[str, str], dict] = {}  # what the reports of this session told, by kind and fault
MEASURED: dict[str, dict] = {}
BEGUN = time.monotonic()


def pytest_runtest_logreport(report):
    for name, row in report.user_properties if report.when == "call" else ():
        if name == "measured":
            MEASURED.update(row)
        if name == "fault":
            known = ROWS.setdefault((row["kind"], row["fault"]), {**row, **dict.fromkeys(COUNTS, 0)})
            known |= {count: known[count] + row[count] for count in COUNTS}


def pytest_sessionfinish(session):
    target = session.config.getoption("--faults-to", default=None)
    if not target or hasattr(session.config, "workerinput"):
        return
    path = Path(target)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    rows = {(row["kind"], row["fault"]): row for row in before["rows"]} | ROWS  # others stay as they are
    passed = before.get("minutes", 0) if len(rows) > len(ROWS) else 0  # of the passes that others come of
    content = {
        "kills_asked_for": session.config.getoption("--faults", default=None) or 0,
        "minutes": round(passed + (time.monotonic() - BEGUN) / 60, 1),
        "measured": before.get("measured", {}) | MEASURED,
        "rows": [rows[key] for key in sorted(rows)],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
