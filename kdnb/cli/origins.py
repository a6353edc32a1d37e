"""Where the data of runs came from: noted when they are trained on, so that a run's data can be made again."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb import files, paths
from kdnb.core import store
from kdnb.data.own import OwnData
from kdnb.data.splits import AS_PROFILE, Rows

if TYPE_CHECKING:
    from kdnb.core.config import RunConfig
    from kdnb.data.splits import TaskData

_MADE = {"rows": Rows, "own": OwnData}
_NOTED = {"task": str, "profile": str, "rows": dict, "own": dict | None}


def note(data: "TaskData", asked: dict[str, Any]) -> None:
    """Remember what data were made of, by their fingerprint, where their task and profile do not say it.

    Args:
        data: the splits.
        asked: the arguments of `kdnb.cli.train.task_data`; files are noted with their whole path.
    """
    if not asked.get("own") and asked["rows"] == AS_PROFILE:
        return  # the name of its task is enough
    store.check_writable()
    plain = {**asked, "rows": dataclasses.asdict(asked["rows"])}
    if own := plain.get("own"):
        plain["own"] = dataclasses.asdict(own.whole())
    files.write_json(paths.inside(paths.ORIGINS, f"{data.fingerprint}.json"), plain)  # files that were moved, anew


def data_of(config: "RunConfig", own: OwnData | None = None, rows: Rows = AS_PROFILE) -> "TaskData":
    """The data that a run was trained on, made again.

    Args:
        config: of the run.
        own: the user's files, for a run of texts of their own; without a path, those that were noted.
        rows: kept of each split; AS_PROFILE for as many as were noted.
    Raises:
        ValueError: it is not known where they came from, or they are not the same any more.
    """
    from kdnb.cli.train import task_data

    again = "kdnb compare --data FILE says it anew, and kdnb export takes --data, --text, --label"
    asked = _noted(config.data)
    asked["rows"] = rows if rows != AS_PROFILE else asked.get("rows", AS_PROFILE)
    if own and own.path:
        asked = {**asked, "task": "", "profile": config.profile, "own": own}
    elif noted := asked.get("own"):
        if gone := next((path for path in noted.files.values() if not Path(path).exists()), ""):
            raise ValueError(f"run {config.run_id()}: its texts were in {gone}, which is not there any more; {again}")
    elif "own" not in asked and config.task.startswith("own:"):
        raise ValueError(f"run {config.run_id()}: where its texts are is not known here; {again}")
    data = task_data(**{"task": config.task, "profile": config.profile, **asked})
    if data.fingerprint != config.data:
        if config.task.startswith("own:"):
            raise ValueError(
                f"run {config.run_id()}: these texts (data {data.fingerprint}) are not those that it was trained on "
                f"(data {config.data}); other files, columns or numbers of rows?"
            )
        raise ValueError(
            f"run {config.run_id()} used another cut of {config.task} (--train-rows?); run its command again"
        )
    return data


def _noted(data: str) -> dict[str, Any]:
    """What was noted of data: arguments of `task_data`, {} for nothing.

    Raises:
        ValueError: what is there was not written by `note`.
    """
    path = paths.inside(paths.ORIGINS, f"{data}.json")
    asked = files.read_json(path)
    try:
        if odd := [name for name in asked if name not in _NOTED or not files.fits(asked[name], _NOTED[name])]:
            raise ValueError(f"{odd[0]} is {repr(asked[odd[0]])[:60]}")
        made: dict[str, Any] = {
            name: files.made(kind, asked[name]) for name, kind in _MADE.items() if asked.get(name) is not None
        }
    except ValueError as error:
        raise ValueError(f"{path} does not say where data came from ({error}); remove it, and name the data") from None
    return {**asked, **made}
