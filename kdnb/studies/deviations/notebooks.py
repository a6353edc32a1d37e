"""Which notebooks the study's run executes; they train what they show, minutes that other profiles leave out."""

from kdnb.studies.deviations.grids import DEVIATIONS, SWITCHING

PROFILES = ("cpu", "paper")
GRIDS = (DEVIATIONS, SWITCHING)  # trained at profile cpu
STORED_TASKS = ("rt", "digits")  # whose stored runs notebook 55 reads
SIMULATED = (
    "50_deviations",
    "51_switching_losses",
    "52_eigendirections",
    "53_gradient_denoising",
    "54_constrained_students",
)


def steps(profile: str) -> list[tuple[str, dict]]:
    """(notebook, parameters) in order."""
    if profile not in PROFILES:
        return []
    trained = [("21_grid_search", {"profile": profile, "grid": grid}) for grid in GRIDS if profile == "cpu"]
    stored = [("55_stored_deviations", {"task": task, "profile": profile}) for task in STORED_TASKS]
    return trained + [(notebook, {"profile": profile}) for notebook in SIMULATED] + stored
