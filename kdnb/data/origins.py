"""Where the data of runs came from: noted when they are trained on, to be read again by a run or by a name."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb import files, paths
from kdnb.catalog import PROFILES
from kdnb.core import store
from kdnb.data import own as own_data
from kdnb.data import splits
from kdnb.data.own import OwnData
from kdnb.data.splits import AS_PROFILE, Rows, TaskData

if TYPE_CHECKING:
    from kdnb.core.config import RunConfig

AGAIN = "kdnb compare --data FILE says it anew, and kdnb export takes --data, --text, --label"
_MADE = {"rows": Rows, "own": OwnData}
_NOTED = {"task": str, "profile": str, "rows": dict, "own": dict | None}


def note(data: TaskData, asked: dict[str, Any]) -> None:
    """Remember what data were made of, by their fingerprint, where their task and profile do not say it.

    Args:
        data: the splits.
        asked: task, profile and rows, as `kdnb.data.splits.load`, and own, the user's files; these are noted with
            their whole path.
    """
    if not asked.get("own") and asked["rows"] == AS_PROFILE:
        return  # the name of its task is enough
    store.check_writable()
    plain = {**asked, "rows": dataclasses.asdict(asked["rows"])}
    if own := plain.get("own"):
        plain["own"] = dataclasses.asdict(own.whole())
    files.write_json(_path(data.fingerprint), plain)  # files that were moved, anew


def load(task: str, profile: str, rows: Rows = AS_PROFILE) -> TaskData:
    """The splits of a task by its name; for "own:<name>", of the user's file that a command was given last.

    Args:
        task: as `kdnb.data.splits.load`, or the user's own.
        profile: a key of PROFILES.
        rows: to keep; AS_PROFILE for as many as were noted of the user's file at this profile.
    Raises:
        ValueError: no file of this name was given, it is not there any more; and as `kdnb.data.splits.load` and
            `kdnb.data.own.load`.
    """
    if not task.startswith("own:"):
        return splits.load(task, profile, rows)
    own, noted = given(task, profile)
    rows = noted if rows == AS_PROFILE else rows
    data = own_data.load(own, profile, rows)
    note(data, {"task": "", "profile": profile, "rows": rows, "own": own})
    return data


def given(task: str, profile: str = "") -> tuple[OwnData, Rows]:
    """The user's files behind the name of a task of their own: what a command was given last, at a profile if it was.

    Args:
        task: "own:<name>".
        profile: a key of PROFILES.
    Returns:
        The files, and the numbers of rows that were asked for at this profile.
    Raises:
        ValueError: no file of this name was given, or it is not there any more.
    """
    noted = {name: _noted(name) for name in files.names(paths.ORIGINS)}
    of_task = {name: asked for name, asked in noted.items() if (own := asked.get("own")) and own.task == task}
    if not of_task:
        raise ValueError(
            f"{task}: no command was given such a file here; kdnb compare --data FILE --text COLUMN --label COLUMN"
        )
    last = max(of_task, key=lambda name: (of_task[name]["profile"] == profile, _path(name).stat().st_mtime_ns))
    asked = of_task[last]
    _check_there(asked["own"], task)
    return asked["own"], asked["rows"] if asked["profile"] == profile else AS_PROFILE


def data_of(config: "RunConfig", own: OwnData | None = None, rows: Rows = AS_PROFILE) -> TaskData:
    """The data that a run was trained on, made again.

    Args:
        config: of the run.
        own: the user's files, for a run of texts of their own; without a path, those that were noted.
        rows: kept of each split; AS_PROFILE for as many as were noted.
    Raises:
        ValueError: it is not known where they came from, or they are not the same any more.
    """
    asked = _noted(config.data)
    rows = rows if rows != AS_PROFILE else asked.get("rows", AS_PROFILE)
    if own and own.path:
        data = own_data.load(own, config.profile, rows)
    elif noted := asked.get("own"):
        _check_there(noted, f"run {config.run_id()}")
        data = own_data.load(noted, asked["profile"], rows)
    elif config.task.startswith("own:"):
        raise ValueError(f"run {config.run_id()}: where its texts are is not known here; {AGAIN}")
    else:
        data = splits.load(config.task, config.profile, rows)
    if data.fingerprint == config.data:
        return data
    if config.task.startswith("own:"):
        raise ValueError(
            f"run {config.run_id()}: these texts (data {data.fingerprint}) are not those that it was trained on "
            f"(data {config.data}); other files, columns or numbers of rows?"
        )
    raise ValueError(f"run {config.run_id()} used another cut of {config.task} (--train-rows?); run its command again")


def _check_there(own: OwnData, what: str) -> None:
    """Raise ValueError if one of the user's files is gone."""
    if gone := next((path for path in own.files.values() if not Path(path).exists()), ""):
        raise ValueError(f"{what}: its texts were in {gone}, which is not there any more; {AGAIN}")


def _path(data: str) -> Path:
    """The file of a note."""
    return paths.inside(paths.ORIGINS, f"{data}.json")


def _noted(data: str) -> dict[str, Any]:
    """What was noted of data: task, profile, rows, own; {} for nothing.

    Raises:
        ValueError: what is there was not written by `note`.
    """
    asked = files.read_json(_path(data))
    try:
        if odd := [name for name in asked if name not in _NOTED or not files.fits(asked[name], _NOTED[name])]:
            raise ValueError(f"{odd[0]} is {repr(asked[odd[0]])[:60]}")
        if asked and (lacking := [name for name in ("task", "profile", "rows") if name not in asked]):
            raise ValueError(f"{lacking[0]} is missing")
        if asked and asked["profile"] not in PROFILES:
            raise ValueError(f"profile is {asked['profile'][:60]!r}")
        made: dict[str, Any] = {
            name: files.made(kind, asked[name]) for name, kind in _MADE.items() if asked.get(name) is not None
        }
    except ValueError as error:
        raise ValueError(
            f"{_path(data)} does not say where data came from ({error}); remove it, and name the data"
        ) from None
    return {**asked, **made}
