"""What can go wrong, as classes that carry their exit code and whether another attempt makes sense."""

import difflib
import sys
import unicodedata
from collections.abc import Iterable
from typing import Literal

Retry = Literal["never", "again", "stop"]  # this point's own; it may pass; every other point would meet it too


class KdnbError(Exception):
    """An error whose message is one line for the user."""

    exit_code: int = 2
    retry: Retry = "never"


class DamagedRun(KdnbError, ValueError):
    """A stored run is not what was written."""


class Diverged(KdnbError, ValueError):
    """A training ended with logits that are no numbers; nothing of it is stored."""


class OldRun(KdnbError, ValueError):
    """A stored run was written by an earlier version and has to be converted; the message says how."""

    retry = "stop"


class StoreError(KdnbError, OSError):
    """The outputs folder cannot be written; the message says why."""

    retry = "stop"


class MissingAsset(KdnbError, RuntimeError):
    """A packaged file is neither in the data cache nor to be had from the package index."""

    retry = "stop"


class HubUnreachable(KdnbError, RuntimeError):
    """Something is neither on this machine nor to be had from the hub."""

    retry = "stop"


class DamagedFetch(KdnbError, RuntimeError):
    """A fetched file is missing, unfinished or altered."""


class ModelUnavailable(KdnbError, RuntimeError):
    """A model's weights are neither on this machine nor to be had from the hub."""

    retry = "stop"


class NoRuns(KdnbError, LookupError):
    """The store holds none of the runs asked for; the message says what to run."""


class WorkerDied(KdnbError, RuntimeError):
    """A worker process was killed, often for lack of memory; finished runs are kept."""


class NotebookFailed(KdnbError, RuntimeError):
    """A cell raised or ran out of time; the message has cell, error and the executed copy."""

    exit_code = 1


class Unfinished(KdnbError, RuntimeError):
    """A sweep ended with points that failed or were not reached; the message says which and why."""

    exit_code = 1


class Passing(KdnbError):
    """A failure that another attempt may not meet."""

    retry = "again"


def retry_of(error: BaseException) -> Retry:
    """Whether another attempt at the same training makes sense after an error.

    Full GPU memory and files that could not be read may pass; our own errors say it themselves.
    """
    if isinstance(error, KdnbError):
        return error.retry
    torch = sys.modules.get("torch")  # what has not been loaded has raised nothing
    may_pass = (OSError, torch.OutOfMemoryError) if torch else OSError
    return "again" if isinstance(error, may_pass) else "never"


def one_line(error: BaseException) -> str:
    """An error's class and message in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """A file's own words for the terminal: in one line, control characters spelled out."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _looks_like_another(sign: str) -> bool:
    """Whether a sign may be taken for an ASCII one; a letter with an accent is seen to be none."""
    return not sign.isascii() and unicodedata.decomposition(sign)[:1] in ("", "<")


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that a wrong one is most likely meant to be; "" for none.

    One with a slip in it comes first; then one that it begins with, or is the beginning of; then one that is like it.
    """
    known = list(known)
    related = [one for one in known if min(len(name), len(one)) > 1 and (name.startswith(one) or one.startswith(name))]
    for among, least in ((known, 0.8), (related, 0.0), (known, 0.6)):
        if close := difflib.get_close_matches(name, among, n=1, cutoff=least):
            return close[0]
    return ""


def nearest(name: str, known: Iterable[str], more: int = 0, listed_by: str = "") -> str:
    """The end of an error message: the known name closest to a wrong one, then all of them, 20 at most.

    Args:
        name: the wrong one.
        known: those to choose from.
        more: how many there are beside these.
        listed_by: the command that lists these.
    """
    known = list(known)
    close = closest(name, known)
    odd = next((sign for sign in name if _looks_like_another(sign)), "") if close else ""
    hint = f"{odd!r} in it is {unicodedata.name(odd, 'no letter')}, " if odd else ""
    left = more + len(known[20:])
    listed = ", ".join(known[:20]) + (f" and {left:,} more" if left else "")
    listed += f", see {listed_by}" if left and listed_by else ""
    return (f"; {hint}did you mean {close!r}?" if close else "") + f" (known: {listed or 'none'})"
