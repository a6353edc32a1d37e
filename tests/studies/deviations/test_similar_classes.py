"""Gradient denoising, our formalisation (docs/experiments.md, T9.1-T9.3)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import random_batch

from kdnb.core.losses import one_hot_targets
from kdnb.studies.deviations import similar_classes as al
from kdnb.studies.deviations import similar_classes as zeroing
from kdnb.studies.deviations.spectral import gradient_flow
from kdnb.studies.deviations.trainers import Descent, Teaching, fit_linear, fit_networks, init_networks

LAM = np.r_[np.full(10, 10.0), np.full(2000, 0.2)]
TRUTH = np.r_[np.ones(10), np.zeros(2000)]
SEEDS = range(4)


@pytest.mark.parametrize(("name", "rho"), [("one-hot", 0.5345), ("KD", 0.8160), ("teacher", 0.3951)])
def test_known_alignments_and_their_monte_carlo(name, rho):
    f = al.directions(LAM, 0.1)[name]
    assert al.alignment(LAM, TRUTH, 5.0, f) == pytest.approx(rho, abs=5e-5)
    drawn = al.sampled_cosines(LAM, TRUTH, 5.0, f, 200, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(rho, abs=0.02)


def test_signal_spread_over_the_spectrum_gives_the_teacher_no_advantage():
    lam = np.geomspace(10, 0.01, 30)
    found = {name: al.alignment(lam, np.arange(1, 31) ** -0.5, 1.0, f) for name, f in al.directions(lam, 0.5).items()}
    assert found == pytest.approx({"KD": 0.685, "one-hot": 0.691, "teacher": 0.617}, abs=5e-4)


def test_the_filters_are_the_gradients_they_are_named_after():
    """On real inputs: X^T y, X^T X b(T) and b(T), each in the eigenbasis over X^T y."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 8)), rng.normal(size=30)
    lam, v = np.linalg.eigh(x.T @ x)
    teacher = gradient_flow(x, y, 0.05)
    for name, direction in (("one-hot", x.T @ y), ("KD", x.T @ (x @ teacher)), ("teacher", teacher)):
        np.testing.assert_allclose(v.T @ direction / (v.T @ x.T @ y), al.directions(lam, 0.05)[name], rtol=1e-9)


def measured(steps, rows=1000, **changes):
    """Means over the seeds of `measures` for a teacher of `steps` steps."""
    found = []
    for seed in SEEDS:
        simulation = al.similar_classes(seed, rows, al.Resemblance(**changes))
        found.append(al.measures(simulation, fit_linear(simulation.toy, steps, lr=2.0)))
    return {name: np.mean([one[name] for one in found]) for name in found[0]}


def cosines(found):
    """Cosine to the features of KD's gradient, the labels' gradient and the teacher's weights."""
    return [found[f"cosine {name}"] for name in ("KD", "one-hot", "teacher")]


@pytest.mark.slow
def test_an_early_teacher_flips_the_push_and_points_best():
    found = measured(5)
    assert found["push one-hot"] == pytest.approx(-0.8 / 10, abs=1e-2)  # -rho / K
    assert found["push KD"] == pytest.approx(0.039, abs=0.01)
    assert found["flipped"] == pytest.approx(0.96, abs=0.02)
    assert cosines(found) == pytest.approx([0.842, 0.819, 0.812], abs=0.01)


@pytest.mark.slow
def test_a_late_teacher_flips_nothing():
    early = measured(5, rows=400)
    assert early["flipped"] == pytest.approx(0.73, abs=0.03)
    assert cosines(early) == pytest.approx([0.689, 0.668, 0.659], abs=0.01)
    late = measured(50, rows=400)
    assert late["push KD"] < 0
    assert late["flipped"] == 0
    assert cosines(late)[:2] == pytest.approx([0.673, 0.668], abs=0.005)


@pytest.mark.slow
def test_little_similarity_and_little_noise_is_a_failure_case():
    kd, one_hot, _ = cosines(measured(5, rho=0.5, noise=0.1))
    assert kd < one_hot


def test_first_gradient_is_autograds():
    toy = al.similar_classes(0, 50, al.Resemblance(dim=30)).toy
    targets = torch.rand(50, 10, dtype=torch.float64).softmax(1)
    weights = torch.zeros(30, 10, dtype=torch.float64, requires_grad=True)
    loss = F.cross_entropy(toy.inputs @ weights, targets)
    torch.testing.assert_close(torch.autograd.grad(loss, weights)[0], -al.first_gradient(toy, targets))


