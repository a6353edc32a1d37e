"""What the report says, as text and numbers: sentences, tables, verdicts, pictures; how it looks is for the pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdnb import files
from kdnb.analysis import figures
from kdnb.analysis.ledger import DESCRIPTIVE, as_printed, over_tasks
from kdnb.analysis.ledger_text import OVER_CONFIDENT, over_confident, spanned
from kdnb.catalog import PROFILES, TASKS
from kdnb.core import store
from kdnb.core.store import Run
from kdnb.errors import DamagedRun, nearest
from kdnb.experiment import footprint, tables
from kdnb.report import executed, own
from kdnb.report import notebooks as runner
from kdnb.report.executed import Executed
from kdnb.studies import registry
from kdnb.studies.label_smoothing import evidence, paper
from kdnb.studies.two_effects import cells
from kdnb.sweeps import stored


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that a report of one profile holds.

    Attributes:
        profile: a key of PROFILES.
        lead: the answer's sentences, and its picture with alt text where it has one.
        between: the claims with the task as the unit, a row each.
        own: a `own.section` for each comparison on the user's own data.
        studies: a part for each named task, as `section` makes it.
        notebooks: those that were executed.
        drawn: the claims that need no stored run.
        notes: what does not add up in the printed tables, by id.
        runs: run_id -> every run that a number is linked to.
        records: the same for records that are no classification runs: name -> config and metrics.
    """

    profile: str
    lead: dict[str, Any]
    between: list[dict[str, Any]]
    own: list[dict[str, Any]]
    studies: list[dict[str, Any]]
    notebooks: list[Executed]
    drawn: list[dict[str, Any]]
    notes: dict[str, str]
    runs: dict[str, Run]
    records: dict[str, dict[str, Any]]

    @property
    def names(self) -> list[str]:
        """Of all runs and records."""
        return [*self.runs, *self.records]


def gather(profile: str) -> Contents:
    """The contents of a profile's report, from the stored runs and the executed notebooks.

    Args:
        profile: a key of PROFILES.
    Raises:
        ValueError: unknown profile.
        NoRuns: the store has no runs of that profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    on_own_data = own.stored(profile)
    studies = _studies(profile, bool(on_own_data))
    pages = sorted(executed.read(runner.study_steps(profile)), key=lambda page: page.notebook)
    sections = [section(study, pages) for study in studies]
    tables_of = {part["task"]: part["table"] for part in sections}
    runs = {run_id: run for part in [*on_own_data, *sections] for run_id, run in part["runs"].items()}
    told = drawn(pages)
    records = _records({run_id for row in told for run_id in row["run_ids"]} - runs.keys())
    for row in told:
        row["run_ids"] = [run_id for run_id in row["run_ids"] if run_id in runs or run_id in records]
    return Contents(
        profile=profile,
        lead=_lead(profile, tables_of),
        between=[_of_tasks(row) for row in over_tasks(tables_of).itertuples()] if len(tables_of) > 1 else [],
        own=on_own_data,
        studies=sections,
        notebooks=pages,
        drawn=told,
        notes=paper.notes(),
        runs=runs,
        records=records,
    )


def _records(names: set[str]) -> dict[str, dict[str, Any]]:
    """Config and metrics of stored records by name; those that are not there, or damaged, are left out."""
    found = {}
    for name in sorted(names):
        try:
            metrics, _ = store.read_metrics(name)
        except (OSError, DamagedRun):
            continue
        found[name] = {"config": files.read_json(store.folder(name) / "config.json"), "metrics": metrics}
    return found


def _studies(profile: str, none_will_do: bool) -> list[tables.Study]:
    """Every named task's comparison that the store holds at this profile; those with all arms first."""
    found = []
    for task in TASKS:
        try:
            found.append(tables.study(task, profile))
        except tables.NoRuns:
            continue
    if not found and not none_will_do:
        raise tables.NoRuns(f"no runs at profile {profile}: make them with `kdnb study --profile {profile}`")
    return sorted(found, key=lambda study: -study.table.arm.nunique())


def section(study: tables.Study, pages: Sequence[Executed] = ()) -> dict:
    """One task's part: caption, answer, picture, the two tables, the ledger, and the runs they link to.

    Args:
        study: its runs.
        pages: executed notebooks, of which cells are named that show the same.
    """
    others = registry.evidence(study)
    ledger = registry.ledger(study, others=others)
    decided = ledger[ledger.verdict != "no runs"]
    searched = _searched(others, pages)
    linked = {run_id for ids in decided.run_ids for run_id in ids}
    linked |= {run_id for kind in searched for row in kind["rows"] for run_id in row["run_ids"]}
    further = (item for other in others.values() if other for item in other.runs.items())
    runs = study.runs | {run_id: run for run_id, run in further if run_id in linked}
    task = TASKS[study.task]
    return {
        "task": study.task,
        "table": ledger,
        "title": task.caption,
        "question": task.question,
        "caption": study.caption,
        "rows": study.caption.rpartition(": ")[2],
        "ledger": [claim(row, pages, study.task) for row in decided[~decided.exploratory].itertuples()],
        "explored": [claim(row, pages, study.task) for row in decided[decided.exploratory].itertuples()],
        "picture": _picture(study),
        "alt": _alt(study),
        "answer": answer(ledger),
        "searched": searched,
        "silent": ", ".join(ledger[ledger.verdict == "no runs"].id),
        "runs": runs,
        "degenerate": study.table[study.table.degenerate].run_id.tolist(),
        "count": len(study.table),
        "sizes": [footprint.told(row) for row in footprint.rows(study.runs.values())],
        "tables": [_table(study, pages, metric) for metric in TABLES],
    }


