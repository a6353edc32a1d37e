"""Files of the model hub, or of a mirror, at a pinned commit: each is put in its place once its bytes are checked."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from kdnb import paths
from kdnb.data import hub
from kdnb.data.hub import Listed, Part
from kdnb.errors import HubUnreachable
from kdnb.files import write_json


def obtain(part: Part) -> Path | None:
    """The folder of a repository's files, checked: fetched or mirrored before, else fetched now.

    Args:
        part: the files.
    Returns:
        The folder; None where they are not on this machine and the hub does not answer.
    Raises:
        HubUnreachable: the hub answers and does not have them, or breaks off.
        DamagedFetch: a file is not the one at the pinned commit.
    """
    if folder := hub.local(part.repo, part.revision, part.patterns):
        return folder
    if hub.state() != "reachable":
        return None
    bring(part)
    return paths.HUB / part.repo


def bring(part: Part, say: Callable[[str], None] = print) -> dict[str, dict]:
    """Have one repository's files, whole; what is whole is kept.

    Args:
        part: the files.
        say: hears a line.
    Returns:
        name -> {"bytes", "sha256", "fetched"}.
    Raises:
        HubUnreachable: the hub does not answer, or lacks something.
        DamagedFetch: what arrived is not the file that is listed.
        OSError: the disk is full or refuses.
    """
    folder = paths.HUB / part.repo
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.HUB / ".lock"):
        known = hub.manifest(part.repo) or {}
        files = known["files"] if known.get("revision") == part.revision else {}
        names = hub.choose(part.patterns, files)
        todo = hub.broken(folder, {name: files[name] for name in names})
        if todo or not names:
            origin = hub.source()
            listed = origin.files(part)
            if not (names := hub.choose(part.patterns, listed)):
                raise HubUnreachable(f"{part.repo}: {origin.name} lacks one of {', '.join(part.patterns)}")
            todo = [name for name in names if hub.broken(folder, {name: files.get(name, {})})]
            if known and not files:
                shutil.rmtree(folder)  # of another commit; its successor is within reach
            _bring(part, origin, {name: listed[name] for name in todo}, files, say)
    new = sum(files[name]["bytes"] for name in todo)
    outcome = f"{len(todo)} files fetched, {new / 1e6:.1f} MB" if todo else "whole"
    say(f"{part.repo} at {part.revision[:12]}: {outcome}")
    return {f"{part.repo}/{name}": {**files[name], "fetched": name in todo} for name in names}


def _bring(
    part: Part,
    origin: hub.Mirror | hub.Hub,
    listed: dict[str, Listed],
    files: dict[str, dict],
    say: Callable[[str], None],
) -> None:
    """Download files, put each in its place once it is whole, and write it into the manifest."""
    folder, scratch = paths.HUB / part.repo, paths.HUB / ".partial" / part.repo
    scratch.mkdir(parents=True, exist_ok=True)
    total, free = sum(one.size for one in listed.values()), shutil.disk_usage(paths.HUB).free
    if total > free:
        raise OSError(f"{part.repo} needs {total / 1e6:.0f} MB, {paths.HUB} has {free / 1e6:.0f} MB free")
    say(f"{part.repo} at {part.revision[:12]}: {len(listed)} files, {total / 1e6:.1f} MB from the {origin.name} ...")
    # All files stand in the first manifest: a fetch that was cut off is seen to be unfinished.
    files.update({name: {"bytes": one.size, "sha256": one.sha256} for name, one in listed.items()})
    for name, one in listed.items():
        arrived = origin.get(part, name, one, scratch)
        files[name]["sha256"] = hub.checked(arrived, one)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(arrived, target)
        _write_manifest(part, origin.name, files)
    shutil.rmtree(scratch, ignore_errors=True)


def _write_manifest(part: Part, source: str, files: dict[str, dict]) -> None:
    """Whole or not at all."""
    content = {"repo": part.repo, "revision": part.revision, "source": source, "files": files}
    write_json(paths.HUB / part.repo / hub.MANIFEST, content, durable=True)
