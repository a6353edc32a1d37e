"""What a GPU adds to the fine-tuning loop: TF32, pinned memory, compiled layers. Written for one, confirmed on none."""

import contextlib

import torch
from torch import Tensor, nn

from kdnb.core.predict import device

COMPILE_STEPS = 2000  # optimiser steps from which a compilation of a minute or so is earned back


def set_up(kind: str) -> None:
    """TF32 for what stays in float32 beside bf16; kind "fp32" was asked for exactly and stays exact."""
    if device().type == "cuda":
        torch.set_float32_matmul_precision("high" if kind == "bf16" else "highest")


@contextlib.contextmanager
def deterministic():
    """On a GPU, only deterministic kernels; the CPU's are so anyway."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device().type == "cuda" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


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


def compile_layers(model: nn.Module, steps: int, backend: str = "inductor") -> str:
    """Compile the encoder's layers in place where that pays, for batches of any length; returns the reason."""
    pays, why = whether_to_compile(steps)
    if pays and hasattr(model, "encoder"):
        for layer in model.encoder.layers[:-1]:  # the last one is evaluated at the first token, by another method
            layer.compile(dynamic=True, backend=backend)
    return why
