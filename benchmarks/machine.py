"""The machine: its name, versions, peak memory of a process, rate of matrix products."""

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

PACKAGES = (
    "torch", "transformers", "accelerate", "torchdistill", "textbrewer", "kdnb", "numpy", "tokenizers", "datasets",
)  # fmt: skip


def facts() -> dict:
    """Hardware and versions."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": _line("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "bf16": sorted(
            flag for flag in (_line("/proc/cpuinfo", "flags") or "").split() if flag in ("avx512_bf16", "amx_bf16")
        ),
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "versions": versions,
    }


def peak_mib() -> float:
    """Largest resident memory of this process. Not ru_maxrss: that starts at the parent's size."""
    line = _line("/proc/self/status", "VmHWM")
    if line:
        return int(line.split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 1024)


def gemm_gflops(size: int = 2048, seconds: float = 2.0) -> dict:
    """GFLOP/s of large square matrix products through torch: the median of several, by dtype.

    A machine that emulates a dtype gets smaller matrices: one product takes a tenth of the seconds at most.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        side = min(size, 128)
        _product_seconds(side, dtype, device)  # the first one starts threads
        while side < size and 8 * _product_seconds(side, dtype, device) < seconds / 10:
            side *= 2
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 5:
            times.append(_product_seconds(side, dtype, device))
        rates[name] = 2 * side**3 / sorted(times[1:])[len(times) // 2 - 1] / 1e9
    return rates


def _product_seconds(side: int, dtype, device: str) -> float:
    """Seconds of one product of two square matrices."""
    import torch

    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    a @ b
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def flops(lengths, shape: dict, first_token_only: bool = False) -> float:
    """Matrix-product FLOPs of one training step (three forward passes) per example, averaged over lengths.

    The full count is a plain BERT's on the real tokens, without padding, word table or head. kdnb computes the
    last layer at the first token only: `first_token_only` counts what is then left.
    """
    layers, width, inner = shape["layers"], shape["width"], shape["inner"]

    def layer(length):
        return length * 2 * (4 * width**2 + 2 * width * inner) + 4 * length**2 * width

    def last(length):  # one query per head, folded with the keys: see kdnb.models.encoder.Layer.first_token
        return 2 * (4 * width**2 + 2 * width * inner) + 4 * length * width * shape["heads"]

    if first_token_only:
        forward = sum((layers - 1) * layer(length) + last(length) for length in lengths)
    else:
        forward = sum(layers * layer(length) for length in lengths)
    return 3 * forward / len(lengths)


def _line(path: str, name: str) -> str:
    """The value of a `name: value` line of a file, "" if there is none."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


if __name__ == "__main__":
    print(json.dumps(gemm_gflops()))