def test_the_features_themselves_have_cosine_one_and_a_common_vector_changes_nothing():
    simulation = al.similar_classes(0, 20, al.Resemblance(dim=40))
    common = torch.randn(40, 1, dtype=torch.float64)
    assert al.cosine_to_features(simulation.features.T * 3 + common, simulation.features) == pytest.approx(1)
    assert al.cosine_to_features(-simulation.features.T, simulation.features) == pytest.approx(-1)
    torch.testing.assert_close(simulation.features @ simulation.features.T, torch.eye(10, dtype=torch.float64))
    assert not (simulation.similar == simulation.toy.labels).any()


@pytest.mark.parametrize("m", [0, 1, 3])
def test_masked_classes_get_no_gradient_and_the_others_keep_theirs(m):
    logits, labels = random_batch(5, rows=30)
    mask = zeroing.most_similar(zeroing.confusion(logits.softmax(1), labels), m)[labels]
    assert mask.sum(1).eq(m).all()
    assert not mask[torch.arange(30), labels].any()
    z = logits.clone().requires_grad_(True)
    loss = F.cross_entropy(zeroing.without_gradient(z, mask), labels, reduction="sum")
    found = torch.autograd.grad(loss, z)[0]
    assert loss.item() == F.cross_entropy(logits, labels, reduction="sum").item()
    assert found[mask].abs().sum() == 0
    plain = logits.softmax(1) - one_hot_targets(labels, 5, logits.dtype)
    torch.testing.assert_close(found[~mask], plain[~mask])


def test_the_most_similar_class_is_where_the_posterior_goes():
    posteriors = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.7, 0.1]])
    seen = zeroing.confusion(posteriors, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(seen, torch.tensor([[0, 0.35, 0.1], [0.2, 0, 0.1], [0, 0, 0]]))
    assert zeroing.most_similar(seen, 1)[:2].tolist() == [[False, True, False], [True, False, False]]


def test_the_running_choice_follows_the_model_run_by_run():
    """Two stacked runs: the first takes class 0 for 1, the second for 2; class 2, unseen, keeps no memory."""
    labels = torch.tensor([[0, 0, 1], [0, 0, 1]])
    logits = torch.log(torch.tensor([[[0.6, 0.3, 0.1]] * 3, [[0.6, 0.1, 0.3]] * 3]))
    choose = zeroing.RunningSimilarity(1, decay=0.5)
    mask = choose(logits, labels)
    assert mask[0].tolist() == [[False, True, False]] * 2 + [[True, False, False]]
    assert mask[1].tolist() == [[False, False, True]] * 2 + [[True, False, False]]
    torch.testing.assert_close(choose.mean[0, 0], torch.tensor([0, 0.15, 0.05]))
    choose(logits.flip(-1), labels)
    torch.testing.assert_close(choose.mean[0, 0], torch.tensor([0, 0.225, 0.325]))
    assert choose.mean[0, 2].tolist() == [0, 0, 0]


def test_zeroing_reaches_both_trainers():
    """The first step moves no masked logit's weights; the others move as without the mask."""
    toy = al.similar_classes(0, 40, al.Resemblance(dim=20, num_classes=4), test_rows=1).toy

    def third(logits, _):
        return torch.arange(4).eq(3).expand(logits.shape)

    plain, zeroed = fit_linear(toy, 1), fit_linear(toy, 1, teaching=Teaching(mask=third))
    assert zeroed[:, 3].abs().sum() == 0
    torch.testing.assert_close(zeroed[:, :3], plain[:, :3])
    inputs, labels = toy.inputs.float()[None], toy.labels[None]
    start = init_networks([(20, 6), (6, 4)], (0,))
    end = fit_networks(start, (inputs, labels), Descent(1, 0.1, 40, "sgd"), Teaching(mask=third))
    assert torch.equal(end[2][..., 3], start[2][..., 3])
    assert not torch.equal(end[2][..., :3], start[2][..., :3])


def test_groups_of_classes():
    pairs = al.similar_classes(0, 200, al.Resemblance(dim=20, group=2), test_rows=1)
    assert torch.equal(pairs.similar, pairs.toy.labels ^ 1)
    fives = al.similar_classes(0, 200, al.Resemblance(dim=20, group=5), test_rows=1)
    assert torch.equal(fives.similar // 5, fives.toy.labels // 5)
    assert not fives.similar.eq(fives.toy.labels).any()
    with pytest.raises(ValueError, match="group must be 0 or divide 10 classes"):
        al.Resemblance(group=3)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match=r"m must be in 0..2, got 3"):
        zeroing.most_similar(torch.zeros(3, 3), 3)
    with pytest.raises(ValueError, match=r"rho must be in \[0, 1\], got 1.5"):
        al.Resemblance(rho=1.5)
    with pytest.raises(ValueError, match="one shape"):
        al.alignment(LAM, TRUTH, 5.0, np.ones(3))
    with pytest.raises(ValueError, match="no angle"):
        al.alignment(LAM, 0 * TRUTH, 5.0, np.ones_like(LAM))
