"""What the machine offers: the questions that are put to torch are ones it answers."""

import platform

import pytest
import torch

from kdnb.core import device


def test_torch_still_has_the_private_questions_about_bf16():
    """None of them is public in torch 2.9 to 2.13: a version without them would fail on a CPU at its first run."""
    assert isinstance(torch.cpu._is_avx512_bf16_supported(), bool)
    assert isinstance(torch.cpu._is_amx_tile_supported(), bool)
    if platform.machine() == "aarch64":
        assert isinstance(torch.ops.mkldnn._is_mkldnn_bf16_supported(), bool)


@pytest.mark.parametrize(("x86", "kind"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_the_cpu_multiplies_it(monkeypatch, x86, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: x86)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert device.precision() == kind
    assert device.precision("fp32") == "fp32"  # what was asked for
