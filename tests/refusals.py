"""What a command line says of a bad input: exit code 2, one line that names the cause, nothing half-done.

`counting` makes a row of the table of faults out of what a test has seen refused.
"""

import contextlib
import io
import os
import warnings

from kdnb import paths
from kdnb.cli import commands

LONGEST = 1500  # characters of a message
_ROWS = []  # of the test that runs


class Accepted(BaseException):
    """An input was good after all, and work would have begun."""


@contextlib.contextmanager
def counting(request, record_property, kind, fault):
    """Count what is refused while a test runs, as one row of the table; a test that fails has no row."""
    counts = dict.fromkeys(("injected", "lost", "repeated", "corrupted", "unclear"), 0)
    test = f"{request.node.path.name}::{request.node.originalname}"
    _ROWS.append({"kind": kind, "fault": fault, "test": test, **counts})
    record_property("fault", _ROWS[-1])  # which is filled in until the test ends
    try:
        yield
    finally:
        _ROWS.pop()


def seen(number=1):
    """So many more faults were met as they should be."""
    if _ROWS:
        _ROWS[-1]["injected"] += number


def told(monkeypatch, call):
    """What the command line says of a call: exit code 2, one line, no run left. Empty if the call is good."""
    out, err = io.StringIO(), io.StringIO()

    def app(standalone_mode):
        with contextlib.redirect_stdout(out):
            call()
        raise Accepted

    code = 2
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")  # one would stand on stderr beside the line
        patch.setattr(commands, "app", app)
        try:
            with contextlib.redirect_stderr(err):
                commands.run_command()
        except Accepted:
            return ""
        except SystemExit as ended:
            code = ended.code
    line = err.getvalue()
    if not code:
        return ""
    assert code == 2, line
    assert line.startswith("kdnb: ")
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert len(line) <= LONGEST, len(line)
    assert line.strip("\n").isprintable()
    assert not paths.RUNS.is_dir() or set(os.listdir(paths.RUNS)) <= {".locks"}
    seen()
    return line
