"""README's picture of the two by two, drawn from the committed runs: `make docs`."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from kdnb import paths
from kdnb.studies import registry
from kdnb.studies.two_effects import cells, figures
from kdnb.sweeps import stored

TASKS = ("rt", "headline", "section", "digits")


def main() -> None:
    """docs/two_effects.png."""
    registry.grids()
    fig, axes = plt.subplots(1, len(TASKS), figsize=(11.4, 3.4), layout="constrained")
    for ax, task in zip(axes, TASKS, strict=True):
        study = stored.of_grid("softness", task, "cpu")
        table = cells.two_by_two(study)
        figures.four_cells(table, ax).get_legend().remove()
        learnt = cells.teachers(study).train_accuracy[table.index].mean()
        ax.set_title(f"{task}: teacher's train accuracy {learnt:.0%}", fontsize=8.5)
        ax.set_xticks(range(3), ["hard", "as soft as\nthe teacher", "LS"], fontsize=9)
        ax.set_ylabel(f"test entropy [nats], {len(table)} seeds" if task == TASKS[0] else "")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9, title="target", title_fontsize=9)
    fig.savefig(paths.ROOT / "docs" / "two_effects.png", dpi=110)


if __name__ == "__main__":
    main()
