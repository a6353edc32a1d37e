"""The report: one HTML file with every table, figure and verdict, each number linked to its runs.

It opens with no network: pictures are inline, formulas are MathML, there is no script.
"""

import html
import json
import re
from dataclasses import asdict
from pathlib import Path

import nbformat
import pandas as pd
from markupsafe import Markup

from kdnb import __version__, files, paths
from kdnb.analysis import figures
from kdnb.analysis.ledger import as_printed, over_tasks
from kdnb.analysis.ledger_text import OVER_CONFIDENT, over_confident, spanned
from kdnb.catalog import PROFILES, TASKS
from kdnb.errors import nearest
from kdnb.experiment import footprint, tables
from kdnb.report import notebooks as runner
from kdnb.report import own
from kdnb.report.formulas import mathml
from kdnb.studies import registry
from kdnb.studies.label_smoothing import evidence, paper
from kdnb.studies.two_effects import cells
from kdnb.sweeps import stored


def write(profile: str) -> Path:
    """Write outputs/report.html from the stored runs and the executed notebooks; returns its path.

    Raises:
        ValueError: unknown profile. NoRuns: the store has no runs of that profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    on_own_data = own.stored(profile)
    sections = [_section(study) for study in _studies(profile, bool(on_own_data))]
    tables_of = {section["task"]: section["table"] for section in sections}
    page = own.template("report.html")
    runs = {run_id: run for section in [*on_own_data, *sections] for run_id, run in section["runs"].items()}
    notebooks = [_notebook(step) for step in runner.study_steps(profile) if step.output.exists()]
    text = page.render(
        version=__version__,
        profile=profile,
        lead=_lead(profile, tables_of),
        between=[_of_tasks(row) for row in over_tasks(tables_of).itertuples()] if len(tables_of) > 1 else [],
        own=on_own_data,
        studies=sections,
        notebooks=notebooks,
        drawn=drawn(),
        runs=[_run_facts(run) for run in runs.values()],
        notes=paper.notes(),
    )
    files.write_atomically(paths.REPORT, _link_runs(text, runs).encode())
    return paths.REPORT


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


def _section(study: tables.Study) -> dict:
    """One task's part: caption, answer, picture, the two tables, the ledger, and the runs they link to."""
    others = registry.evidence(study)
    ledger = registry.ledger(study, others=others)
    decided = ledger[ledger.verdict != "no runs"]
    searched = _searched(others)
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
        "ledger": [claim(row) for row in decided[~decided.exploratory].itertuples()],
        "explored": [claim(row) for row in decided[decided.exploratory].itertuples()],
        "picture": _picture(study),
        "alt": _alt(study),
        "answer": answer(ledger),
        "searched": searched,
        "silent": ", ".join(ledger[ledger.verdict == "no runs"].id),
        "runs": runs,
        "degenerate": study.table[study.table.degenerate].run_id.tolist(),
        "count": len(study.table),
        "sizes": [footprint.told(row) for row in footprint.rows(study.runs.values())],
        "tables": [
            {"metric": metric, "unit": unit, "rows": rows(study, metric, scale, digits)}
            for metric, unit, scale, digits in (("entropy", "nats", 1, 3), ("accuracy", "%", 100, 1))
        ],
    }


LEAD = {  # the claims that answer the question -> how their sentence begins
    "H18.1": "By its softness alone a target moves a student's entropy by",
    "H18.2": "The teacher's labels alone move it by",
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
    """A row's effect, unit and interval, and its verdict where it does not hold."""
    effect, low, high = (as_printed(value, row.unit) for value in (row.effect, row.low, row.high))
    return f"{effect} {row.unit} [{low}, {high}]" + (f" ({row.verdict})" if row.verdict != "holds" else "")


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


def _run_facts(run) -> dict:
    """One row of the appendix."""
    shown = {"config": asdict(run.config), "metrics": run.metrics}
    test, cost = run.metrics["test"], run.metrics["cost"]
    return {
        "id": run.run_id,
        "entropy": f"{test['entropy']:.3f}",
        "accuracy": f"{100 * test['accuracy']:.1f}",
        "seconds": f"{cost['seconds']:.0f}",
        "where": f"{cost['device']}, {cost['precision']}",
        "json": json.dumps(shown, indent=1),
    }


def _notebook(step: runner.Step) -> dict:
    """An executed notebook's prose, figures and tables; code, solutions and widgets are left to JupyterLab."""
    from nbconvert import HTMLExporter

    notebook = nbformat.read(step.output, as_version=4)
    notebook.metadata.pop("widgets", None)
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = mathml(cell.source)
        else:
            cell.outputs = [o for o in cell.outputs if not any("widget" in kind for kind in o.get("data", {}))]
    exporter = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_output_prompt=True, exclude_anchor_links=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    seconds = notebook.metadata.get("kdnb", {}).get("seconds")
    return {"name": step.output.stem, "seconds": seconds, "body": Markup(body)}


def _link_runs(text: str, runs) -> str:
    """Every run_id that stands as text becomes a link to its row in the appendix."""
    if not runs:
        return text
    ids = "|".join(re.escape(html.escape(run_id)) for run_id in runs)
    return re.sub(rf"(?<![\w#\"/-])({ids})(?![\w\"-])(?!</a>)", r'<a href="#\1">\1</a>', text)


def drawn() -> list[dict]:
    """The claims that need no stored run, as text; those that nobody has simulated are left out."""
    ledger = registry.simulated_ledger()
    return [claim(row) for row in ledger.itertuples() if row.verdict != "no runs"]


def claim(row) -> dict:
    """A row of the ledger as text."""

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
    }


def _beside(row) -> list[str]:
    """NLL and accuracy of the same runs, where the effect is one of entropy."""
    if pd.isna(row.nll):
        return []
    nll = spanned(row.nll, row.nll_low, row.nll_high, "nats")
    accuracy = spanned(row.accuracy, row.accuracy_low, row.accuracy_high, "points")
    return [f"{nll} nats", f"{accuracy} points"]


def _searched(others: dict[str, tables.Study | None]) -> list[dict]:
    """The claims at fixed settings once more, by runs that were selected as the paper selected its own."""
    found = []
    for grid, words in evidence.PROTOCOLS.items():
        if study := others.get(grid):
            ledger = registry.ledger(study, ("H3", "H4"))
            ledger = ledger[(ledger.verdict != "no runs") & (ledger.id != "H3.7")]
            found.append({"words": f"{grid}: {words}", "rows": [claim(row) for row in ledger.itertuples()]})
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
