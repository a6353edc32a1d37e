"""What a run's convention says is what its loss does."""

import pytest
import torch

from kdnb.core.methods import METHODS, known
from kdnb.experiment.arms import arm_config
from kdnb.experiment.conventions import _of, convention

LOGITS = torch.tensor([[1.0, -1.0, 0.5], [0.2, 0.1, -0.3], [-2.0, 0.4, 1.0]])
TAUGHT = torch.tensor([[0.5, 1.0, -1.0], [1.5, 0.0, 0.3], [-1.0, 2.0, 0.1]])
LABELS = torch.tensor([0, 2, 1])


def method(name, **settings):
    assert known(name)
    return METHODS[name](**settings)


@pytest.mark.parametrize("name", ["ls", "kd", "dkpp"])
def test_alpha_weighs_the_soft_term(name):
    half, hard, soft = (method(name, alpha=alpha) for alpha in (0.25, 0.0, 1.0))
    assert _of(half)["alpha"] == "weighs the soft term: 0.25; the labels' has 0.75"
    mixed, labels, taught = (one.loss(LOGITS, LABELS, TAUGHT) for one in (half, hard, soft))
    if name != "dkpp":  # which draws anew at each call
        assert mixed == pytest.approx(0.75 * labels + 0.25 * taught)
    assert labels == pytest.approx(method("erm").loss(LOGITS, LABELS))


@pytest.mark.parametrize("name", ["kd", "tfkd"])
def test_tau_squared_multiplies_the_soft_term_or_is_left_out(name):
    with_it, without = (method(name, alpha=1.0, tau=3.0, tau2_scaling=on) for on in (True, False))
    assert _of(with_it)["tau squared"] == "multiplies the soft term"
    assert _of(without)["tau squared"] == "is left out"
    assert with_it.loss(LOGITS, LABELS, TAUGHT) == pytest.approx(9 * without.loss(LOGITS, LABELS, TAUGHT))


@pytest.mark.parametrize("name", ["erm", "ls", "kd", "tfkd", "matched_ls"])
def test_a_mean_over_examples_and_a_sum_over_classes(name):
    one = method(name)
    assert (_of(one)["over examples"], _of(one)["over classes"]) == ("mean", "sum")
    each = [one.loss(LOGITS[i : i + 1], LABELS[i : i + 1], TAUGHT[i : i + 1]) for i in range(3)]
    if name != "matched_ls":  # whose softness is the batch's
        assert one.loss(LOGITS, LABELS, TAUGHT) == pytest.approx(sum(each) / 3)
    far = torch.nn.functional.pad(LOGITS, (0, 5), value=-1e4), torch.nn.functional.pad(TAUGHT, (0, 5), value=-1e4)
    if name in ("erm", "kd"):  # classes of no mass change nothing: no mean over them
        assert one.loss(far[0], LABELS, far[1]) == pytest.approx(one.loss(LOGITS, LABELS, TAUGHT))


def test_confidence_weights_are_no_mean():
    one = method("cwtm")
    assert _of(one)["over examples"].startswith("sum, weighted")
    twice = [torch.cat([x, x]) for x in (LOGITS, LABELS, TAUGHT)]
    assert one.loss(*twice) == pytest.approx(one.loss(LOGITS, LABELS, TAUGHT))


def test_a_runs_convention_has_its_formula_and_no_setting_it_lacks():
    erm = convention(arm_config("erm_small", task="rt", profile="toy", data="x", seed=0))
    assert erm["loss"].startswith("H(q, p)")
    assert set(erm) == {"loss", "over classes", "over examples"}
    kd = convention(arm_config("kd_standard", task="rt", profile="toy", data="x", seed=0, teacher_run="t"))
    assert kd["loss"].startswith("(1 - alpha) H(q, p) + alpha tau^2 H(p^t_tau, p_tau)")
    assert "tau" in kd
