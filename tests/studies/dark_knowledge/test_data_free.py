"""Distillation without data: T13.1 to T13.3, and the proof that no data is there."""

import copy
import inspect
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from kdnb.analysis.statistics import over_seeds, verdict
from kdnb.catalog import Source
from kdnb.data import images, splits
from kdnb.models import vision
from kdnb.studies.dark_knowledge import claims_data_free, data_free, synthesis
from kdnb.studies.dark_knowledge.data_free import (
    CONVOLUTIONAL,
    DAFL,
    DFAD,
    DIGITS,
    FREE,
    INVERSION,
    NOISE,
    REAL,
    DataFree,
    Settings,
)

QUICK = Settings(student="mlp-small", steps=6, every=3, batch=16, hidden=8, pool=40, pool_steps=2)


def teacher_of(body, shape=(1, 8, 8), num_classes=10, seed=0, **moments):
    """A teacher of random weights; `moments` are put into its BatchNorm layers."""
    model = vision.untrained(Source("image", *body), shape, num_classes, 0.0, seed)
    for norm in model.norms:
        norm.running_mean.fill_(moments.get("mean", 0.3))
        norm.running_var.fill_(moments.get("var", 2.0))
    half = torch.full((shape[0], 1, 1), 0.5)
    return synthesis.Scaled(model, half, half.clone(), shape).frozen()


MLP, RESNET = ("mlp", "", (16,)), ("resnet", "", (1, 1, 1))


@pytest.fixture
def mlp():
    return teacher_of(("mlp", "", (16,)))


@pytest.fixture
def convolutional():
    return teacher_of(("resnet", "", (1, 1, 1)))


def random_images(count=32, shape=(1, 8, 8), seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


# T13.1: the information term


def test_uniform_mean_posterior_has_minus_one_in_log10_and_a_collapsed_one_zero():
    uniform = synthesis.information(torch.eye(10).repeat(3, 1))  # each class as often: pbar is uniform
    assert float(uniform) == pytest.approx(-np.log(10), abs=1e-6)
    assert float(uniform) / data_free.LN10 == pytest.approx(-1, abs=1e-6)  # the released code's log10
    collapsed = torch.zeros(8, 10)
    collapsed[:, 4] = 1
    assert float(synthesis.information(collapsed)) == 0


def test_default_weight_of_the_term_is_the_released_five_on_log10():
    posterior = torch.rand(32, 10, generator=torch.Generator().manual_seed(0)).softmax(-1)
    mean = posterior.mean(0)
    released = 5 * (mean * mean.log10()).sum()
    torch.testing.assert_close(Settings().information * synthesis.information(posterior), released)


def test_dafl_loss_is_its_three_terms():
    generator = torch.Generator().manual_seed(1)
    logits, features = torch.randn(6, 4, generator=generator), torch.randn(6, 5, generator=generator)
    p = logits.double().softmax(-1).numpy()
    one_hot, mean, size = -np.log(p.max(1)).mean(), p.mean(0), np.abs(features.numpy()).mean()
    wanted = 0.3 * one_hot + 2 * (mean * np.log(mean)).sum() - 0.7 * size
    how = replace(QUICK, one_hot=0.3, information=2.0, activation=0.7)
    assert float(synthesis.dafl_loss(logits, features, how)) == pytest.approx(wanted, rel=1e-5)


def test_reading_gives_the_logits_and_what_they_are_read_from(convolutional):
    logits, features = convolutional.reading(random_images())
    torch.testing.assert_close(logits, convolutional(random_images()))
    torch.testing.assert_close(convolutional.model.classifier(features), logits)


# T13.2: the adversary


def test_generator_climbs_what_the_student_descends(mlp):
    student = mlp.beside(vision.untrained(Source("image", "mlp", layers=(8,)), mlp.shape, 10, 0.0, 5))
    adversary = synthesis.Dfad(mlp, QUICK, torch.Generator().manual_seed(0))
    vectors = torch.randn(16, QUICK.latent, generator=torch.Generator().manual_seed(2))
    loss_s = synthesis.discrepancy(mlp(adversary.network(vectors)), student(adversary.network(vectors)))
    wanted = torch.autograd.grad(-loss_s, list(adversary.network.parameters()))  # L_G = -L_S on the same batch
    seen = []
    adversary.descend = lambda loss: seen.append(
        (loss.item(), torch.autograd.grad(loss, list(adversary.network.parameters())))
    )
    adversary.oppose(student, adversary.network(vectors))
    ((loss_g, gradients),) = seen
    assert loss_g == pytest.approx(-loss_s.item()) != 0
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_adversary_has_nothing_to_find_where_the_student_is_the_teacher(mlp):
    images_ = random_images()
    assert float(synthesis.discrepancy(mlp(images_), copy.deepcopy(mlp)(images_))) == 0
    assert float(synthesis.imitation(mlp(images_), copy.deepcopy(mlp)(images_))) == pytest.approx(0, abs=1e-6)


def test_adversary_moves_its_generator_every_fifth_step_and_never_the_student(mlp):
    student = mlp.beside(vision.untrained(Source("image", "mlp", layers=(8,)), mlp.shape, 10, 0.0, 5))
    before, adversary = student.digest(), synthesis.Dfad(mlp, QUICK, torch.Generator().manual_seed(0))
    states = []
    for _ in range(10):
        adversary(student)
        states.append(next(adversary.network.parameters()).detach().clone())
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(states)]
    assert [i + 2 for i, one in enumerate(moved) if one] == [5, 10]
    assert student.digest() == before
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())


