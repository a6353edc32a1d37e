"""The report as a folder of pages: outputs/site/, index.html first. It needs no server and no network."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kdnb import __version__, files, paths
from kdnb.core.methods import METHODS
from kdnb.core.store import Run
from kdnb.report import glossary, own
from kdnb.report.contents import Contents
from kdnb.report.executed import Executed
from kdnb.report.hypertext import Addresses, Targets, finished
from kdnb.studies import registry

METRICS = {  # of a run, as its page has them: name -> (title, factor, digits)
    "entropy": ("entropy [nats]", 1, 3),
    "accuracy": ("accuracy [%]", 100, 1),
    "nll": ("NLL [nats]", 1, 3),
    "ece": ("ECE [%]", 100, 1),
    "confidence": ("confidence", 1, 3),
    "agreement": ("agreement with its teacher [%]", 100, 1),
    "kl_to_teacher": ("KL from its teacher [nats]", 1, 3),
}
MADE = {"revision": "commit", "peak_memory_mib": "peak memory [MiB]", "seconds": "seconds in all"}
WIDTH, HEIGHT, EDGE = 400, 120, 6  # of a curve, in its own units


@dataclass(frozen=True)
class Page:
    """A page before it is finished: its file in the folder, its template, and what that is given."""

    file: str
    template: str
    facts: dict[str, Any]

    @property
    def up(self) -> str:
        """From it to the folder."""
        return "../" * self.file.count("/")


def write(told: Contents) -> Path:
    """Write outputs/site/, whole or not at all.

    Args:
        told: what it holds.
    Returns:
        The path of its first page.
    Raises:
        OSError: the disk is full or refuses; the folder is as it was.
    """
    files.write_folder(paths.SITE, lambda folder: _fill(folder, told))
    return paths.SITE / "index.html"


def _fill(folder: Path, told: Contents) -> None:
    sheet = own.environment().get_template("style.css").render()
    files.write_atomically(folder / "style.css", sheet.encode())
    back = '<p><a href="index.html">Back to the report</a></p>'
    explorer = paths.EXPLORER.read_text(encoding="utf-8").replace("<header>", f"<header>\n{back}", 1)
    files.write_atomically(folder / "explorer.html", explorer.encode())
    parts = _contents(told)
    menu = [("index.html", "Answer"), *((address, words) for address, words, _ in parts)]
    of = {one.notebook: one for one in reversed(told.notebooks)}
    for page in _pages(told, parts):
        to = Addresses(up=page.up)
        facts = {"version": __version__, "told": told, "to": to, "menu": menu, "here": page.file, **page.facts}
        text = own.template(page.template).render(facts)
        links = {f"{name}.ipynb": to.notebook(one) for name, one in of.items()}
        links["glossary.md"] = f"{page.up}glossary.html"
        runs = {run_id: to.run(run_id) for run_id in told.names}
        name = "" if page.template == "glossary.html" else f"{page.up}glossary.html"
        where = paths.inside(folder / Path(page.file).parent, Path(page.file).name)
        files.write_atomically(where, finished(text, Targets(runs, links, name)).encode())


def _contents(told: Contents) -> list[tuple[str, str, str]]:
    """The pages that every page leads to: address, words, what is there."""
    rows = [
        ("ledger.html", "Ledger", "every claim with its verdict on each task"),
        ("tables.html", "Tables", "ours beside the published numbers, and what does not add up in these"),
        ("notebooks.html", "Notebooks", "each as executed, on a page of its own"),
        ("runs.html", "Runs", "the record of every run behind a number: settings, metrics, commit, hardware"),
        ("explorer.html", "Explorer", "to be moved: targets in the simplex, single digits, all committed runs"),
        ("glossary.html", "Glossary", "what each word and symbol means here"),
    ]
    return [*([("own.html", "Your data", "the comparisons on your own data")] if told.own else []), *rows]


def _pages(told: Contents, parts: list[tuple[str, str, str]]) -> Iterator[Page]:
    """Every page of the site."""
    yield Page("index.html", "index.html", {"contents": parts})
    yield Page("ledger.html", "ledger.html", _matrices(told))
    yield Page("tables.html", "tables.html", {"matrices": _tables(told)})
    yield Page("notebooks.html", "notebooks.html", {})
    yield Page("runs.html", "runs.html", {"groups": _groups(told)})
    of = {one.notebook: one for one in reversed(told.notebooks)}
    yield Page("glossary.html", "glossary.html", {"terms": glossary.terms(), "notebooks": of})
    if told.own:
        yield Page("own.html", "own_data.html", {})
    for part in told.studies:
        on_it = [one for one in told.notebooks if one.parameters.get("task") == part["task"]]
        yield Page(f"tasks/{part['task']}.html", "task.html", {"s": part, "notebooks": on_it})
    beside: list[Executed | None] = [None, *told.notebooks, None]
    for before, page, after in zip(beside, told.notebooks, beside[2:], strict=False):
        facts = {"n": page, "before": before, "after": after}
        yield Page(f"notebooks/{page.name}.html", "executed.html", facts)
    used = _uses(told)
    for run in told.runs.values():
        yield Page(f"runs/{run.run_id}.html", "run.html", {"r": {**_run(run), "used": used[run.run_id]}})
    for name, record in told.records.items():
        yield Page(f"runs/{name}.html", "run.html", {"r": {**_record(name, **record), "used": used[name]}})


def _matrices(told: Contents) -> dict[str, list[dict[str, Any]]]:
    """The claims of all tasks, a row each, a cell a task: those stated before the runs, and the exploratory ones."""
    return {"stated": _matrix(told, "ledger"), "explored": _matrix(told, "explored")}


def _matrix(told: Contents, kind: str) -> list[dict[str, Any]]:
    cells = {part["task"]: {row["id"]: {**row, "task": part["task"]} for row in part[kind]} for part in told.studies}
    rows = {row["id"]: row["statement"] for part in told.studies for row in part[kind]}
    return [
        {"id": name, "statement": statement, "cells": [of_task.get(name) for of_task in cells.values()]}
        for name, statement in rows.items()
    ]


def _tables(told: Contents) -> list[dict[str, Any]]:
    """Every metric's table, an arm a row, a task a column."""
    matrices = []
    for number, first in enumerate(told.studies[0]["tables"] if told.studies else ()):
        by_task = [{row["name"]: row for row in part["tables"][number]["rows"]} for part in told.studies]
        names = dict.fromkeys(name for rows in by_task for name in rows)
        rows = {name: [of_task.get(name) for of_task in by_task] for name in names}
        matrices.append({"metric": first["metric"], "unit": first["unit"], "rows": rows})
    return matrices


