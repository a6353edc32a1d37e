"""What a profile needs from elsewhere, brought into data_cache and checked: afterwards no network is needed."""

from collections.abc import Callable, Iterable, Sequence

from kdnb import paths
from kdnb.catalog import PROFILES, SOURCES, Task, defaults, source_of, task_named
from kdnb.data import assets, download, embedded, glue, hub, hub_sets
from kdnb.data.hub import Part
from kdnb.errors import nearest


def fetch(
    profile: str, tasks: Sequence[str] = (), models: Sequence[str] = (), say: Callable[[str], None] = print
) -> dict:
    """Have everything a profile needs on this machine; what is whole is kept, what is damaged is fetched again.

    Args:
        profile: a key of PROFILES.
        tasks: keys of TASKS, () for the profile's.
        models: keys of SOURCES, or id@commit of the hub, beside the profile's two.
        say: hears a line per repository.
    Returns:
        {"profile", "tasks", "data_cache", "files": {name: {"bytes", "sha256", "fetched"}}, "fetched", "kept"}.
    Raises:
        ValueError: an unknown profile, task or model.
        HubUnreachable: the hub does not answer, or lacks something.
        MissingAsset: the package index does not answer, or sends something else.
    """
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    for model in models:
        if source_of(model).kind == "folder":
            raise ValueError(f"model {model} is a folder of yours: expected a model of the catalog, or id@commit")
    names = tuple(tasks) or PROFILES[profile].tasks
    packaged, parts = needs(profile, [task_named(name) for name in names], models)
    for name in names:
        own = paths.GLUE / (task_named(name).glue_folder or name)
        if own.is_dir() and profile != "toy":
            say(f"{name}: GLUE's own files in {own} are read before any fetched ones")
    files: dict[str, dict] = {}
    for name in packaged:
        files |= _package(name, say)
    for part in parts:
        files |= download.bring(part, say)
    new = sum(entry["fetched"] for entry in files.values())
    summary = f"{new} fetched, {len(files) - new} kept" if files else "nothing to fetch, all of it is generated"
    say(f"{profile}: {summary}; {paths.DATA_CACHE}")
    where = {"profile": profile, "tasks": list(names), "data_cache": str(paths.DATA_CACHE)}
    return {**where, "files": files, "fetched": new, "kept": len(files) - new}


def needs(profile: str, tasks: Iterable[Task], models: Iterable[str] = ()) -> tuple[list[str], list[Part]]:
    """Packaged assets and hub files that a profile's models, some tasks and more models are made of.

    The tasks and models of `toy` are generated: nothing for them.
    """
    tasks = [task_named(task.name.partition("@")[0]) for task in tasks if profile != "toy"]  # noise is made here
    own = [defaults(profile, task.name) for task in tasks]
    sources = [SOURCES[name] for size in own for name in (size.large, size.small)]
    sources += [source_of(name) for name in models]
    packaged = [embedded.text_of(task.name) for task in tasks if task.source == "embedded"]
    packaged += [task.name for task in tasks if task.name in assets.PACKAGED]  # mnist5k is called as its task
    packaged += [source.where for source in sources if source.kind == "asset"]
    packaged += ["minilm"] if "minilm-l3" in packaged else []  # whose tokenizer it has
    wanted = [pattern for task in tasks if task.source == "glue" for pattern in glue.hub_set(task).files.values()]
    parts = [Part(glue.HUB_REPO, "dataset", glue.HUB_REVISION, tuple(wanted))] if wanted else []
    sets = [hub_sets.HUB_SETS[task.name] for task in tasks if task.source == "hub"]
    parts += [Part(one.repo, "dataset", one.revision, tuple(one.files.values())) for one in sets]
    parts += [Part(one.where, "model", one.revision, hub.MODEL_FILES) for one in sources if one.kind == "hub"]
    return list(dict.fromkeys(packaged)), list(dict.fromkeys(parts))


def is_here(part: Part) -> bool:
    """Whether a part's files lie in the data cache; none is opened, `kdnb fetch` does that."""
    entries = hub.in_manifest(part.repo, part.revision, part.patterns)
    return bool(entries) and all((paths.HUB / part.repo / name).is_file() for name in entries)


def _package(name: str, say: Callable[[str], None]) -> dict[str, dict]:
    """One packaged asset, whole: its entry by name; the sha256 is that of all its files together."""
    new = not assets.whole(name)
    if new:
        say(f"{assets.PACKAGED[name].requirement} ...")
    folder = assets.mend(name)
    say(f"{assets.PACKAGED[name].requirement}: {'fetched' if new else 'whole'}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {f"assets/{name}": {"bytes": size, "sha256": assets.PACKAGED[name].tree, "fetched": new}}