# T13.3: no data, and a teacher that stays as it is


def test_what_trains_without_data_can_be_given_none():
    names = inspect.signature(synthesis.distil).parameters
    assert {name: one.annotation for name, one in names.items()} == {
        "teacher": "Scaled",
        "arm": "str",
        "how": "Settings",
        "seed": "int",
    }
    assert all(isinstance(value, int | float | str) for value in vars(Settings()).values())


def test_a_teacher_holds_weights_and_two_moments_of_pixels(mlp):
    others = {name for name, _ in mlp.named_buffers()} | {name for name, _ in mlp.named_parameters()}
    assert {name for name in others if not name.startswith("model.")} == {"mean", "std"}
    assert mlp.mean.numel() == mlp.std.numel() == mlp.shape[0]


@pytest.mark.parametrize("arm", FREE)
def test_training_runs_with_no_data_to_be_had_and_leaves_the_teacher_alone(arm, monkeypatch):
    teacher = teacher_of(RESNET if arm == INVERSION else MLP)

    def refuse(*_args, **_more):
        raise AssertionError("data was asked for")

    for where, name in ((splits, "load"), (images, "read"), (images, "digits"), (np, "load"), (pd, "read_csv")):
        monkeypatch.setattr(where, name, refuse)
    before = teacher.digest()
    looks = list(synthesis.distil(teacher, arm, QUICK, 0))
    assert len(looks) == QUICK.steps // QUICK.every
    assert teacher.digest() == before
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())
    for look in looks:
        assert look.histogram.sum() == pytest.approx(1)
        assert -np.log(10) - 1e-5 <= look.information <= 0
        assert 0 <= look.images.min() <= look.images.max() <= 1


def test_digest_sees_buffers(convolutional):
    before = convolutional.digest()
    next(part for part in convolutional.modules() if isinstance(part, torch.nn.BatchNorm2d)).running_var.add_(1e-6)
    assert convolutional.digest() != before


def test_same_seed_gives_the_same_student(mlp):
    first, again, other = (list(synthesis.distil(mlp, DFAD, QUICK, seed))[-1].student.digest() for seed in (1, 1, 2))
    assert first == again != other


def test_an_unknown_arm_is_named(mlp):
    with pytest.raises(ValueError, match=r"arm must be one of noise, DAFL,.*got 'real data'"):
        synthesis.distil(mlp, REAL, QUICK, 0)


# DeepInversion