def _groups(told: Contents) -> list[dict[str, Any]]:
    """The runs by task, by name within it."""
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for run_id, run in sorted(told.runs.items()):
        test = run.metrics["test"]
        groups[run.config.task].append(
            {
                "id": run_id,
                "method": f"{run.config.method}, {run.config.student}",
                "entropy": _printed("entropy", test["entropy"]),
                "accuracy": _printed("accuracy", test["accuracy"]),
                "seconds": f"{run.metrics['cost']['seconds']:.0f}",
            }
        )
    for name, record in told.records.items():
        seconds = _told(round(record["metrics"].get("cost", {}).get("seconds", 0)))
        groups["other records"].append({"id": name, "method": record["config"].get("kind", ""), "seconds": seconds})
    return [{"task": task, "runs": runs} for task, runs in groups.items()]


def _uses(told: Contents) -> dict[str, list[tuple[str, str]]]:
    """run_id -> address and words of each table, claim and notebook that a run is part of."""
    used: dict[str, dict[str, str]] = defaultdict(dict)
    for run_ids, address, words in (*_numbers(told), *_mentions(told)):
        for run_id in run_ids:
            used[run_id].setdefault(address, words)
    return defaultdict(list, {run_id: list(places.items()) for run_id, places in used.items()})


Use = tuple[Iterable[str], str, str]  # run_ids, address from a run's page, words