def _table(study: tables.Study, pages: Sequence[Executed], metric: str) -> dict:
    """A metric of every arm beside the published one, and the cell of a notebook that prints the same."""
    unit, scale, digits = TABLES[metric]
    ours = rows(study, metric, scale, digits)
    place = executed.printing(pages, (row["ours"] for row in ours), study.task)
    return {"metric": metric, "unit": unit, "rows": ours, "shown": place}


TABLES = {"entropy": ("nats", 1, 3), "accuracy": ("%", 100, 1)}  # metric -> unit, factor, digits
LEAD = {  # the claims that answer the question -> how their sentence begins
    "H18.1": "A target's softness moves a student's entropy by",
    "H18.2": "The teacher's labels move it by",
    "H3.1": "Label smoothing moves it by",
}
MOST = 4  # tasks in the first picture


def _lead(profile: str, ledgers: dict[str, pd.DataFrame]) -> dict:
    """The first page: a sentence for each claim that answers the question, and the picture of the two effects."""
    sentences = []
    for name, words in LEAD.items():
        rows = {task: ledger.set_index("id").loc[name] for task, ledger in ledgers.items()}
        told = [f"{_told(row)} on {task}" for task, row in rows.items() if row.n]
        if told:
            sentences.append(f"{words} {'; '.join(told)}")
    softness = {task: stored.of_grid("softness", task, profile) for task in ledgers}
    found = {task: study for task, study in softness.items() if study and len(cells.two_by_two(study))}
    return {"sentences": sentences, **(_two_effects(dict(list(found.items())[:MOST])) if found else {})}


def _told(row) -> str:
    """A row's effect, unit and interval, and its verdict where it does not hold; in brackets what stands beside it."""
    effect, low, high = (as_printed(value, row.unit) for value in (row.effect, row.low, row.high))
    verdict = f", {row.verdict}" if row.verdict != "holds" else ""
    beside = [f"NLL {spanned(row.nll, row.nll_low, row.nll_high, 'nats')}"]
    beside += [f"accuracy {spanned(row.accuracy, row.accuracy_low, row.accuracy_high, 'points')} points"]
    beside += [f"{row.degenerate} of {len(row.run_ids)} runs learnt nothing"] * bool(row.degenerate)
    return f"{effect} {row.unit} [{low}, {high}]{verdict} ({'; '.join(beside)})"


def _two_effects(found: dict[str, tables.Study]) -> dict[str, str]:
    """The two by two of some tasks as an inline PNG, and in words."""
    import matplotlib.pyplot as plt

    from kdnb.studies.two_effects import figures as drawing

    figures.theme()
    figure = plt.figure(figsize=(max(5.6, 3.4 * len(found)), 3.9), layout="constrained")
    drawing.two_by_twos(found, figure)
    parts = []
    for task, study in found.items():
        effects = cells.effects(cells.two_by_two(study))
        parts.append(f"{task}: " + ", ".join(f"{row.of} {row.effect:+.3f}" for row in effects.itertuples()))
    return {
        "picture": figures.png(figure),
        "alt": f"Test entropy of students by target, effects in nats. {'; '.join(parts)}",
    }


def _picture(study: tables.Study) -> str:
    """Entropy per arm as an inline PNG."""
    import matplotlib.pyplot as plt

    figures.theme()
    figure, ax = plt.subplots(figsize=(9, 4))
    figures.seed_dots(study.table, "entropy", ax, paper.printed_as(study.table, study.task, "entropy"))
    figures.entropy_axis(ax, study.num_classes)
    ax.set_title("Does distillation move confidence the way label smoothing does?")
    return figures.png(figure)


def _alt(study: tables.Study) -> str:
    means = tables.spread(study.table, "entropy")
    told = ", ".join(f"{row.name} {row.mean:.3f}" for row in means.itertuples())
    return f"Mean test entropy in nats per arm, a dot per seed, published values as hollow diamonds: {told}."


def drawn(pages: Sequence[Executed] = ()) -> list[dict]:
    """The claims that need no stored run, as text; those that nobody has simulated are left out.

    Args:
        pages: executed notebooks, of which cells are named that tell of a claim.
    """
    ledger = registry.simulated_ledger()
    return [claim(row, pages) for row in ledger.itertuples() if row.verdict != "no runs"]