def test_moments_are_zero_where_a_batch_has_those_of_the_layers(convolutional):
    batch = random_images(64)
    norms = [part for part in convolutional.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    for _ in norms:  # each pass settles one layer more; the biased variance is set by hand
        convolutional.train()
        convolutional(batch)
    convolutional.eval()
    for norm in norms:
        seen = []
        hook = norm.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            convolutional(batch)
        hook.remove()
        norm.running_mean.copy_(seen[0].mean((0, 2, 3)))
        norm.running_var.copy_(seen[0].var((0, 2, 3), unbiased=False))
    with synthesis.moments(convolutional) as terms, torch.no_grad():
        convolutional(batch)
        own = float(torch.stack(terms).sum())
        terms.clear()
        convolutional(random_images(64, seed=9) * 0.1)
    assert len(terms) == len(norms)
    assert own < 1e-3 < float(torch.stack(terms).sum())


def test_hooks_go_even_when_something_fails(convolutional):
    with pytest.raises(RuntimeError), synthesis.moments(convolutional):
        raise RuntimeError
    assert not any(part._forward_pre_hooks for part in convolutional.modules())


def test_a_teacher_without_batch_norm_cannot_be_inverted(mlp):
    with pytest.raises(ValueError, match="DeepInversion reads BatchNorm's moments, got a teacher without"):
        synthesis.distil(mlp, INVERSION, QUICK, 0)


@pytest.mark.slow
def test_inversion_lowers_its_own_loss(convolutional):
    def surprise(steps):
        made = synthesis.invert(convolutional, replace(QUICK, pool_steps=steps), torch.Generator().manual_seed(0))
        with synthesis.moments(convolutional) as terms, torch.no_grad():
            labels = torch.arange(len(made)) % 10
            return float(torch.nn.functional.cross_entropy(convolutional(made), labels) + torch.stack(terms).sum())

    assert surprise(15) < surprise(0)


def test_total_variation_of_a_step_counts_its_edge():
    picture = torch.zeros(2, 1, 4, 4)
    picture[0, :, :, 2:] = 1
    assert float(synthesis.total_variation(picture)) == pytest.approx(4 / 2)  # four rows, one edge each; two images


# Generators, controls, records


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_generators_make_images_of_the_teachers_shape(shape):
    made = synthesis.Generator(QUICK, shape)(torch.randn(4, QUICK.latent))
    assert made.shape == (4, *shape)
    assert 0 <= made.min() <= made.max() <= 1


def test_matched_noise_has_the_mean_of_each_pixel():
    real = synthesis.Real(random_images(50) * torch.linspace(0.1, 1, 64).reshape(1, 1, 8, 8), None, None)
    draw = real.matched(replace(QUICK, batch=20_000), torch.Generator().manual_seed(0))
    torch.testing.assert_close(draw(None).mean(0), real.train.mean(0), atol=0.01, rtol=0)


@pytest.fixture(scope="module")
def toys():
    """One experiment of the toy profile and its record, made."""
    data = splits.load("digits", "toy")
    one = DataFree(
        task="digits",
        profile="toy",
        data=data.fingerprint,
        classes=10,
        arms=DIGITS,
        seed=0,
        steps=6,
        every=3,
        teacher_epochs=2,
    )
    return one, synthesis.make(one)


@pytest.mark.slow
def test_record_of_an_experiment(toys, store):
    one, made = toys
    assert made.metrics["teacher_before"] == made.metrics["teacher_after"]
    assert made.arrays["accuracy"].shape == made.arrays["information"].shape == (len(DIGITS), 2)
    assert made.arrays["histogram"].shape == (len(DIGITS), 2, 10)
    assert made.arrays["samples"].dtype == np.uint8
    record = data_free.obtain(one)
    np.testing.assert_array_equal(record.arrays["accuracy"], made.arrays["accuracy"])
    rows = data_free.table({one: record})
    assert (rows.best >= rows["last"]).all()
    assert list(data_free.wide(rows).columns) == list(DIGITS)
    with pytest.raises(ValueError, match="the experiment is for data 0, got"):
        synthesis.taught(replace(one, data="0"))


@pytest.mark.slow
def test_experiments_of_a_profile_are_found_again_without_data(store, monkeypatch, capsys):
    wanted = data_free.experiments({"digits": splits.load("digits", "toy").fingerprint}, "toy")
    for one in wanted[:2]:
        data_free.obtain(one)
    monkeypatch.setattr(splits, "load", None)
    assert list(data_free.stored("toy")) == wanted[:2]
    assert data_free.stored("cpu") == {}
    (store / wanted[0].run_id() / "metrics.json").write_bytes(b"{}")
    assert list(data_free.stored("toy")) == wanted[1:2]
    assert wanted[0].run_id() in capsys.readouterr().err


def test_every_experiment_has_a_name_of_its_own():
    every = data_free.experiments({"digits": "a", "mnist5k": "b"})
    assert len({one.run_id() for one in every}) == len(every) == 4 * 5 + 3


# The claims, on tables whose answer is known


def rows_of(accuracies, entropies=None, task="digits", classes=10, seeds=(0, 1, 2)):
    return pd.DataFrame(
        [
            {
                "task": task,
                "classes": classes,
                "seed": seed,
                "arm": arm,
                "last": value + 0.001 * seed,
                "entropy": (entropies or {}).get(arm, 2.0) + 0.01 * seed * (arm == DAFL),
            }
            for seed in seeds
            for arm, value in accuracies.items()
        ]
    )


def decided(rows):
    found = claims_data_free.effects(rows)
    ends = {id: over_seeds(values, claims_data_free.CLAIMS[id].sign) for id, values in found.items()}
    return {id: verdict(end.low, end.high, claims_data_free.CLAIMS[id].sign) for id, end in ends.items()}


def test_claims_go_either_way():
    good = dict(zip(DIGITS, (0.95, 0.5, 0.6, 0.8, 0.1, 0.85, 0.4), strict=True))
    told = decided(rows_of(good, {data_free.NO_INFORMATION: 0.1}))
    assert told == dict.fromkeys(("H13.1a", "H13.1b", "H13.1c", "H13.1d", "H13.2"), "holds")
    told = decided(rows_of({**good, NOISE: 0.97}, {data_free.NO_INFORMATION: 2.2}))
    assert (told["H13.1a"], told["H13.1b"], told["H13.1c"], told["H13.2"]) == ("fails", "fails", "holds", "fails")


def test_on_mnist5k_the_smallest_difference_decides():
    """H13.1e of noise, DAFL, DFAD and data; H13.1f of DeepInversion between noise and data."""
    accuracies = dict(zip(CONVOLUTIONAL, (0.9, 0.2, 0.6, 0.85, 0.5), strict=True))
    values = claims_data_free.effects(rows_of(accuracies, task="mnist5k"))
    np.testing.assert_allclose(values["H13.1e"], 0.05)  # real data minus DFAD
    np.testing.assert_allclose(values["H13.1f"], 0.3)  # DeepInversion minus noise
    assert set(values) == {"H13.1e", "H13.1f"}


def test_growth_of_the_gap_is_the_slope_in_classes():
    rows = pd.concat(
        [
            rows_of({REAL: 0.9, NOISE: 0.2, DAFL: 0.9 - 0.01 * classes, DFAD: 0.5}, classes=classes)
            for classes in data_free.CLASSES
        ]
    )
    found = {
        id: values
        for id, values in claims_data_free.effects(pd.concat([rows, rows_of({data_free.NO_INFORMATION: 0.1})])).items()
        if id.startswith("H13.3")
    }
    np.testing.assert_allclose(found["H13.3a"], 1.0)  # points a class
    np.testing.assert_allclose(found["H13.3b"], 0.0, atol=1e-9)


def test_claims_without_records_have_no_effect(store):
    assert {claims_data_free.RUNLESS[one.test](one).n for one in claims_data_free.CLAIMS.values()} == {0}
