"""Records of experiments that are no classification run: loaded by their name, or made and stored once."""

import difflib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from kdnb import paths
from kdnb.core import store
from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.errors import DamagedRun, nearest
from kdnb.experiment.obtain import lock, set_aside

Named = TypeVar("Named", bound=Identity)
What = TypeVar("What")


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an experiment gives: see `kdnb.core.store.Record`."""

    arrays: Mapping[str, np.ndarray]
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, float]] = field(default_factory=list)


def nearest_runs(name: str, others: Sequence[str] = ()) -> str:
    """The end of an error message on a run that is not stored: the closest of the user's own, then of committed ones.

    Args:
        name: what was given for a run.
        others: what else could have been given.
    """
    ids = store.stored_ids()
    own = [run_id for run_id in ids if (paths.RUNS / run_id).is_dir()]
    committed = sorted(set(ids) - set(own))
    close = [one for names in (own, others, committed) for one in _closest(name, names)]
    return nearest(name, close, len({*ids} - {*close}), "kdnb runs list")


def _closest(name: str, names: Sequence[str]) -> Sequence[str]:
    """Three of some names, the closest first where any are alike."""
    return difflib.get_close_matches(name, names[:2000], cutoff=0.3) or names[:3]


def stored(identity: Identity) -> Record | None:
    """The record of an experiment; None if there is none, or it is damaged, which is said on stderr."""
    try:
        return store.read(identity.run_id())
    except FileNotFoundError:
        return None
    except DamagedRun as error:
        print(f"kdnb: {error}; it is made again", file=sys.stderr)
        return None


def read_if_whole(read: Callable[[str], What], run_id: str) -> What | None:
    """What a table takes from the store; None where it is missing or damaged, which is said on stderr: a gap.

    Args:
        read: `store.read`, `store.load` or `store.read_metrics`.
        run_id: the name of a run or record.
    """
    try:
        return read(run_id)
    except FileNotFoundError as error:
        print(f"kdnb: {error}; what needs it is left out", file=sys.stderr)
    except DamagedRun as error:
        print(f"kdnb: {error}; left out. To redo it: kdnb runs verify --redo", file=sys.stderr)
    return None


def those_stored(experiments: Iterable[Named]) -> dict[Named, Record]:
    """Those of some experiments that the store has, with their records; damaged ones are said and left out."""
    names = set(store.stored_ids())
    found = {one: read_if_whole(store.read, one.run_id()) for one in experiments if one.run_id() in names}
    return {one: record for one, record in found.items() if record}


def obtain(identity: Identity, make: Callable[[], Made]) -> Record:
    """The record of an experiment: loaded, else made and stored. Two processes that ask for one make it once.

    Args:
        identity: everything that decides it, and so its name.
        make: makes it; how long that took and where is added to its metrics as "cost".
    Raises:
        StoreError: the outputs folder cannot be written.
    """
    if record := stored(identity):
        return record
    store.check_writable()
    with lock(identity.run_id()):
        if record := stored(identity):
            return record
        if store.exists(identity.run_id()):
            set_aside(identity.run_id())
        from kdnb.core.device import precision  # torch, which loading need not wait for
        from kdnb.experiment.surroundings import fresh_peak, surroundings

        fresh_peak()
        started = time.perf_counter()
        made = make()
        kind = precision(getattr(identity, "precision", "fp32"))
        cost = {"seconds": round(time.perf_counter() - started, 1), **surroundings(kind)}
        store.write(identity, made.arrays, {**made.metrics, "cost": cost}, made.history)
    return store.read(identity.run_id())
