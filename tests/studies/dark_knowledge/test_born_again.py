"""Born-again networks: what the controls keep of a teacher, the grid of families, ensembles and claims."""

import itertools
import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import cross_entropy, one_hot

from kdnb.core import metrics
from kdnb.core.config import RunConfig
from kdnb.core.entropy import posterior_entropy
from kdnb.core.losses import kd_loss
from kdnb.core.methods import METHODS, batch_loss, known
from kdnb.core.store import Run
from kdnb.experiment.arms import arm_config
from kdnb.studies.dark_knowledge import born_again, claims_generations
from kdnb.studies.dark_knowledge.born_again import Family
from kdnb.studies.dark_knowledge.grids import (
    BAN,
    CWTM,
    DKPP,
    DRAWN,
    ERM,
    INSTANCE,
    LABELS,
    MEAN,
    ROOT,
    STRIDE,
    bans,
    family,
)
from kdnb.studies.dark_knowledge.targets import (
    confidence_weights,
    drawn_confidences,
    drawn_targets,
    matched_targets,
    permuted,
    smoothed_entropy,
    smoothing_weight,
)
from kdnb.sweeps import grids
from kdnb.sweeps.engines import waves


def batch(num_classes=10, count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, num_classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(num_classes, (count,), generator=generator)


# What each control keeps


def test_dkpp_keeps_the_largest_entry_the_sum_and_the_entropy_of_each_row():  # T11.1
    logits, _ = batch()
    shuffled = permuted(logits, torch.Generator().manual_seed(1))
    before, after = logits.softmax(1), shuffled.softmax(1)
    assert torch.equal(shuffled.argmax(1), logits.argmax(1))
    torch.testing.assert_close(after.amax(1), before.amax(1))
    torch.testing.assert_close(posterior_entropy(shuffled), posterior_entropy(logits))
    assert torch.equal(shuffled.sort(1).values, logits.sort(1).values)  # no entry crosses a row
    assert (shuffled != logits).any(1).double().mean() > 0.95


def test_dkpp_draws_every_order_about_as_often():
    logits = torch.tensor([[9.0, 1.0, 2.0, 3.0]]).expand(6000, 4)
    orders = permuted(logits, torch.Generator().manual_seed(2))[:, 1:]
    _, counts = torch.unique(orders, dim=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 850
    assert counts.max() < 1150  # 1,000 expected, sd 29


def test_at_two_classes_dkpp_is_the_identity_and_its_loss_is_kd():  # T11.1
    logits, labels = batch(2)
    assert torch.equal(permuted(logits), logits)
    student, _ = batch(2, seed=1)
    assert known("dkpp")
    ours = METHODS["dkpp"](teacher_run="x", alpha=0.7).loss(student, labels, logits)
    torch.testing.assert_close(ours, kd_loss(student, labels, logits, 0.7))


def test_weights_of_cwtm_sum_to_1_and_equal_confidences_give_plain_cross_entropy():  # T11.2
    logits, labels = batch()
    weights = confidence_weights(logits)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert (weights.argsort() == logits.softmax(1).amax(1).argsort()).all()
    student, _ = batch(seed=1)
    equal = permuted(logits[:1].expand_as(logits))  # every row as sure as every other
    known("cwtm")
    ours = METHODS["cwtm"](teacher_run="x").loss(student, labels, equal)
    torch.testing.assert_close(ours, cross_entropy(student, labels))


def test_the_gradient_of_cwtm_is_that_of_its_weighted_sum():
    known("cwtm")
    logits, labels = batch(count=20)
    student = batch(count=20, seed=1)[0].requires_grad_()
    METHODS["cwtm"](teacher_run="x").loss(student, labels, logits).backward()
    expected = confidence_weights(logits)[:, None] * (student.softmax(1) - one_hot(labels, 10))
    torch.testing.assert_close(student.grad, expected.detach())


@pytest.mark.parametrize("num_classes", [2, 5, 10])
def test_the_smoothing_weight_has_the_entropy_asked_for(num_classes):
    wanted = torch.linspace(0, float(np.log(num_classes)), 50, dtype=torch.float64)
    weight = smoothing_weight(wanted, num_classes)
    torch.testing.assert_close(smoothed_entropy(weight, num_classes), wanted, atol=1e-9, rtol=0)
    assert weight[0] == 0
    assert weight[-1] == pytest.approx(1, abs=1e-4)


def test_matched_targets_are_as_soft_as_the_teacher_and_know_no_class_of_it():
    logits, labels = batch()
    entropy = posterior_entropy(logits)
    each = matched_targets(logits, labels, by_instance=True)
    torch.testing.assert_close(-torch.xlogy(each, each).sum(1), entropy, atol=1e-8, rtol=0)
    mean = matched_targets(logits, labels, by_instance=False)
    torch.testing.assert_close(-torch.xlogy(mean, mean).sum(1), entropy.mean().expand(200), atol=1e-8, rtol=0)
    assert (mean.argmax(1) == labels).all()
    other = torch.stack([row[row != row.max()] for row in each])
    assert (other.amax(1) - other.amin(1)).max() < 1e-12  # flat over all classes but the label


def test_drawn_confidences_are_spread_as_the_teachers_and_know_no_example():
    logits, labels = batch(count=20_000)
    logits = torch.where(torch.rand(20_000, 1, generator=torch.Generator().manual_seed(1)) < 0.5, logits, 0.2 * logits)
    confidence = logits.softmax(1).amax(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn, targets = drawn_confidences(logits), drawn_targets(logits, labels)
    assert float(drawn.mean()) == pytest.approx(float(confidence.mean()), abs=0.01)
    assert float(drawn.std()) == pytest.approx(float(confidence.std()), abs=0.02)
    assert abs(np.corrcoef(drawn, confidence)[0, 1]) < 0.03  # 4 sd
    torch.testing.assert_close(targets.sum(1), torch.ones(20_000, dtype=torch.float64))
    assert (targets.gather(1, labels[:, None]).squeeze(1) >= targets.amax(1) - 1e-12).all()
    other = targets.scatter(1, labels[:, None], torch.nan)
    assert np.nanmax(np.nanmax(other, axis=1) - np.nanmin(other, axis=1)) < 1e-12


@pytest.mark.parametrize("sure", [0.0, 60.0])
def test_a_teacher_that_is_equally_sure_of_all_has_every_label_smoothed_alike(sure):
    logits, labels = sure * one_hot(torch.arange(40) % 10, 10).float(), torch.arange(40) % 10
    with torch.random.fork_rng():
        torch.manual_seed(0)
        targets = drawn_targets(logits, labels)
    label = targets.gather(1, labels[:, None])
    torch.testing.assert_close(label, torch.full((40, 1), 0.1 if sure == 0 else 1.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("method", "more"), [("cwtm", {}), ("dkpp", {}), ("matched_ls", {"matched": "instance"})])
def test_a_method_of_this_room_is_a_config_with_a_name_of_its_own(method, more):
    base = arm_config("kd_self", task="digits", profile="toy", data="x", seed=0, teacher_run="t")
    config = RunConfig.of({**vars(base.plain()), "method": method, "teacher_run": "t", **more})
    assert RunConfig.from_dict(config.values()) == config
    assert config.run_id() != config.plain().run_id()
    logits, labels = batch()
    assert batch_loss(config, logits, labels, lambda: batch(seed=1)[0]).isfinite()
    with pytest.raises(ValueError, match="teacher_run must be a run_id"):
        config.changed(teacher_run="")


def test_matched_ls_refuses_what_it_cannot_match():
    base = arm_config("erm_small", task="digits", profile="toy", data="x", seed=0)
    with pytest.raises(ValueError, match="matched must be one of mean, instance, drawn, got 'median'"):
        RunConfig.of({**vars(base), "method": "matched_ls", "teacher_run": "t", "matched": "median"})


# The grid


def first(task="digits", profile="cpu", seed=3):
    return arm_config("erm_small", task=task, profile=profile, data="x", seed=seed, history_points=0)


def test_a_family_has_every_teacher_before_its_students_and_no_start_twice():
    members = family(first())
    names = [one.config.run_id() for one in members]
    for place, one in enumerate(members):
        assert not one.config.teacher_run or one.config.teacher_run in names[:place]
    seeds = [one.config.seed for one in members]
    assert len(set(seeds)) == len(seeds)
    assert all(seed % STRIDE == 3 for seed in seeds)
    assert sum(one.kind == BAN for one in members) == sum(one.kind == ERM for one in members) == bans("digits", "cpu")


def test_each_generation_is_taught_by_the_one_before_on_nothing_but_its_posteriors():
    generations = [one.config for one in family(first()) if one.kind in (ROOT, BAN)]
    for teacher, student in itertools.pairwise(generations):
        assert (student.teacher_run, student.alpha, student.tau) == (teacher.run_id(), 1.0, 1.0)


def test_dkpp_is_left_out_where_it_would_be_plain_kd():
    assert any(one.kind == DKPP for one in family(first()))
    assert not any(one.kind == DKPP for one in family(first("rt")))


def test_the_grid_runs_a_chain_in_waves():
    points = grids.stages("generations", "digits", "cpu", "x", (0, 1))
    assert len(points.erm) == 2
    groups = [[point] for point in points.soft]
    ordered = waves(groups)
    assert len(ordered) == bans("digits", "cpu")
    seen = {point.config.run_id() for point in points.erm}
    for wave in ordered:
        assert all(group[0].config.teacher_run in seen | {""} for group in wave)
        seen |= {group[0].config.run_id() for group in wave}
    assert sum(map(len, ordered)) == len(groups)
    assert waves([]) == [[]]


def test_a_part_of_the_grid_is_without_its_chain():
    assert grids.stages("generations", "digits", "cpu", "x", (0,), arms=("erm_small",)).soft == []
    assert grids.stages("generations", "digits", "cpu", "x", (0,), only={"lr": (2e-3,)}).soft == []


@pytest.mark.slow
def test_shards_of_the_grid_wait_for_each_others_teachers(store, kdnb):
    shard = ["sweep", "generations", "--task=digits", "--profile=toy", "--seeds=0", "--engine=shard", "--shard"]
    code, out, error = kdnb(*shard, "2/2")
    assert (code, error) == (0, "")
    counts = [tuple(map(int, place)) for place in re.findall(r"^\[(\d+)/(\d+)\]", out, re.MULTILINE)]
    assert all(count <= total for count, total in counts), counts  # the other share's teachers are counted too
    assert counts[-1][0] == counts[-1][1]
    assert kdnb(*shard, "1/2")[0] == 0
    found = born_again.families(born_again.study("digits", "toy"))
    assert [one.seed for one in found] == [0]
    assert len(found[0].runs) == len(family(first(profile="toy", seed=0)))


# What is made of the runs


def run_of(config, seed, sure=2.0):
    generator = np.random.default_rng(seed)
    labels = {split: generator.integers(10, size=40) for split in ("train", "validation", "test")}
    logits = {
        split: (generator.normal(size=(40, 10)) + sure * np.eye(10)[labels[split]]).astype(np.float32)
        for split in labels
    }
    values = {split: metrics.summary(logits[split], labels[split], None) for split in labels}
    return Run(config, logits, labels, {**values, "cost": {"seconds": 1.0}}, [])


def hand_made(seed):
    """A family whose labels are all the same, and whose later generations are surer."""
    shared = run_of(first(), 1000).labels
    runs = {}
    for place, one in enumerate(family(first(seed=seed))):
        run = run_of(one.config, 100 * seed + place, sure=2 + one.generation)
        logits = {s: run.logits[s] + 2 * np.eye(10, dtype=np.float32)[shared[s]] for s in shared}
        values = {s: metrics.summary(logits[s], shared[s], None) for s in shared}
        runs[one.kind, one.generation] = Run(one.config, logits, shared, values, [])
    return Family(seed, runs)


@pytest.mark.slow
def test_the_nll_of_an_ensemble_is_at_most_its_members():  # T11.3
    families = [hand_made(seed) for seed in range(3)]
    made = born_again.ensembles(families)
    assert (made.nll <= made.mean_member + 1e-12).all()
    assert set(made.kind) == {"BAN", "ERM, equal size", "ERM, equal FLOPs"}
    runs = families[0].bans(3)
    by_hand = np.mean([metrics.posterior(run.logits["test"]) for run in runs], axis=0)
    np.testing.assert_allclose(metrics.posterior(born_again.ensemble(runs)), by_hand, atol=1e-12)


@pytest.mark.slow
def test_an_ensemble_of_one_is_its_member_and_equal_flops_has_one_member_more():
    made = born_again.ensembles([hand_made(0)])
    alone = made[(made.kind == "BAN") & (made["size"] == 1)].iloc[0]
    assert alone.nll == pytest.approx(alone.mean_member)
    assert alone.accuracy == alone.best_member
    one = hand_made(0)
    assert len(one.erms(3)) == len(one.bans(3)) == 3
    more = made[(made.kind == "ERM, equal FLOPs") & (made["size"] == 3)].iloc[0]
    runs = [one.run(ROOT, 0), *one.erms(3)]
    by_hand = metrics.summary(born_again.ensemble(runs), runs[0].labels["test"], None)
    assert more.nll == pytest.approx(by_hand["nll"])


def test_the_values_of_the_claims_by_hand():
    """H11.1, H11.2, H11.2b, H11.4a, H11.4b, H11.5-H11.9."""
    one = hand_made(0)
    accuracies = [one.run(ROOT, 0).metrics["test"]["accuracy"], *(r.metrics["test"]["accuracy"] for r in one.bans())]
    gains = np.diff(accuracies)
    values = {name: value(one) for name, value in claims_generations.VALUES.items()}
    assert values["every gain"] == pytest.approx(gains.min())
    assert values["first gain"] == pytest.approx(gains[0] - gains[1:].max())
    assert values["saturation"] == pytest.approx(gains[:3].sum() - gains[3:].sum())
    entropies = [run.metrics["test"]["entropy"] for run in (one.run(ROOT, 0), *one.bans())]
    assert values["entropy drift"] == pytest.approx(stats.linregress(range(len(entropies)), entropies).slope)
    test = {kind: one.run(kind).metrics["test"] for kind in (BAN, LABELS, MEAN, INSTANCE, DRAWN, DKPP, CWTM)}
    assert values["labels beside"] == pytest.approx(test[LABELS]["accuracy"] - test[BAN]["accuracy"])
    assert values["smoothing as soft"] == pytest.approx(test[MEAN]["nll"] - test[BAN]["nll"])
    assert values["smoothing as soft each"] == pytest.approx(test[INSTANCE]["nll"] - test[BAN]["nll"])
    assert values["smoothing as drawn"] == pytest.approx(test[DRAWN]["nll"] - test[INSTANCE]["nll"])
    assert values["confidence alone"] == pytest.approx(test[DKPP]["accuracy"] - test[CWTM]["accuracy"])
    half = (test[DKPP]["accuracy"] - accuracies[0]) - (test[BAN]["accuracy"] - accuracies[0]) / 2
    assert values["shuffled classes"] == pytest.approx(half)
    assert set(claims_generations.TESTS) >= {claim.test for claim in claims_generations.CLAIMS.values()}


def test_a_family_with_gaps_has_no_value_where_a_run_is_missing():
    one = Family(0, {(ROOT, 0): hand_made(0).run(ROOT, 0)})
    assert all(value(one) is None for value in claims_generations.VALUES.values())
    assert born_again.ensembles([one]).empty


def test_generations_end_at_the_first_that_is_missing():
    """BAN 3 minus BAN 1 is no gain of generation 2, and an ensemble of two has the first two."""
    whole = hand_made(0)
    without = {missing: Family(0, {k: v for k, v in whole.runs.items() if k != (BAN, missing)}) for missing in (1, 2)}
    accuracy = [whole.run(*place).metrics["test"]["accuracy"] for place in ((ROOT, 0), (BAN, 1))]
    values = claims_generations.VALUES
    assert values["every gain"](without[2]) == pytest.approx(accuracy[1] - accuracy[0])
    assert values["first gain"](without[2]) is values["saturation"](without[2]) is None
    assert values["every gain"](without[1]) is values["entropy drift"](without[1]) is None
    assert set(born_again.ensembles([without[2]])["size"]) == {1}
    assert born_again.ensembles([without[1]]).empty


def test_without_stored_families_there_is_no_study(store):
    assert born_again.study("digits", "toy") is None
