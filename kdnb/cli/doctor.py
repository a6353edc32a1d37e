"""What this machine offers the study: Python, torch, device, precision, packages, caches, the hub."""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from kdnb import paths
from kdnb.catalog import TASKS
from kdnb.cli.options import show
from kdnb.data import assets, fetch, hub
from kdnb.data.assets import PACKAGED
from kdnb.errors import MissingAsset
from kdnb.experiment.workers import cores
from kdnb.plain import version_of

PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "jupyterlab",
    "papermill",
    "seaborn",
    "pandas",
    "numpy",
    "scipy",
    "ray",
)


def check() -> dict[str, Any]:
    """All facts by name; nothing is downloaded, the hub is only asked whether it answers."""
    import psutil

    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "free_disk_gib": round(shutil.disk_usage(_existing(paths.OUTPUTS)).free / 2**30, 1),
        **_device(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "terminal": getattr(sys.stdout, "encoding", None) or "no encoding",
        "fetches_with": _fetches_with(),
        "kernels": _kernels(),
        "notebooks": str(paths.NOTEBOOKS),
        "reference_runs": sum(1 for _ in paths.REFERENCE.glob("*/config.json")),
        "data_cache": str(paths.DATA_CACHE),
        "outputs": str(paths.OUTPUTS),
        **_writable(paths.OUTPUTS),
        "assets": {name: (paths.ASSETS / name).is_dir() for name in PACKAGED},
        "glue": {t.name: (paths.GLUE / t.glue_folder).is_dir() for t in TASKS.values() if t.source == "glue"},
        "fetched": _fetched(),
        "hub": _hub(),
    }


def tell(facts: dict[str, Any]) -> None:
    """Print the facts for people."""
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {'yes' if v is True else 'no' if v is False else v}" for k, v in value.items())
        table.add_row(name.replace("_", " "), str(value))
    show(table)


def _device() -> dict[str, str]:
    """What trains, and in which precision; torch is not needed to read runs."""
    try:
        import torch
    except ImportError:
        return {"device": "torch is not installed: runs can be read, not trained", "precision": "-"}
    from kdnb.core.device import device, precision

    return {
        "device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
        "precision": precision(),
    }


def _fetches_with() -> str:
    """What brings packaged texts and weights."""
    try:
        words, _ = assets.pip()
    except MissingAsset as error:
        return str(error)
    return " ".join(words)


def _kernels() -> dict[str, str]:
    """Jupyter's Python kernels by name: fine, or the interpreter that is gone. `kdnb run` has a kernel of its own."""
    from jupyter_client.kernelspec import KernelSpecManager

    told = {}
    for name, where in KernelSpecManager().get_all_specs().items():
        if where["spec"].get("language") == "python" and (argv := where["spec"].get("argv")):
            found = argv[0] in ("python", "python3") or shutil.which(argv[0])
            told[name] = "fine" if found else f"is of {argv[0]}, which is gone: jupyter kernelspec remove {name}"
    return told


def _fetched() -> dict[str, bool]:
    """What `kdnb fetch` brought from the hub, by GLUE task and model."""
    fetched = {}
    for task in (task for task in TASKS.values() if task.source == "glue"):
        for part in fetch.needs("paper", [task])[1]:
            fetched[task.name if part.kind == "dataset" else part.repo] = fetch.is_here(part)
    return dict(sorted(fetched.items(), key=lambda item: "/" in item[0]))  # tasks, then models


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _writable(folder: Path) -> dict[str, Any]:
    """Whether a folder can be made and written, and if not, why: tried out, since bits do not say it."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return {"outputs_writable": True}
    except OSError as error:
        return {"outputs_writable": False, "outputs_refuse": error.strerror}


def _hub() -> str:
    return {
        "mirror": f"local mirror {os.environ.get('KDNB_HUB')}",
        "offline": "offline mode (HF_HUB_OFFLINE=1)",
        "reachable": "reachable",
        "unreachable": "not reachable: the embedded tasks and the demo profile work without it",
    }[hub.state()]
