"""Losses that take over from one another in mid-training (arXiv 2301.12923; T7.1-T7.3)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kdnb.core.config import RunConfig
from kdnb.core.methods import METHODS, Switch, batch_loss
from kdnb.core.store import SPLITS, Run
from kdnb.experiment import training
from kdnb.experiment.training import train as fit
from kdnb.sweeps import grids

STEPS = 8  # of a quick run: two epochs of four batches


def weights_of(config, step, total):
    """Name of each side -> its weight at a step."""
    return {method.name: weight for method, weight in Switch.of(config).weights(step, total)}


@pytest.fixture(scope="module")
def teacher(toy, quick):
    return fit(quick("erm_large"), toy)


@pytest.fixture(scope="module")
def switched(quick, teacher):
    """switched(before, after, at, **changes): a config that changes its loss, taught by the large model."""

    def config(before, after, at, **changes):
        pure = quick("kd_standard", teacher_run=teacher.run_id, epochs=2, batch_size=16, tau=4.0, alpha=0.8)
        if "kd" not in (before, after):
            changes = {"teacher_run": "", "tau": 1.0, **changes}
        return replace(pure, method="switch", before=before, after=after, switch_at=at, **changes)

    return config


def pure(config, method):
    """The same run by one method alone."""
    settings = {name: getattr(config, name) for name in METHODS[method].settings()}
    return replace(config.plain(), method=method, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("erm", "kd"), ("kd", "erm"), ("ls", "kd"), ("erm", "ls")])
@pytest.mark.parametrize("ramp", [0.0, 0.25])
def test_a_switch_at_either_end_is_the_pure_method_bit_for_bit(toy, teacher, switched, before, after, ramp):
    for at, method in ((0.0, after), (1.0, before)):
        one, other = (
            fit(config, toy, teacher if config.teacher_run else None)
            for config in (switched(before, after, at, ramp=ramp), pure(switched(before, after, at), method))
        )
        for split in SPLITS:
            np.testing.assert_array_equal(one.logits[split], other.logits[split])


@pytest.mark.slow
def test_a_switch_in_the_middle_is_neither(toy, teacher, switched):
    found = [fit(switched("erm", "kd", at), toy, teacher).logits["test"] for at in (0.0, 0.5, 1.0)]
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


@pytest.mark.slow
def test_the_first_half_is_the_pure_methods_first_half(toy, teacher, switched):
    """Up to the switch the two trainings are one: their losses agree to the bit, and then no more."""
    losses = {}
    for config in (switched("erm", "kd", 0.5), pure(switched("erm", "kd", 0.5), "erm")):
        kept = losses.setdefault(config.method, [])
        fit(config, toy, teacher if config.teacher_run else None, lambda _step, _total, loss, k=kept: k.append(loss))
    equal = [one == other for one, other in zip(losses["switch"], losses["erm"], strict=True)]
    assert equal == [True] * (STEPS // 2) + [False] * (STEPS // 2)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("erm", "kd"), ("kd", "erm")])
def test_weights_before_within_and_after_the_ramp(switched, before, after):
    """T7.2: 0, a half and 1 at s - 1, s + ramp / 2 and s + ramp."""
    config, total = switched(before, after, 0.25, ramp=0.1), 1000
    share = [weights_of(config, step, total)[after] for step in (249, 250, 300, 350, 999)]
    assert share == [0, 0, 0.5, 1, 1]
    assert all(sum(weights_of(config, step, total).values()) == 1 for step in range(total))


def test_the_soft_weight_rises_as_the_shares_do(switched):
    """(1 - s) CE + s ((1 - alpha) CE + alpha KD) is KD at alpha s."""
    config, total = switched("erm", "kd", 0.5, ramp=0.4), 10
    z, t = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for step in range(total):
        share = weights_of(config, step, total)["kd"]
        wanted = batch_loss(replace(pure(config, "kd"), alpha=0.8 * share), z, labels, t)
        torch.testing.assert_close(batch_loss(config, z, labels, t, step, total), wanted)


class Watched(dict):
    """Logits by split that count how often those of train are asked for."""

    def __init__(self, logits):
        super().__init__(logits)
        self.asked = 0

    def __getitem__(self, split):
        self.asked += split == "train"
        return super().__getitem__(split)


@pytest.mark.slow
@pytest.mark.parametrize(("at", "first"), [(0.0, 1), (0.5, 5), (0.75, 7)])
def test_the_teachers_logits_are_not_touched_before_the_switch(toy, teacher, switched, monkeypatch, at, first):
    """T7.3, by counting: nothing is read until the first step of KD, and then once."""
    logits, seen = Watched(teacher.logits), []
    watched = Run(teacher.config, logits, teacher.labels, teacher.metrics, teacher.history)
    monkeypatch.setattr(
        training, "_read_off", lambda *_: replace(watched, metrics={})
    )  # the metrics at the end read the teacher for themselves
    fit(switched("erm", "kd", at), toy, watched, lambda step, *_: seen.append((step, logits.asked)))
    assert [step for step, asked in seen if asked] == list(range(first, STEPS + 1))
    assert logits.asked == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"before": "erm", "after": "erm"}, "after must be another method than before, got 'erm'"),
        ({"before": "", "after": "kd"}, "before must be one of erm, ls, kd, tfkd, got ''"),
        ({"before": "switch", "after": "kd"}, "before must be one of erm, ls, kd, tfkd"),
        ({"before": "erm", "after": "kd", "switch_at": 1.5}, r"switch_at must be in \[0, 1\], got 1.5"),
        ({"before": "erm", "after": "kd", "ramp": -0.1}, r"ramp must be in \[0, 1\], got -0.1"),
        ({"before": "erm", "after": "ls"}, "teacher_run must be a run_id for kd"),
        ({"method": "kd", "before": "erm"}, "before must be '' for kd, where it has no use"),
        ({"method": "kd", "switch_at": 0.5}, "switch_at must be 0.0 for kd, where it has no use"),
    ],
)
def test_a_switch_that_makes_no_sense_is_refused(switched, changes, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**{**vars(pure(switched("erm", "kd", 0.5), "kd")), "method": "switch", **changes})


def test_a_switched_run_shares_no_training(switched):
    """Its switch lies at a share of its own steps: a longer training does not pass through a shorter one."""
    one = switched("erm", "kd", 0.5, schedule="constant")
    assert one.training() != replace(one, epochs=4).training()
    assert pure(one, "kd").training() == replace(pure(one, "kd"), epochs=4).training()


def test_the_switching_grid_goes_both_ways_from_one_teacher():
    points = grids.stages("switching", "rt", "cpu", "0" * 16, seeds=(0,)).points
    ways = {(p.config.before, p.config.after): 0 for p in points if p.config.method == "switch"}
    for point in points:
        if point.config.method == "switch":
            ways[point.config.before, point.config.after] += 1
    assert ways == {("erm", "kd"): 5, ("kd", "erm"): 5}
    assert len({p.config.teacher_run for p in points if p.config.teacher_run}) == 1
    pulls = {(p.config.alpha, p.config.tau) for p in points if "kd" in p.config.methods}
    assert pulls == {(1.0, 4.0)}
    assert len({p.title for p in points}) == len(points)