def claim(row, pages: Sequence[Executed] = (), task: str = "") -> dict:
    """A row of the ledger as text.

    Args:
        row: of a ledger, as a named tuple.
        pages: executed notebooks, of which a cell is named that tells of the claim.
        task: the ledger's; "" for none.
    """

    def span(low: float, high: float) -> str:
        return f"[{as_printed(low, row.unit)}, {as_printed(high, row.unit)}]"

    over_seeds = "exact" if pd.isna(row.p) and not row.run_ids else span(row.low, row.high) if row.n > 1 else "one seed"
    over_examples = span(row.example_low, row.example_high) if row.bootstrap != "none" else "–"
    return {
        "id": row.id,
        "statement": row.statement,
        "test": row.test,
        "source": row.source,
        "published": row.published,
        "effect": f"{as_printed(row.effect, row.unit)} {row.unit}",
        "seeds": over_seeds,
        "n": row.n,
        "signs": row.signs,
        "examples": over_examples + ("*" if row.bootstrap == "percentile" else ""),
        "degenerate": row.degenerate,
        "beside": _beside(row),
        "over_confident": OVER_CONFIDENT if over_confident(row) else "",
        "candidates": row.candidates,
        "verdict": row.verdict,
        "run_ids": row.run_ids,
        "corrected": _p(row.p_holm),
        "shown": executed.naming(pages, row.id, task),
    }


def _beside(row) -> list[str]:
    """NLL and accuracy of the same runs, where the effect is one of entropy."""
    if pd.isna(row.nll):
        return []
    nll = spanned(row.nll, row.nll_low, row.nll_high, "nats")
    accuracy = spanned(row.accuracy, row.accuracy_low, row.accuracy_high, "points")
    return [f"{nll} nats", f"{accuracy} points"]


def _searched(others: dict[str, tables.Study | None], pages: Sequence[Executed]) -> list[dict]:
    """The claims at fixed settings once more, by runs selected as the paper selected its own, and by longer ones."""
    found = []
    for grid, words in evidence.ANEW.items():
        if study := others.get(grid):
            ledger = registry.ledger(study, ("H3", "H4"))
            ledger = ledger[~ledger.verdict.isin(["no runs", DESCRIPTIVE])]
            found.append(
                {"words": f"{grid}: {words}", "rows": [claim(row, pages, study.task) for row in ledger.itertuples()]}
            )
    return found


def _of_tasks(row) -> dict:
    """A row of `over_tasks` as text."""
    effect, low, high = (as_printed(value, row.unit) for value in (row.effect, row.low, row.high))
    return {
        **{name: getattr(row, name) for name in ("id", "statement", "n", "left_out", "verdict")},
        "effect": f"{effect} {row.unit}",
        "span": f"[{low}, {high}]" if row.n > 1 else "one task",
        "corrected": _p(row.p_holm),
    }


def _p(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}" if value >= 0.0005 else "< .001"


def rows(study: tables.Study, metric: str, scale: float, digits: int) -> list[dict]:
    """Ours beside published, as text."""
    found, spread = [], tables.spread(study.table, metric)
    degenerate = dict(zip(spread.arm, spread.degenerate, strict=True))
    for row in paper.beside(spread, study.task, metric).itertuples():
        has, learnt_nothing = pd.notna(row.published), degenerate[row.arm]
        found.append(
            {
                "name": row.name,
                "ours": f"{row.ours * scale:.{digits}f}",
                "source": row.source,
                "n": f"{row.n} ({learnt_nothing} degenerate)" if learnt_nothing else row.n,
                "sd": f"{row.sd * scale:.{digits}f}" if row.n > 1 else "",
                "published": f"{row.published * scale:.{4 if scale == 1 else 1}f}" if has else "",
                "difference": f"{row.difference * scale:+.{digits}f}" if has else "",
                "run_ids": row.run_ids,
            }
        )
    return found


def answer(ledger: pd.DataFrame) -> str:
    """What the decisive claims say, in a sentence: verdicts, whether Holm's correction leaves them, degenerate runs."""
    rows, parts = ledger.set_index("id"), []
    answers = {name: words for chapter in registry.chapters() for name, words in chapter.answers.items()}
    for name, words in answers.items():
        if name in rows.index and rows.verdict[name] != "no runs":
            row = rows.loc[name]
            undone = row.verdict != "undecided" and not row.p_holm < 0.05
            notes = ["not after Holm's correction"] * undone
            notes += [f"{row.degenerate} of the {len(row.run_ids)} runs learnt nothing"] * bool(row.degenerate)
            parts.append(f"{words}: {row.verdict}" + f" ({', '.join(notes)})" * bool(notes))
    return f"At fixed hyper-parameters, none of them searched: {'; '.join(parts)}" if parts else ""
