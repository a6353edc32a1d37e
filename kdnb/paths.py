"""Where things lie. The only module that spells a path; nothing depends on the working directory."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: str) -> Path:
    """The folder named by an environment variable, else one under the repository root."""
    return Path(os.environ.get(variable) or ROOT / default).expanduser().resolve()


DATA_CACHE = _folder("KDNB_DATA_CACHE", "data_cache")
OUTPUTS = _folder("KDNB_OUTPUTS", "outputs")
NOTEBOOKS = ROOT / "notebooks"
RUNS = OUTPUTS / "runs"
REFERENCE = _folder("KDNB_REFERENCE", "outputs/reference/runs")  # committed runs, read only
SIMULATIONS = OUTPUTS / "simulations"  # effects of what is drawn anew: toys, small networks
SIMULATIONS_REFERENCE = REFERENCE.parent / "simulations"  # committed ones, read only
DAMAGED = OUTPUTS / "damaged"
SWEEPS = OUTPUTS / "sweeps"  # what each `kdnb sweep` was asked for
RUNNING = OUTPUTS / "running"  # heartbeats of the trainings under way
FAILED = OUTPUTS / "failed"  # points that keep failing
EXECUTED = OUTPUTS / "executed"
FIGURES = OUTPUTS / "figures"
REPORT = OUTPUTS / "report.html"
GLUE = DATA_CACHE / "glue"
ASSETS = DATA_CACHE / "assets"
HUB = DATA_CACHE / "hub"  # what `kdnb fetch` brought from the model hub
