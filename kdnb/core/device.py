"""The machine: its device and precision, what a GPU adds to the loop, memory given back."""

import contextlib
import ctypes
import gc
import platform
from collections.abc import Iterator

import torch
from torch import Tensor, nn

COMPILE_STEPS = 2000  # optimiser steps from which a compilation of a minute or so is earned back


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(wanted: str = "auto") -> str:
    """ "bf16" or "fp32": what "auto" means on this machine, or what was asked for.

    "auto" is bf16 where the hardware multiplies it natively (recent GPUs; CPUs with AVX512-BF16, AMX
    or Arm's BF16 instructions), since elsewhere it is emulated and slow.
    """
    if wanted != "auto":
        return wanted
    if device().type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Private in torch 2.9 to 2.13, which have no public question for it; a test notices when they go.
        x86 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        native = x86 or (platform.machine() == "aarch64" and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return "bf16" if native else "fp32"


def autocast(kind: str) -> contextlib.AbstractContextManager:
    """Mixed precision on the current device: bfloat16 matrix products for "bf16", nothing for "fp32"."""
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=kind == "bf16")


def set_up(kind: str) -> None:
    """TF32 for what stays in float32 beside bf16; kind "fp32" was asked for exactly and stays exact."""
    if device().type == "cuda":
        torch.set_float32_matmul_precision("high" if kind == "bf16" else "highest")


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """On a GPU, only deterministic kernels; the CPU's are so anyway. New memory is not filled first, as torch would."""
    before, fills = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    fill, fills.fill_uninitialized_memory = fills.fill_uninitialized_memory, False
    torch.use_deterministic_algorithms(device().type == "cuda" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        fills.fill_uninitialized_memory = fill


def on_device(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs on the training device; to a GPU through pinned memory, so that the copy runs beside the arithmetic."""
    if device().type != "cuda":
        return inputs
    return {name: part.pin_memory().to(device(), non_blocking=True) for name, part in inputs.items()}


def whether_to_compile(steps: int) -> tuple[bool, str]:
    """Whether compiling the layers pays for a training of some steps, and why, in words for the run's record."""
    if device().type != "cuda":
        return False, "no: on a CPU, batches of many lengths run faster uncompiled"
    if steps < COMPILE_STEPS:
        return False, f"no: {steps} steps, compilation pays from {COMPILE_STEPS}"
    return True, f"yes: {steps} steps on a GPU"


def compile_layers(layers: list[nn.Module], steps: int, backend: str = "inductor") -> str:
    """Compile some layers in place where that pays, for batches of any length; returns the reason.

    Args:
        layers: what a model offers to be compiled, see `kdnb.core.optimizer.FastPath`.
        steps: optimiser steps of the training.
        backend: torch.compile's.
    """
    pays, why = whether_to_compile(steps)
    for layer in layers if pays else ():
        layer.compile(dynamic=True, backend=backend)
    return why


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's names for the options of mallopt


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