def _numbers(told: Contents) -> Iterator[Use]:
    """The tables and claims that runs are part of."""
    to = Addresses(up="../")
    for part in told.studies:
        task = part["task"]
        for row in part["tables"][0]["rows"]:
            yield row["run_ids"], to.task(task), f"tables of {task}: {row['name']}"
        for row in [*part["ledger"], *part["explored"]]:
            yield row["run_ids"], to.task(task, row["id"]), f"claim {row['id']} on {task}: {row['statement']}"
        for row in (row for kind in part["searched"] for row in kind["rows"]):
            yield row["run_ids"], f"{to.task(task)}#searched", f"{task} by other runs"
    for row in told.drawn:
        yield row["run_ids"], f"{to.up}ledger.html#drawn-{row['id']}", f"claim {row['id']}: {row['statement']}"
    for number, part in enumerate(told.own, 1):
        yield part["runs"], f"{to.up}own.html#own-{number}", f"your data, {part['title']}"


def _mentions(told: Contents) -> Iterator[Use]:
    """The cells of notebooks whose outputs name runs."""
    to = Addresses(up="../")
    for page in told.notebooks:
        for cell, text in page.shows.items():
            address = f"{to.notebook(page)}#{page.anchor(cell)}"
            yield set(told.names) & set(text.split()), address, f"notebook {page.notebook}, cell {cell}"


def _run(run: Run) -> dict[str, Any]:
    """A run as its page tells of it."""
    registry.methods()
    config, cost, test = run.config, run.metrics["cost"], run.metrics["test"]
    names = [name for name in METRICS if name in test]
    settings = [(field.name, getattr(config, field.name), field.metadata.get("help", "")) for field in fields(config)]
    return {
        "id": run.run_id,
        "what": f"{METHODS[config.method].title}, the {config.student} model, on {config.task}, seed {config.seed}.",
        "teacher": getattr(config, "teacher_run", ""),
        "heads": [METRICS[name][0] for name in names],
        "metrics": [
            {"split": split, "cells": [_printed(name, run.metrics[split].get(name)) for name in names]}
            for split in run.logits
        ],
        "curve": _curve(run),
        "made": _made(cost),
        "settings": settings,
    }


def _record(name: str, config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """A record that is no classification run, as its page tells of it."""
    return {
        "id": name,
        "what": f"A record of kind {config.get('kind', 'unknown')}.",
        "measured": [(name.replace("_", " "), _told(value)) for name, value in metrics.items() if name != "cost"],
        "made": _made(metrics.get("cost", {})),
        "settings": [(name, _told(value), "") for name, value in config.items()],
    }


def _made(cost: dict[str, Any]) -> list[tuple[str, str]]:
    """Where a run was made and what it took, in words."""
    return [(MADE.get(name, name.replace("_", " ")), _told(value)) for name, value in cost.items()]


def _printed(metric: str, value: float | None) -> str:
    _, factor, digits = METRICS[metric]
    return "" if value is None else f"{factor * value:.{digits}f}"


def _told(value: Any) -> str:
    """A value of a run's cost in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _curve(run: Run) -> dict[str, str] | None:
    """The test entropy over a training as points of a line, and in words; None where it was not sampled."""
    rows = [(row["step"], row["test_entropy"]) for row in run.history if "test_entropy" in row]
    if len(rows) < 2:
        return None
    last, top = max(step for step, _ in rows) or 1, max(entropy for _, entropy in rows) or 1
    points = [
        (EDGE + (WIDTH - 2 * EDGE) * step / last, HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * entropy / top)
        for step, entropy in rows
    ]
    words = (
        f"Mean entropy of the sampled test rows [nats], from {rows[0][1]:.3f} at step {rows[0][0]:g} to "
        f"{rows[-1][1]:.3f} at step {rows[-1][0]:g}; the height is {top:.3f}, the lower edge 0."
    )
    return {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points), "words": words}
