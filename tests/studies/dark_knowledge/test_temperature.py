"""Temperature: every convention against its formula in torch, both limits, no loss or gradient that is not finite."""

import shutil

import fakes
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdnb import paths
from kdnb.core import theory
from kdnb.core.losses import kd_loss
from kdnb.studies import registry
from kdnb.studies.dark_knowledge import temperature
from kdnb.sweeps import grids

ROWS = 16


def batch(num_classes, scale=2.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    z, v = (scale * torch.randn(ROWS, num_classes, generator=generator, dtype=dtype) for _ in range(2))
    return z, v, torch.randint(num_classes, (ROWS,), generator=generator)


# Conventions


def kl(z, v, tau, reduction):
    return F.kl_div((z / tau).log_softmax(-1), (v / tau).softmax(-1), reduction=reduction)


def hard(z, y):
    return F.cross_entropy(z, y)


WRITTEN = {  # the formula of each source, with alpha in the place where its user types it
    "Model-Optimizer": lambda z, v, y, a, t: kl(z, v, t, "batchmean") * t**2,
    "Model-Optimizer, Megatron": lambda z, v, y, a, t: kl(z, v, t, "none").sum(-1).mean(),
    "DistillKit": lambda z, v, y, a, t: (1 - a) * hard(z, y) + a * kl(z, v, t, "sum") * t**2 / len(z),
    "TextBrewer": lambda z, v, y, a, t: (
        (1 - a) * hard(z, y) - a * ((v / t).softmax(-1) * (z / t).log_softmax(-1)).sum(-1).mean()
    ),
    "Liger-Kernel": lambda z, v, y, a, t: (1 - a) * hard(z, y) + a * kl(z, v, t, "sum") / len(z),
    "TRL, GKD": lambda z, v, y, a, t: kl(z, v, 1.0, "batchmean"),
    "torchdistill": lambda z, v, y, a, t: a * hard(z, y) + (1 - a) * t**2 * kl(z, v, t, "batchmean"),
    "RepDistiller": lambda z, v, y, a, t: (1 - a) * hard(z, y) + a * kl(z, v, t, "sum") * t**2 / len(z),
    "mdistiller": lambda z, v, y, a, t: (1 - a) * hard(z, y) + a * kl(z, v, t, "none").sum(1).mean() * t**2,
    "knowledge-distillation-pytorch": lambda z, v, y, a, t: mean_kl(z, v, t) * (a * t * t) + hard(z, y) * (1 - a),
    "attention-transfer": lambda z, v, y, a, t: mean_kl(z, v, t) * (t * t * 2.0 * a) + hard(z, y) * (1 - a),
    "Teacher-free KD": lambda z, v, y, a, t: (1 - a) * hard(z, y) + a * mean_kl(z, v, t) * t * t,
}


def mean_kl(z, v, tau):
    return kl(z, v, tau, "none").mean()  # torch's default


@pytest.mark.parametrize("convention", temperature.CONVENTIONS, ids=lambda one: one.library)
@pytest.mark.parametrize(("alpha", "tau", "num_classes"), [(0.3, 4.0, 5), (0.9, 1.0, 2), (0.5, 20.0, 100)])
def test_a_convention_is_ours_at_the_alpha_and_scale_that_are_said(convention, alpha, tau, num_classes):
    z, v, y = batch(num_classes)
    z.requires_grad_()
    factor, same, scale = convention.ours(alpha, tau, num_classes)
    written = WRITTEN.get(convention.library, lambda z, v, y, a, t: kd_loss(z, y, v, a, t))
    own = 1.0 if convention.tau == "sampling" else tau
    (theirs,) = torch.autograd.grad(written(z, v, y, alpha, tau), z)
    (ours,) = torch.autograd.grad(scale * kd_loss(z, y, v, same, own), z)
    torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-13)
    assert factor == pytest.approx(scale * same / alpha)


def test_the_table_has_every_library_and_its_source():
    table = temperature.conventions(0.5, 4.0, 10)
    packages = {name.split(",")[0] for name in table.library} - {"kdnb"}
    assert len(packages) == 11
    assert set(WRITTEN) == set(table.library) - {"kdnb"}
    assert table["where"].str.contains(".py").all()
    kdnb = table.set_index("library").loc["kdnb"]
    assert (kdnb["soft term / ours"], kdnb["our alpha"], kdnb["scale c"]) == (1, 0.5, 1)


# Limits


@pytest.mark.parametrize("num_classes", [3, 10, 100])
def test_the_error_to_logit_matching_halves_with_each_doubling_of_tau(num_classes):
    """A pattern as .1297, .0695, .0356, .0179, .0090 for tau 2 to 32: halved, the better the higher tau is."""
    z, v, _ = batch(num_classes, scale=1.0, seed=3)
    errors = [temperature.matching_error(z, v, 2.0**power) for power in range(1, 9)]
    ratios = np.divide(errors[1:], errors[:-1])
    assert ratios[2:] == pytest.approx(0.5, abs=0.05)
    assert abs(ratios[-1] - 0.5) < abs(ratios[0] - 0.5) + 0.01


def test_with_two_classes_it_quarters():
    z, v, _ = batch(2, scale=1.0)
    errors = [temperature.matching_error(z, v, 2.0**power) for power in range(3, 8)]
    assert np.divide(errors[1:], errors[:-1]) == pytest.approx(0.25, abs=0.01)


