"""Draws docs/explorer.html, a page that needs no kernel and no network, from docs/explorer/ and the committed runs.

`make docs` runs it; the same runs give the same bytes. Of examples it holds digits alone: other people's texts are not
committed.
"""

import json

from kdnb import paths
from kdnb.experiment import tables
from kdnb.experiment.arms import NAMES
from kdnb.report.explorers import examples, runs, simplex
from kdnb.report.explorers.examples import Examples
from kdnb.studies import registry

SOURCES = paths.ROOT / "docs" / "explorer"
PAGE = paths.ROOT / "docs" / "explorer.html"
TASK, PROFILE = "digits", "cpu"
MOST = 60  # examples
LOOKED = "ls_small"  # the arm that is looked at first
FIRST_TASKS = ("rt", "digits")  # of the runs: the others follow by their number of runs


def simplex_data() -> dict:
    """What can be chosen to start from."""
    return {"truths": simplex.TRUTHS, "teachers": simplex.TEACHERS, "start": simplex.START}


def picked(seen: Examples, looked: list[str]) -> list[int]:
    """The examples that come first in any order for any arm, MOST of them; by row."""
    ranked = [seen.ranked(arm, order) for order in examples.ORDERS for arm in looked]
    found: dict[int, None] = {}
    for place in range(len(seen.labels)):
        for rows in ranked:
            if place < len(rows) and len(found) < MOST:
                found[rows[place]] = None
    return sorted(found)


def examples_data() -> dict:
    """Digits with the posterior of every arm: thousandths, and measures to three decimals."""
    study = tables.study(TASK, PROFILE)
    seen = Examples(study, examples.seeds(study)[0])
    if seen.split is None or seen.split.images is None:
        raise LookupError(f"the images of {TASK} are not those of the runs")
    looked = sorted(examples.arms(seen), key=lambda arm: arm != LOOKED)
    facts = {(one["arm"], one["row"]): one for one in seen.table.to_dict("records")}
    posteriors = {arm: seen.posterior(arm) for arm in seen.runs}
    rows = []
    for row in picked(seen, looked):
        of_arms = {}
        for arm in seen.runs:
            numbers = {name: rounded(facts[arm, row][name], 3) for name in ("entropy", *examples.ORDERS)}
            of_arms[NAMES[arm]] = {"p": [rounded(p, 3) for p in posteriors[arm][row]], **numbers}
        levels = "".join("0123456789abcdefg"[level] for level in seen.split.images[row].ravel())
        rows.append({"row": row, "label": int(seen.labels[row]), "image": levels, "arms": of_arms})
    about = (
        f"{len(rows)} of the {len(seen.labels)} test digits, seen by the networks of seed {seen.seed}: those that "
        "stand first in one of the orders for one of the arms. Picked because they differ, they are not typical. "
        "The teacher of Standard KD is ERM large; that of Self-KD and of Reverse KD is ERM small. The images are "
        "scikit-learn's copy of Alpaydin and Kaynak's optical recognition of handwritten digits (UCI, CC BY 4.0)."
    )
    return {
        "about": about,
        "arms": [NAMES[arm] for arm in seen.runs],
        "looked": [NAMES[arm] for arm in looked],
        "orders": {name: {"title": title, "means": examples.MEANINGS[name]} for name, title in examples.ORDERS.items()},
        "rows": rows,
    }


def runs_data() -> dict:
    """Every committed classification run in columns that share their words."""
    table = runs.table()
    table["teacher"] = table.teacher.map({name: i for i, name in enumerate(table.run_id)}).fillna(-1).astype(int)
    by_number = table.task.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable").index
    present = set(table.method)
    words = {
        "task": [*FIRST_TASKS, *(task for task in by_number if task not in FIRST_TASKS)],
        "method": [name for name in runs.STYLES if name in present] + sorted(present - set(runs.STYLES)),
        "student": sorted(set(table.student), key=lambda name: (name not in ("small", "large"), name)),
        "profile": sorted(set(table.profile)),
        "settings": sorted(set(table.settings)),
    }
    index = {column: {word: i for i, word in enumerate(known)} for column, known in words.items()}
    rows = [
        [
            *(index[column][getattr(row, column)] for column in ("task", "method", "student", "profile")),
            row.seed, index["settings"][row.settings], row.teacher,
            *(rounded(getattr(row, name), 4) for name in ("entropy", "accuracy", "nll")), row.run_id,
        ]
        for row in table.itertuples()
    ]  # fmt: skip
    about = (
        f"All {len(rows):,} committed classification runs, whatever they were made for: comparisons at fixed settings, "
        "searches, doses, placebos. So a cloud is not an experiment; pairs of the same seed and settings are, and "
        "notebook 33 counts them. Language models are measured otherwise and are not among them."
    )
    plural = {
        "task": "tasks",
        "method": "methods",
        "student": "students",
        "profile": "profiles",
        "settings": "settings",
    }
    return {"about": about, **{plural[column]: known for column, known in words.items()}, "rows": rows}


def rounded(value: float, digits: int) -> float | int | None:
    """A number with few digits, None for nan; -0 is 0 and whole numbers have no point."""
    if value != value:
        return None
    short = round(float(value), digits)
    return int(short) if short == int(short) else short


def block() -> str:
    """The page's data as JSON, a line for each run and example."""
    data = {"simplex": simplex_data(), "examples": examples_data(), "runs": runs_data()}
    lines = {}
    for name in ("examples", "runs"):
        rows = data[name].pop("rows")
        lines[name] = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        data[name]["rows"] = [f"@@{name}@@"]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for name, rows in lines.items():
        text = text.replace(f'"@@{name}@@"', f"\n{rows}\n")
    return text.replace("</", "<\\/")


def page() -> str:
    """The whole page."""
    registry.grids()
    text = (SOURCES / "page.html").read_text(encoding="utf-8")
    for name in ("page.css", "simplex.js", "page.js"):
        text = text.replace(f"@@{name}@@", (SOURCES / name).read_text(encoding="utf-8"))
    return text.replace("@@data@@", block())


if __name__ == "__main__":
    paths.RUNS = paths.REFERENCE  # the committed runs alone, whatever else was trained here
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(paths.ROOT))
