"""Liger's kernel is our own walk over the tokens, or it is refused. Without it, what stands before it."""

import pytest
import torch

from kdnb.core.device import device
from kdnb.studies.language_models import fused, losses, models, training
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.losses import FromStates, Head, Objective
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.training import Online

WHY = fused.missing(device())
SETTINGS = {"data": "d", "held_out": "h", "student": "s", "student_weights": "w", "vocabulary": 64}
TAUGHT = {**SETTINGS, "teacher_weights": "t", "targets": "online", "alpha": 1.0}


@pytest.mark.skipif(bool(WHY), reason=WHY)
@pytest.mark.parametrize("tau", [1.0, 3.0])
@pytest.mark.parametrize("alpha", [1.0, 0.4])
@pytest.mark.parametrize(("name", "beta"), [("forward_kl", None), ("reverse_kl", None), ("gjsd", None), ("gjsd", 0.1)])
def test_the_kernel_is_the_walk_in_loss_and_gradients(name, beta, alpha, tau):
    draw, objective = torch.Generator().manual_seed(1), Objective(alpha=alpha, divergence=name, beta=beta, tau=tau)
    hidden, weight, states, table = (
        torch.randn(*shape, generator=draw).to(device()) for shape in ((11, 8), (70, 8), (11, 6), (75, 6))
    )
    teacher = torch.nn.Linear(6, 75, bias=False, device=device())
    teacher.weight.data.copy_(table)
    labels, soft, found = torch.arange(11, device=device()), FromStates(teacher, states, "fp32", 70), []
    for way in (losses.from_hidden, fused.from_hidden):
        own = [one.clone().requires_grad_() for one in (hidden, weight)]
        loss = way(objective, own[0], Head(own[1], chunk=4), labels, soft)
        found.append((loss, *torch.autograd.grad(loss, own)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(bool(WHY), reason=WHY)
def test_a_step_of_the_loop_has_the_same_gradients():
    train = MarkovSource().blocks(4, 8, 0)
    teacher, found = models.student("llama-2x64", None, 64, 7), []
    for kernel in ("torch", "liger"):
        one = models.student("llama-1x32", None, 64, 0)
        config = LMConfig(
            **{**TAUGHT, "data": train.fingerprint},
            length=8,
            batch_size=4,
            tokens=100,
            precision="fp32",
            divergence="reverse_kl",
            kernel=kernel,
        )
        data = training.batch(config, one, train, 0)
        loss = training._step(config, one, Online(teacher, "fp32", 64), data)
        found.append([torch.tensor(loss), *(p.grad.cpu() for p in one.model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(bool(WHY), reason=WHY)
def test_a_kernel_that_is_not_the_walk_is_refused(monkeypatch):
    monkeypatch.setattr(
        fused,
        "_fused",
        lambda objective, hidden, head, labels, soft: 1.01 * losses.from_hidden(objective, hidden, head, labels, soft),
    )
    with pytest.raises(ValueError, match=r"forward_kl is off by 1\.0e-02 of our own"):
        fused._held_to_ours.__wrapped__(device())


def test_where_it_is_not_it_says_why(monkeypatch):
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: None)
    assert "not installed" in fused.missing(device())
    with pytest.raises(ValueError, match="kernel liger: liger-kernel is not installed"):
        fused.from_hidden(Objective(alpha=1.0), torch.zeros(2, 3), Head(torch.zeros(4, 3)), torch.zeros(2), None)
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert fused.missing(torch.device("cpu")) == "it needs a CUDA device, got cpu"


def test_targets_that_it_cannot_take_are_refused(monkeypatch):
    monkeypatch.setattr(fused, "missing", lambda _: "")
    head, bias, states = torch.nn.Linear(3, 4, bias=False), torch.nn.Linear(3, 4), torch.zeros(2, 3)
    plain, biased = (FromStates(one, states, "fp32", 4) for one in (head, bias))
    for soft, own in ((None, None), (lambda rows: rows, None), (biased, None), (plain, torch.zeros(4))):
        with pytest.raises(ValueError, match="expected heads without bias and the teacher's whole law"):
            fused.from_hidden(Objective(alpha=1.0), states, Head(torch.zeros(4, 3), own), torch.zeros(2), soft)
    for changes in ({"divergence": "tv"}, {"targets": "none", "alpha": 0.0, "teacher_weights": ""}):
        with pytest.raises(ValueError, match="kernel liger goes with"):
            LMConfig(**{**TAUGHT, "kernel": "liger", **changes})


def test_a_name_is_what_it_was_before_there_was_a_choice():
    one = LMConfig(**TAUGHT)
    assert "kernel" not in one.values()
    assert LMConfig.from_record(one.values()) == one
    other = LMConfig(**TAUGHT, kernel="liger")
    assert other.run_id() != one.run_id()
    assert LMConfig.from_record(other.values()) == other
