"""TOY-A, TOY-B and the small trainers (docs/experiments.md): signs and sizes measured elsewhere, within 30 %."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdnb.core.entropy import posterior_entropy
from kdnb.core.methods import share_after
from kdnb.studies.deviations import toys
from kdnb.studies.deviations.switched_toys import switched
from kdnb.studies.deviations.switching import recovered_gains
from kdnb.studies.deviations.trainers import (
    Descent,
    Teaching,
    fit_linear,
    fit_networks,
    init_networks,
    network_logits,
    patches,
    stacked,
)

SEEDS = range(3)


def accuracy(toy, weights):
    """Share of test examples a linear model gets right."""
    return float(((toy.test_inputs @ weights).argmax(1) == toy.test_labels).double().mean())


# TOY-A


def toy_a(seed=0, rows=1500, test_rows=4000):
    """TOY-A, calibrated noise: x ~ N(0, I_10), y ~ softmax(2 tanh(x W1) W2), three classes.

    The two matrices are the same for every seed (default_rng(123)); the seed draws the examples.
    """
    fixed, rng = np.random.default_rng(123), np.random.default_rng(seed)
    first = fixed.normal(size=(10, 16)) * 2 / np.sqrt(10)
    second = fixed.normal(size=(16, 3))

    def draw(count):
        x = rng.normal(size=(count, 10))
        noise = rng.gumbel(size=(count, 3))  # argmax of logits plus Gumbel noise is a draw from their softmax
        return x, np.argmax(2 * np.tanh(x @ first) @ second + noise, axis=1)

    return toys.toy_of(draw(rows), draw(test_rows), 3)


@pytest.fixture(scope="module")
def toy_a_entropies():
    """Mean test entropy [nats] and accuracy of each arm, three seeds side by side."""
    x, y, test_x, test_y = stacked([toy_a(seed) for seed in SEEDS])
    told, train = {}, {}

    def arm(name, hidden, teacher=None, alpha=1.0, tau=1.0, start=0):
        seeds = range(start, start + 3)
        parameters = init_networks([(10, hidden), (hidden, 3)], seeds)
        parameters = fit_networks(parameters, (x, y), Descent(20, 3e-3, seeds=seeds), Teaching(teacher, alpha, tau))
        logits = network_logits(parameters, test_x)
        train[name] = network_logits(parameters, x)
        told[name] = (
            posterior_entropy(logits.flatten(0, 1)).mean().item(),
            (logits.argmax(-1) == test_y).double().mean().item(),
        )

    arm("ERM big", 128, start=100)
    arm("ERM", 8)
    arm("LS", 8, torch.zeros_like(train["ERM"]), 0.3)
    arm("KD", 8, train["ERM big"])
    arm("KD tau 4", 8, train["ERM big"], tau=4.0)
    arm("self-KD", 8, train["ERM"], 0.9, start=50)  # with its teacher's own start the effect is next to nothing
    arm("reverse KD", 128, train["ERM"], 0.9, start=150)
    return told


MEASURED_A = {
    "ERM": (0.422, 0.818), "ERM big": (0.346, 0.816), "LS": (0.824, 0.815), "KD": (0.406, 0.822),
    "KD tau 4": (0.332, None), "self-KD": (0.439, 0.823), "reverse KD": (0.430, None),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("arm", MEASURED_A)
def test_toy_a_has_its_known_sizes(arm, toy_a_entropies):
    entropy, correct = MEASURED_A[arm]
    found = toy_a_entropies[arm]
    assert found[0] == pytest.approx(entropy, abs=0.03)
    assert correct is None or found[1] == pytest.approx(correct, abs=0.02)


@pytest.mark.slow
def test_toy_a_has_its_known_signs(toy_a_entropies):
    h = {arm: value[0] for arm, value in toy_a_entropies.items()}
    assert h["LS"] > h["self-KD"] > h["ERM"] > h["KD"] > h["KD tau 4"]
    assert h["reverse KD"] > h["ERM big"]


def test_toy_a_has_the_noise_it_is_drawn_with():
    """The labels are drawn from known posteriors: the true model is calibrated, and none is better."""
    toy = toy_a(0, rows=10, test_rows=20_000)
    fixed = np.random.default_rng(123)
    first, second = fixed.normal(size=(10, 16)) * 2 / np.sqrt(10), fixed.normal(size=(16, 3))
    logits = torch.from_numpy(2 * np.tanh(toy.test_inputs.numpy() @ first) @ second)
    nll, entropy = F.cross_entropy(logits, toy.test_labels).item(), posterior_entropy(logits).mean().item()
    assert nll == pytest.approx(entropy, abs=0.015)


# TOY-B


@pytest.mark.slow
def test_toy_b_is_what_it_says():
    toy = toys.toy_b(3, rows=20_000, test_rows=10)
    clean = toys.toy_b(3, rows=20_000, test_rows=10, label_noise=0)
    assert torch.equal(toy.inputs, clean.inputs)
    assert (toy.labels != clean.labels).double().mean().item() == pytest.approx(0.2 * 4 / 5, abs=0.01)
    centers = np.random.default_rng(7).normal(size=(5, 10))
    means = np.stack([clean.inputs[clean.labels == k].mean(0).numpy() for k in range(5)])
    np.testing.assert_allclose(means[:, :10], centers, atol=0.12)
    np.testing.assert_allclose(means[:, 10:], 0, atol=0.05)
    spread = clean.inputs[clean.labels == 0].std(0).numpy()
    np.testing.assert_allclose(spread, 2 * np.arange(1, 201) ** -0.5, rtol=0.1)


@pytest.mark.slow
def test_toy_b_switching_recovers_the_known_gains():
    """Six seeds, N = 300: accuracies of one-hot, KD, and the switches in both directions."""
    found = []
    for seed in range(6):
        toy = toys.toy_b(seed)
        teacher = toy.inputs @ fit_linear(toy, 300)
        alphas = [0.0, 1.0, *(switched(*ends, s * 300) for ends in ((0, 1), (1, 0)) for s in (0.25, 0.5, 0.75))]
        found.append([accuracy(toy, fit_linear(toy, 300, teaching=Teaching(teacher, alpha))) for alpha in alphas])
    one_hot, kd, *to_kd, a, b, c = np.mean(found, axis=0)
    assert [one_hot, kd, *to_kd, a, b, c] == pytest.approx(
        [0.758, 0.803, 0.796, 0.785, 0.773, 0.767, 0.777, 0.788], abs=0.02
    )
    gains = [recovered_gains(switched, *np.transpose(found)[:2]).mean() for switched in np.transpose(found)[2:5]]
    assert gains == pytest.approx([0.84, 0.60, 0.33], rel=0.3)
    assert kd > to_kd[0] > to_kd[1] > to_kd[2] > one_hot
    assert kd > c > b > a > one_hot


# Switching


@pytest.mark.parametrize("ramp", [1, 10, 40])
def test_the_ramp_at_its_known_points(ramp):
    alpha = switched(0.0, 0.7, 100, ramp)
    assert [alpha(99), alpha(100 + ramp / 2), alpha(100 + ramp)] == pytest.approx([0, 0.35, 0.7], abs=1e-15)
    back = switched(0.7, 0.0, 100, ramp)
    assert [back(step) for step in (99, 100 + ramp / 2, 100 + ramp)] == pytest.approx([0.7, 0.35, 0], abs=1e-15)


def test_a_hard_switch_and_a_switch_at_nought():
    assert [share_after(step, 5) for step in (4, 5, 6)] == [0, 1, 1]
    assert share_after(0, 0, ramp=10) == 1
    with pytest.raises(ValueError, match="ramp must be >= 0 steps, got -1"):
        share_after(0, 5, -1)


@pytest.mark.parametrize("ramp", [0, 3])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_ends_are_bit_identical_to_the_pure_methods(ramp, alpha):
    toy = toys.toy_b(0, rows=60, test_rows=1)
    teacher = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).double()

    def weights(alpha):
        return fit_linear(toy, 30, teaching=Teaching(teacher, alpha, 2.0))

    one_hot, kd = fit_linear(toy, 30), weights(alpha)
    assert not torch.equal(one_hot, kd)
    assert torch.equal(weights(switched(0, alpha, 0, ramp)), kd)
    assert torch.equal(weights(switched(0, alpha, 30, ramp)), one_hot)
    assert torch.equal(weights(switched(alpha, 0, 0, ramp)), one_hot)
    assert torch.equal(weights(switched(alpha, 0, 30, ramp)), kd)


def test_the_teacher_is_not_asked_before_the_switch():
    toy, asked, step_now = toys.toy_b(0, rows=40, test_rows=1), [], [0]

    def teacher():
        asked.append(step_now[0])
        return torch.zeros(40, 5, dtype=torch.float64)

    fit_linear(
        toy, 20, teaching=Teaching(teacher, switched(0, 1, 12)), on_step=lambda step, _: step_now.__setitem__(0, step)
    )
    assert asked == [12]
    fit_linear(toy, 20, teaching=Teaching(teacher, switched(0, 1, 20)))
    assert asked == [12]


# The trainers


def test_the_linear_trainer_takes_autograds_steps():
    toy = toys.toy_b(0, rows=30, test_rows=1)
    teacher = torch.randn(30, 5, generator=torch.Generator().manual_seed(1)).double()
    weights = torch.zeros(200, 5, dtype=torch.float64, requires_grad=True)
    for _ in range(4):
        logits = toy.inputs @ weights
        soft = F.cross_entropy(logits / 3, (teacher / 3).softmax(1))
        loss = 0.4 * F.cross_entropy(logits, toy.labels) + 0.6 * 9 * soft
        (pull,) = torch.autograd.grad(loss, weights)
        weights = (weights - 0.5 * pull).detach().requires_grad_(True)
    torch.testing.assert_close(fit_linear(toy, 4, teaching=Teaching(teacher, 0.6, 3.0)), weights.detach())


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_networks_side_by_side_train_as_they_would_alone(optimizer):
    x, y, *_ = stacked([toy_a(seed, rows=50, test_rows=5) for seed in (0, 1)])
    layers = [(10, 6), (6, 3)]
    both = fit_networks(init_networks(layers, (4, 5)), (x, y), Descent(3, 0.01, 16, optimizer, (8, 9)))
    second = fit_networks(init_networks(layers, (5,)), (x[1:], y[1:]), Descent(3, 0.01, 16, optimizer, (9,)))
    for together, alone in zip(both, second, strict=True):
        torch.testing.assert_close(together[1:], alone)


def test_patches_make_the_first_layer_a_convolution():
    images = torch.rand(2, 7, 64)
    parameters = init_networks([(25, 4), (16 * 4, 10)], (0, 1))
    ours = network_logits(parameters, patches(images))
    for r in (0, 1):
        kernel = parameters[0][r].T.reshape(4, 1, 5, 5)
        features = F.conv2d(images[r].reshape(7, 1, 8, 8), kernel).relu()
        theirs = features.permute(0, 2, 3, 1).flatten(1) @ parameters[2][r]
        torch.testing.assert_close(ours[r], theirs, rtol=1e-4, atol=1e-5)


def test_digits_are_split_and_their_test_labels_clean():
    clean, noisy = toys.digits(1, 1000), toys.digits(1, 1000, label_noise=0.5)
    assert len(clean.labels) + len(clean.test_labels) == 1797
    assert torch.equal(clean.test_labels, noisy.test_labels)
    assert torch.equal(clean.inputs, noisy.inputs)
    assert (clean.labels != noisy.labels).double().mean().item() == pytest.approx(0.45, abs=0.05)
    assert clean.inputs.min() == 0
    assert clean.inputs.max() == 1
    pixels = torch.cat([clean.inputs, clean.test_inputs])
    assert len(pixels.unique(dim=0)) == 1797  # no image on both sides


def test_mistakes_in_toys_are_told():
    with pytest.raises(ValueError, match=r"label_noise must be in \[0, 1\], got 2"):
        toys.toy_b(label_noise=2)
    with pytest.raises(ValueError, match=r"rows must be in 10..1796, got 1797"):
        toys.digits(rows=1797)
    with pytest.raises(ValueError, match="'rmsprop'"):
        Descent(1, 0.1, optimizer="rmsprop")
    with pytest.raises(ValueError, match="square"):
        patches(torch.zeros(2, 60))
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 3"):
        fit_linear(toys.toy_b(rows=10, test_rows=1), 1, teaching=Teaching(torch.zeros(10, 5).double(), 3.0))
