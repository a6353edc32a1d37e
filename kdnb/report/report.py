"""The report: a small site and one file, with every table, figure and verdict, each number linked to its runs.

Both open with no network: pictures are inline, formulas are MathML, there is no script.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdnb import __version__, files, paths
from kdnb.core.store import Run
from kdnb.report import contents, own, site
from kdnb.report.contents import Contents
from kdnb.report.hypertext import Addresses, Targets, finished


def write(profile: str) -> Path:
    """Write outputs/site/ and outputs/report.html from the stored runs and the executed notebooks.

    Args:
        profile: a key of PROFILES.
    Returns:
        The path of the one file.
    Raises:
        ValueError: unknown profile.
        NoRuns: the store has no runs of that profile.
        OSError: the disk is full or refuses; what was there before stays.
    """
    told = contents.gather(profile)
    site.write(told)
    files.write_atomically(paths.REPORT, _one_file(told).encode())
    return paths.REPORT


def _one_file(told: Contents) -> str:
    """The report as one page."""
    to = Addresses(of_one_file=True)
    facts = {name: getattr(told, name) for name in ("profile", "lead", "between", "own", "studies", "notebooks")}
    page = own.template("report.html").render(
        **facts,
        version=__version__,
        drawn=told.drawn,
        notes=told.notes,
        records=[*map(_run, told.runs.values()), *(_record(name, one) for name, one in told.records.items())],
        to=to,
    )
    notebooks = {f"{one.notebook}.ipynb": to.notebook(one) for one in reversed(told.notebooks)}
    return finished(page, Targets({run_id: to.run(run_id) for run_id in told.names}, notebooks))


def _run(run: Run) -> dict[str, str]:
    """A run's row in the appendix."""
    test = run.metrics["test"]
    row = _record(run.run_id, {"config": asdict(run.config), "metrics": run.metrics})
    return row | {"entropy": f"{test['entropy']:.3f}", "accuracy": f"{100 * test['accuracy']:.1f}"}


def _record(name: str, of: dict[str, Any]) -> dict[str, str]:
    """The row of a record that has no posteriors of one test split."""
    cost = of["metrics"].get("cost", {})
    where = ", ".join(str(cost[part]) for part in ("device", "precision") if part in cost)
    seconds = f"{cost['seconds']:.0f}" if "seconds" in cost else ""
    return {"id": name, "seconds": seconds, "where": where, "json": json.dumps(of, indent=1)}
