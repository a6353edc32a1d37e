"""What a run cost and where it was made; memory given back after it."""

import ctypes
import functools
import gc
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from kdnb import __version__, paths
from kdnb.predict import device

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's names for the options of mallopt


def surroundings(kind: str) -> dict:
    """Where a run was made: device, precision, memory, versions, code revision."""
    gpu = device().type == "cuda"
    if gpu:
        peak, name = torch.cuda.max_memory_allocated(), torch.cuda.get_device_name()
    else:
        peak, name = _peak_memory(), f"cpu ({platform.machine()})"
    return {
        "peak_memory_mib": round(peak / 2**20), "device": name, "threads": torch.get_num_threads(), "precision": kind,
        **_software(),
    }  # fmt: skip


def _peak_memory() -> int:
    """Largest resident size of this process so far [bytes]; Linux's rusage would count the parent's before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text()).group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@functools.cache
def _software() -> dict:
    versions = {"python": sys.version.split()[0], **{p: version(p) for p in ("torch", "transformers", "numpy")}}
    git = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        revision = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {"versions": {**versions, "kdnb": __version__}, "revision": revision}


def keep_memory() -> None:
    """Have the C library keep what is freed for the next operation, instead of handing each large piece back."""
    if platform.libc_ver()[0] == "glibc":
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            ctypes.CDLL("libc.so.6").mallopt(option, 2**30)


def release_memory() -> None:
    """Hand free memory back to the system: batches of many lengths leave hundreds of MiB in fragments."""
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()
    elif platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
