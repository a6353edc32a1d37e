"""README's picture of the two by two, drawn from the committed runs: `make docs`."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from kdnb import paths
from kdnb.studies import registry
from kdnb.studies.two_effects import figures
from kdnb.sweeps import stored

TASKS = ("rt", "headline", "section", "digits")


def main() -> None:
    """docs/two_effects.png."""
    registry.grids()
    fig = plt.figure(figsize=(11.4, 3.4), layout="constrained")
    figures.two_by_twos({task: stored.of_grid("softness", task, "cpu") for task in TASKS}, fig)
    fig.savefig(paths.ROOT / "docs" / "two_effects.png", dpi=110)


if __name__ == "__main__":
    main()
