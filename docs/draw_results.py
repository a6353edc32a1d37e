"""README's pictures of the results, drawn from the committed runs: `make docs`."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd

from kdnb import paths
from kdnb.analysis import figures
from kdnb.analysis.ledger import against_erm
from kdnb.experiment import tables
from kdnb.studies import registry
from kdnb.studies.two_effects.figures import two_by_twos
from kdnb.sweeps import stored

BOTH = ("rt", "headline", "section", "digits")  # tasks of the two by two
ALL = ("rt", "mrpc", "headline", "passage", "relation", "section", "digits")


def main() -> None:
    """docs/two_effects.png and docs/tasks.png."""
    registry.grids()
    fig = plt.figure(figsize=(11.4, 3.4), layout="constrained")
    two_by_twos({task: stored.of_grid("softness", task, "cpu") for task in BOTH}, fig)
    fig.savefig(paths.ROOT / "docs" / "two_effects.png", dpi=110)
    rows = pd.concat([against_erm(tables.study(task, "cpu")) for task in ALL], ignore_index=True)
    figures.theme()
    size = (14, 1.5 + 0.27 * (rows.metric == "entropy").sum())
    fig = figures.changes(rows, plt.figure(figsize=size, layout="constrained"))
    fig.savefig(paths.ROOT / "docs" / "tasks.png", dpi=110)


if __name__ == "__main__":
    main()