def test_targets_lose_their_classes_and_the_gradient_does_not():
    z, v, y = batch(10)
    limit = theory.logit_matching_gradient(z, v).norm()
    left = [temperature.structure(v, tau) for tau in (0.01, 1.0, 1e3, 1e6)]
    assert left[0] == pytest.approx(0.9, abs=1e-3)  # one-hot: 1 - 1/K
    assert left == sorted(left, reverse=True)
    assert left[-1] < 1e-5
    for tau in (1e3, 1e5):
        soft = theory.kd_gradient(z, y, v, 1.0, tau).norm()
        assert float(soft / limit) == pytest.approx(1, abs=5e-3)


# No loss and no gradient that is not finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("tau", [0.05, 0.5, 1.0, 4.0, 20.0, 1000.0])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_loss_and_gradient_are_finite(num_classes, tau, scale, dtype):
    z, v, y = batch(num_classes, seed=1, dtype=torch.float32)
    z, v = ((scale * x / x.abs().max()).to(dtype).requires_grad_() for x in (z, v))
    for alpha in (0.5, 1.0):
        loss = kd_loss(z, y, v, alpha, tau)
        (gradient,) = torch.autograd.grad(loss, z)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        assert gradient.dtype == dtype
        double = [x.detach().double() for x in (z, v)]
        exact = theory.kd_gradient(double[0], y, double[1], alpha, tau) / ROWS
        bar = 1e-2 if dtype == torch.bfloat16 else 1e-3
        torch.testing.assert_close(gradient.double(), exact, rtol=bar, atol=bar * float(exact.abs().max()))


@pytest.mark.parametrize("form", ["log of softmax", "quotient of posteriors"])
def test_the_plain_forms_are_not_finite_where_ours_is(form):
    """At tau .05 a posterior of logits 10 apart underflows: what the test above guards against is real."""
    z, v, y = batch(10, seed=1, dtype=torch.float32)
    z, v = (10 * z).requires_grad_(), 10 * v
    p, target = ((x / 0.05).softmax(-1) for x in (z, v))
    log_p = p.log() if form == "log of softmax" else -(target / p).log()
    plain = -(target * log_p).sum(-1).mean()
    (gradient,) = torch.autograd.grad(plain, z)
    assert not (torch.isfinite(plain) and torch.isfinite(gradient).all())
    (ours,) = torch.autograd.grad(kd_loss(z, y, v, 1.0, 0.05), z)
    assert torch.isfinite(ours).all()


# The best temperature


@pytest.mark.slow
def test_students_are_made_once_and_the_best_is_chosen_on_validation(store, monkeypatch):
    table = temperature.study("toy")
    taus, teachers, seeds = temperature.TAUS["toy"], temperature.TEACHER_EPOCHS["toy"], temperature.SEEDS["toy"]
    assert len(table) == seeds * (1 + len(teachers) * len(taus))
    assert table[table.teacher_epochs == 0].tau.isna().all()
    assert table[table.teacher_epochs > 0].confidence.between(0.1, 1).all()
    monkeypatch.setattr(temperature, "make", lambda *_: pytest.fail("made again"))
    assert temperature.study("toy").equals(table)
    chosen = temperature.best(table)
    assert len(chosen) == seeds * len(teachers)
    for row in chosen.itertuples():
        same = table[(table.seed == row.seed) & (table.teacher_epochs == row.teacher_epochs)]
        assert row.validation_nll == same.validation_nll.min()
    by_accuracy = temperature.best(table, "validation_accuracy")
    for row in by_accuracy.itertuples():
        same = table[(table.seed == row.seed) & (table.teacher_epochs == row.teacher_epochs)]
        assert row.validation_accuracy == same.validation_accuracy.max()


def test_a_grid_that_is_not_stored_gives_a_table_without_rows(store):
    registry.grids()
    table = temperature.of_grid("section", "cpu")
    assert len(table) == 0
    assert set(temperature.MEASURES) <= set(table.columns)


def test_students_that_are_stored_without_their_teacher_are_told_and_left_out(store, capsys):
    registry.grids()
    for seed in (0, 1):
        (erm,) = (p for p in grids.stages("temperature", "rt", "toy", "0" * 16, (seed,)).erm if p.arm == "erm_large")
        fakes.store_run(erm.config, 12)
    for point in grids.stages("temperature", "rt", "toy", "0" * 16, (0, 1)).soft:
        fakes.store_run(point.config, 14)
    assert set(temperature.of_grid("rt", "toy").seed) == {0, 1}
    shutil.rmtree(store / erm.config.run_id())
    assert set(temperature.of_grid("rt", "toy").seed) == {0}
    (line,) = capsys.readouterr().err.splitlines()
    assert erm.config.run_id() in line


@pytest.mark.slow
def test_of_a_grid_seeds_are_read_that_leave_a_choice(monkeypatch):
    """Most committed seeds of rt have tau 1 alone, and so have all of headline: the best of one is no best."""
    monkeypatch.setattr(paths, "RUNS", paths.ROOT / "none")
    monkeypatch.setattr(paths, "REFERENCE", paths.ROOT / "outputs" / "reference" / "runs")
    registry.grids()
    table = temperature.of_grid("rt", "cpu")
    assert table.groupby("seed").tau.nunique().tolist() == [5, 5, 5]
    assert temperature.of_grid("section", "cpu").groupby("seed").tau.nunique().tolist() == [5] * 5
    assert temperature.of_grid("headline", "cpu").empty
