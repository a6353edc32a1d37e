"""Plain output: characters that a stream lacks are written as plain ones, no library draws bars into a log, durations
are in words."""

import codecs
import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

PLAIN = {
    "–": "-", "—": "-", "−": "-", "…": "...", "±": "+/-", "·": "|", "×": "x", "→": "->", "≤": "<=", "≥": ">=", "≈": "~",
    "²": "^2", "τ": "tau", "α": "alpha", "β": "beta", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "✓": "yes",
    "█": "#", "░": ".", "Ø": "mean",
}  # fmt: skip
_HANDLER = "kdnb.plain"


def text(text: str, encoding: str) -> str:
    """A text with only what an encoding has; the text itself where it has all of it."""
    try:
        return text.encode(encoding, _HANDLER).decode(encoding)
    except LookupError:
        return text.encode("ascii", _HANDLER).decode("ascii")


def reconfigure(stream: Any) -> None:
    """Have a text stream write plain characters instead of raising, and each line at once; others are left alone.

    A log then grows line by line; what a stream in UTF-8 cannot hold is still an error.
    """
    if not hasattr(stream, "reconfigure"):
        return
    encoding = (getattr(stream, "encoding", "") or "utf-8").lower().replace("-", "").replace("_", "")
    stream.reconfigure(line_buffering=True, **({} if encoding.startswith("utf") else {"errors": _HANDLER}))


def version_of(package: str) -> str:
    """The version of an installed package, "not installed" for another."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def duration(seconds: float) -> str:
    """A duration for people: 40 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440:,} d {minutes % 1440 // 60} h"


@contextlib.contextmanager
def quiet(library: str) -> Iterator[None]:
    """Errors alone from transformers or datasets, and its bars on terminals alone, never in a log; then as before."""
    logging = importlib.import_module(f"{library}.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _instead(error: UnicodeError) -> tuple[str, int]:
    """What stands for the characters that cannot be encoded: ours, or their escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in bad), error.end


codecs.register_error(_HANDLER, _instead)
