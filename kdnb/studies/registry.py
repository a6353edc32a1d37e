"""The studies, listed once. Ledger, grids, simulations, notebooks and report read them from here.

A study is a package `kdnb.studies.<name>` of which these modules are looked for; one that is not there adds nothing:

    methods       subclasses of `kdnb.core.methods.Method`: its own methods
    claims        CHAPTER, a `kdnb.analysis.ledger.Chapter`: its claims, how they are tested, by which runs
    grids         calls `kdnb.sweeps.grids.register` for each of its grids
    simulations   SIMULATIONS, claim id -> `kdnb.analysis.simulations.Simulation`
    notebooks     steps(profile) -> [(notebook, parameters), ...]: what the study's run executes

Nothing heavy is imported until it is asked for: grids by name need neither pandas nor torch.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from kdnb.sweeps import grids as axes

if TYPE_CHECKING:
    import pandas as pd

    from kdnb.analysis.ledger import Chapter, Claim, Evidence
    from kdnb.analysis.simulations import Simulation
    from kdnb.experiment.tables import Study

STUDIES = ("label_smoothing", "two_effects", "deviations", "dark_knowledge", "language_models")


def grids() -> dict[str, axes.Grid]:
    """Every study's grids by name; from here on `kdnb.sweeps` knows them."""
    list(modules("grids"))
    return axes.GRIDS


def methods() -> None:
    """Have every study's methods registered, so that configs and stored runs may name them."""
    list(modules("methods"))


def chapters() -> "list[Chapter]":
    """Every study's part of the ledger."""
    return [module.CHAPTER for module in modules("claims")]


def claims() -> "dict[str, Claim]":
    """Every study's claims by id."""
    return {claim.id: claim for chapter in chapters() for claim in chapter.claims.values()}


def evidence_kinds() -> "dict[str, Evidence]":
    """The kinds of runs that decide claims, by name."""
    from kdnb.analysis.ledger import EVIDENCE

    return EVIDENCE | {name: kind for chapter in chapters() for name, kind in chapter.evidence.items()}


def evidence(study: "Study") -> "dict[str, Study | None]":
    """The runs beside the fixed arms that decide claims on a study's task, by kind; None where they are missing."""
    grids()
    return {name: kind.runs(study) for name, kind in evidence_kinds().items() if kind.runs}


def ledger(
    study: "Study | None", only: tuple[str, ...] = (), others: "Mapping[str, Study | None] | None" = None
) -> "pd.DataFrame":
    """Every study's claims on one task, a row each: the columns of `kdnb.analysis.ledger.ledger`.

    Args:
        study: the fixed arms.
        only: how the ids begin, () for all.
        others: further evidence by its kind, as `evidence` gives it; None lists its claims with "no runs".
    """
    from kdnb.analysis import ledger as machinery

    return machinery.ledger(chapters(), {machinery.FIXED: study, **(others or {})}, only)


def by_task(profile: str, only: tuple[str, ...] = ()) -> "dict[str, pd.DataFrame]":
    """The claims on the fixed arms of every named task that has runs, as `ledger`, without chance over test examples.

    Args:
        profile: of the runs.
        only: how the ids begin, () for all.
    Returns:
        By task, for `kdnb.analysis.ledger.over_tasks`.
    """
    from kdnb.catalog import TASKS
    from kdnb.errors import NoRuns
    from kdnb.experiment import tables

    found = {}
    for task in TASKS:
        try:
            table = tables.study(task, profile).table
        except NoRuns:
            continue
        found[task] = ledger(tables.Study(task, profile, table, {}), only)
    return found


def simulated_ledger(only: tuple[str, ...] = ()) -> "pd.DataFrame":
    """The claims that simulations or a closed form decide, whatever the task.

    Args:
        only: how the ids begin, () for all.
    """
    from kdnb.analysis import ledger as machinery

    return machinery.ledger(chapters(), {machinery.SIMULATED: None}, only)


def simulations() -> "dict[str, Simulation]":
    """Every study's simulations by the id of the claim they decide; imports torch."""
    return {claim_id: one for module in modules("simulations") for claim_id, one in module.SIMULATIONS.items()}


def notebooks(profile: str) -> list[tuple[str, dict]]:
    """What `kdnb study` executes: (notebook, its parameters), those that write runs (the 20s) before those that read.

    Args:
        profile: a key of PROFILES.
    """
    steps = [step for module in modules("notebooks") for step in module.steps(profile)]
    return sorted(steps, key=lambda step: not step[0].startswith("2"))


def modules(part: str) -> Iterator[ModuleType]:
    """The module of one part of each study that has it."""
    for study in STUDIES:
        name = f"kdnb.studies.{study}.{part}"
        if importlib.util.find_spec(name) is not None:
            yield importlib.import_module(name)
