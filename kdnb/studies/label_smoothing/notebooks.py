"""Which notebooks the study's run executes, with which parameters."""

from kdnb.catalog import PROFILES

DARK = {"task": "section", "seeds": "0", "arms": "erm_large,erm_small,kd_standard"}  # notebook 31's dark knowledge
SMALL = "erm_large,erm_small,ls_small,kd_standard,kd_self"  # of demo: large students take as long as all of these
SEARCHED = ("search", "temperature", "ladder")  # grids of profile cpu's run
THEORY = ("10_entropy_of_targets", "11_rosetta", "12_kl_and_limits", "35_published_tables")
READING = (
    "00_start_here",
    "30_kd_vs_ls",
    "31_teacher_student_scatter",
    "33_seeds_and_verdicts",
    "34_calibration",
)
REVERSE = "40_reverse_kd"
COMMITTED = ("32_temperature", "41_capacity_ladder")  # of grids that take hours: the reference runs of profile cpu


def steps(profile: str) -> list[tuple[str, dict]]:
    """(notebook, parameters) in order: what trains, on every task of the profile, then what reads.

    A demo trains small students alone, and reads the reference runs of profile cpu where those show more.
    """
    demo, tasks = profile == "demo", [{"task": task, "profile": profile} for task in PROFILES[profile].tasks]
    trained = [("20_finetune", {**parameters, **({"arms": SMALL} if demo else {})}) for parameters in tasks]
    trained.append(("20_finetune", {"task": DARK["task"], "profile": profile, **DARK}))
    trained += [("21_grid_search", {"profile": profile, "grid": grid}) for grid in SEARCHED if profile == "cpu"]
    read = [(notebook, {"profile": profile}) for notebook in THEORY]
    dark = {"31_teacher_student_scatter": {"dark_task": DARK["task"]}}
    read += [(notebook, {**parameters, **dark.get(notebook, {})}) for parameters in tasks for notebook in READING]
    read += [(REVERSE, {**parameters, **({"profile": "cpu"} if demo else {})}) for parameters in tasks]
    if demo:
        read.append(("21_grid_search", {"profile": "cpu", "grid": SEARCHED[0]}))
    if profile in ("demo", "cpu"):
        read += [(notebook, {"profile": "cpu"}) for notebook in COMMITTED]
    return trained + read
