"""The stored runs of a grid as a table, their test metrics with them: for what is compared, not selected."""

from kdnb.experiment import tables
from kdnb.experiment.tables import Study
from kdnb.sweeps import grids


def of_grid(grid: str, task: str, profile: str) -> Study | None:
    """The stored runs of a grid with fixed hyper-parameters, its teachers among them; None where all are ERM's.

    Args:
        grid: its name.
        task: whose runs.
        profile: likewise.
    """
    stored = tables.stored_configs(task, profile)
    cuts = {config.data for config in stored.values()}
    seeds = sorted({config.seed for config in stored.values()})
    points = [point for data in cuts for point in grids.stages(grid, task, profile, data, seeds).points]
    wanted = {point.config.run_id() for point in points} & set(stored)
    if all(stored[run_id].method == "erm" for run_id in wanted):
        return None
    return tables.study(task, profile, lambda config: config.run_id() in wanted)
