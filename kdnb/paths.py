"""Where things lie. The only module that spells a path; nothing depends on the working directory.

What is named after a task, a run or a parameter gets its path from `inside`, and from nowhere else; what is only
looked up and read, from `child`.
"""

import errno
import os
import re
from pathlib import Path

from kdnb.errors import StoreError, printable

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "kdnb" / "shipped"  # what a wheel brings of the repository: notebooks and committed runs
INSTALLED = SHIPPED.is_dir()  # by a wheel: the code lies where nothing may be written
_OURS = SHIPPED if INSTALLED else ROOT
_USERS = Path("~", "kdnb").expanduser() if INSTALLED else ROOT


def _folder(variable: str, default: Path) -> Path:
    """The folder named by an environment variable, else the default."""
    return Path(os.environ.get(variable) or default).expanduser().resolve()


DATA_CACHE = _folder("KDNB_DATA_CACHE", _USERS / "data_cache")
OUTPUTS = _folder("KDNB_OUTPUTS", _USERS / "outputs")
NOTEBOOKS = _OURS / "notebooks"
GLOSSARY = _OURS / "docs" / "glossary.md"
EXPLORER = _OURS / "docs" / "explorer.html"
RUNS = OUTPUTS / "runs"
REFERENCE = _folder("KDNB_REFERENCE", _OURS / "outputs" / "reference" / "runs")  # committed runs, read only
SIMULATIONS = OUTPUTS / "simulations"  # effects of what is drawn anew: toys, small networks
SIMULATIONS_REFERENCE = REFERENCE.parent / "simulations"  # committed ones, read only
DAMAGED = OUTPUTS / "damaged"
SWEEPS = OUTPUTS / "sweeps"  # what each `kdnb sweep` was asked for
GRIDS = SWEEPS / "grids"  # grids from files, as they were asked for
RUNNING = OUTPUTS / "running"  # heartbeats of the trainings under way
FAILED = OUTPUTS / "failed"  # points that keep failing
WEIGHTS = OUTPUTS / "weights"  # what `--keep-weights` keeps of runs
MODELS = OUTPUTS / "models"  # where the folders of the user's own models lie, by name and fingerprint
ORIGINS = OUTPUTS / "origins"  # where the data of runs came from, by their fingerprint
FEATURES = OUTPUTS / "features"  # hidden states of teachers on their train rows
EXECUTED = OUTPUTS / "executed"
FIGURES = OUTPUTS / "figures"
REPORT = OUTPUTS / "report.html"
SLIDES = OUTPUTS / "slides"  # decks and handouts
SITE = OUTPUTS / "site"  # the report as a folder of pages
REPORTS = OUTPUTS / "reports"  # of comparisons on the user's own data
GLUE = DATA_CACHE / "glue"
ASSETS = DATA_CACHE / "assets"
DATASETS = Path("/usr/share/datasets")  # where Debian's packages of data sets put them
HUB = DATA_CACHE / "hub"  # what `kdnb fetch` brought from the model hub

_UNSAFE = re.compile(r'[/\\:*?"<>|]')  # what some file system takes for more than a letter
_LONGEST = 255  # bytes of a file name


def check_ours(folder: Path) -> None:
    """Raise StoreError for a folder in the outputs folder that is a link, or lies behind one, that leads out of it.

    The outputs folder itself may be a link to a larger disk; a link in it was planted, and nothing is written there.
    """
    if OUTPUTS in folder.parents and not folder.resolve().is_relative_to(OUTPUTS.resolve()):
        raise StoreError(errno.ELOOP, "A link that leads out of the outputs folder, remove it", str(folder))


def child(folder: Path, name: str) -> Path:
    """What a folder has under a name, to be read; ValueError for a name that leads elsewhere, as a path may."""
    if name in ("", ".", "..") or "/" in name or os.sep in name:
        raise ValueError(f"{printable(name[:80])!r} names nothing in {folder}: expected one name, no path")
    return folder / name


def inside(folder: Path, name: str) -> Path:
    """The file of a name in a folder of ours, and never one elsewhere.

    Args:
        folder: such as FIGURES.
        name: of the file, whatever a user typed into it.
    Raises:
        ValueError: the name is not one component of a path, has characters that are not safe in one, is too long,
            or is a link that leads out of the folder.
        StoreError: as `check_ours` for the folder.
    """
    told = ascii(name if len(name) <= 80 else f"{name[:77]}...")
    if name in ("", ".", "..") or not name.isprintable() or _UNSAFE.search(name):
        raise ValueError(f'{told} cannot name a file: expected one name with none of / \\ : * ? " < > | in it')
    if (size := len(name.encode())) > _LONGEST:
        raise ValueError(f"{told} cannot name a file: {size:,} bytes, at most {_LONGEST} are allowed")
    check_ours(folder)
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{told} is a link that leads out of {folder}; remove it")
    return path
