"""Which notebooks the study's run executes, with which parameters."""

from kdnb.catalog import PROFILES

DARK = {"task": "section", "seeds": "0", "arms": "erm_large,erm_small,kd_standard"}  # notebook 31's dark knowledge
SEARCHED = {"demo": ("search",), "cpu": ("search", "temperature", "ladder")}  # grids of a profile's run
THEORY = ("10_entropy_of_targets", "11_rosetta", "35_published_tables")
READING = (
    "00_start_here",
    "30_kd_vs_ls",
    "31_teacher_student_scatter",
    "33_seeds_and_verdicts",
    "34_calibration",
    "40_reverse_kd",
)
OF_GRIDS = ("32_temperature", "41_capacity_ladder")  # of grids that take hours: the reference runs of profile cpu


def steps(profile: str) -> list[tuple[str, dict]]:
    """(notebook, parameters) in order: what trains, on every task of the profile, then what reads."""
    tasks = [{"task": task, "profile": profile} for task in PROFILES[profile].tasks]
    trained = [("20_finetune", parameters) for parameters in tasks]
    trained.append(("20_finetune", {"task": DARK["task"], "profile": profile, **DARK}))
    trained += [("21_grid_search", {"profile": profile, "grid": grid}) for grid in SEARCHED.get(profile, ())]
    read = [(notebook, {"profile": profile}) for notebook in THEORY]
    dark = {"31_teacher_student_scatter": {"dark_task": DARK["task"]}}
    read += [(notebook, {**parameters, **dark.get(notebook, {})}) for parameters in tasks for notebook in READING]
    if profile in SEARCHED:
        read += [(notebook, {"profile": "cpu"}) for notebook in OF_GRIDS]
    return trained + read
