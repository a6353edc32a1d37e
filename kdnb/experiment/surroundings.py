"""Where a run was made: what its record tells of the machine and the software."""

import functools
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from kdnb import __version__, paths
from kdnb.core.device import device


def surroundings(kind: str) -> dict:
    """Where a run was made: device, precision, memory, versions, code revision."""
    gpu = device().type == "cuda"
    if gpu:
        peak, name = torch.cuda.max_memory_allocated(), torch.cuda.get_device_name()
    else:
        peak, name = _peak_memory(), f"cpu ({platform.machine()})"
    here = {"device": name, "threads": torch.get_num_threads(), "precision": kind}
    return {"peak_memory_mib": round(peak / 2**20), **here, **_software()}


def fresh_peak() -> None:
    """Begin a GPU's peak anew, for the next run of this process; of a CPU `surroundings` tells the process's own."""
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak_memory() -> int:
    """Largest resident size of this process so far [bytes]; Linux's rusage would count the parent's before exec."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+)", status.read_text())):
        return int(found.group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@functools.cache
def _software() -> dict:
    versions = {"python": sys.version.split()[0], **{p: version(p) for p in ("torch", "transformers", "numpy")}}
    return {"versions": {**versions, "kdnb": __version__}, "revision": _revision()}


def _revision() -> str:
    """Of the code, as git calls it; of a wheel, its version: a repository around that is another project's."""
    if paths.INSTALLED:
        return f"wheel {__version__}"
    git = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
