"""Where the data of runs came from: noted when they are trained on, so that a run's data can be made again."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb import files, paths
from kdnb.core import store
from kdnb.data.own import OwnData

if TYPE_CHECKING:
    from kdnb.core.config import RunConfig
    from kdnb.data.splits import TaskData


def note(data: "TaskData", asked: dict[str, Any]) -> None:
    """Remember what data were made of, by their fingerprint, where their task and profile do not say it.

    Args:
        data: the splits.
        asked: the arguments of `kdnb.cli.train.task_data`; files are noted with their whole path.
    """
    if not asked.get("own") and asked.get("train_rows") is None:
        return  # the name of its task is enough
    store.check_writable()
    plain = dict(asked)
    if own := plain.get("own"):
        content = dataclasses.asdict(own)
        for name in ("path", "validation", "test"):
            content[name] = str(Path(content[name]).resolve()) if content[name] else ""
        plain["own"] = content
    path = paths.inside(paths.ORIGINS, f"{data.fingerprint}.json")
    if not path.exists():
        files.write_json(path, plain)


def data_of(config: "RunConfig", own: OwnData | None = None, train_rows: int | None = None) -> "TaskData":
    """The data that a run was trained on, made again.

    Args:
        config: of the run.
        own: the user's files, for a run of texts of their own; without a path, those that were noted.
        train_rows: train rows kept; None for as many as were noted.
    Raises:
        ValueError: it is not known where they came from, or they are not the same any more.
    """
    from kdnb.cli.train import task_data

    asked = files.read_json(paths.inside(paths.ORIGINS, f"{config.data}.json"))
    if train_rows is not None:
        asked["train_rows"] = train_rows
    if own and own.path:
        asked = {**asked, "task": "", "profile": config.profile, "own": own}
    elif asked.get("own"):
        asked["own"] = OwnData(**asked["own"])
    elif "own" not in asked and config.task.startswith("own:"):
        raise ValueError(f"run {config.run_id()}: where its texts are is not known here; give --data, --text, --label")
    data = task_data(**{"task": config.task, "profile": config.profile, **asked})
    if data.fingerprint != config.data:
        if config.task.startswith("own:"):
            raise ValueError(
                f"run {config.run_id()}: these texts (data {data.fingerprint}) are not those that it was trained on "
                f"(data {config.data}); other files, columns or --train-rows?"
            )
        raise ValueError(
            f"run {config.run_id()} used another cut of {config.task} (--train-rows?); run its command again"
        )
    return data
