"""Posterior, entropy, cross-entropy and KL against theorems and torch (docs/experiments.md, T3.1, T3.5)."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import logits_batches, random_batch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from kdnb.core.entropy import cross_entropy, entropy, kl_divergence, log_posterior, posterior, posterior_entropy
from kdnb.core.metrics import check_entropy, mean_entropy, summary

TAUS = st.floats(0.05, 50)


def test_entropy_of_a_fair_coin_is_ln_2_and_of_a_certain_one_0():
    batch = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    assert entropy(batch[1]).item() == pytest.approx(0.693147, abs=1e-6)
    assert entropy(batch).mean().item() == pytest.approx(0.346574, abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 1000])
def test_equal_logits_have_entropy_log_k(num_classes):
    logits = torch.full((3, num_classes), 1.7, dtype=torch.float64)
    torch.testing.assert_close(posterior_entropy(logits), torch.full((3,), math.log(num_classes), dtype=torch.float64))


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_entropy_equals_torch_and_scipy(tau):
    logits, _ = random_batch(5)
    ours = posterior_entropy(logits, tau)
    torch.testing.assert_close(ours, torch.distributions.Categorical(logits=logits / tau).entropy())
    np.testing.assert_allclose(ours.numpy(), scipy_entropy(torch.softmax(logits / tau, dim=1).numpy(), axis=1))


def test_cross_entropy_and_kl_equal_torch():
    logits, labels = random_batch(4)
    targets = torch.softmax(random_batch(4, seed=1)[0], dim=1)
    torch.testing.assert_close(cross_entropy(targets, logits).mean(), F.cross_entropy(logits, targets))
    one_hot = F.one_hot(labels, 4).double()
    torch.testing.assert_close(cross_entropy(one_hot, logits), F.cross_entropy(logits, labels, reduction="none"))
    kl = F.kl_div(F.log_softmax(logits / 3, dim=1), targets, reduction="none").sum(dim=1)
    torch.testing.assert_close(kl_divergence(targets, logits, tau=3.0), kl)


@pytest.mark.slow
@given(logits_batches(), TAUS)
def test_entropy_lies_between_0_and_log_k(logits, tau):
    values = posterior_entropy(logits, tau)
    assert (values >= 0).all()
    assert (values <= math.log(logits.shape[1]) + 1e-9).all()


@given(logits_batches(), st.floats(-100, 100))
def test_adding_a_constant_to_the_logits_changes_nothing(logits, constant):
    torch.testing.assert_close(posterior_entropy(logits + constant), posterior_entropy(logits), atol=1e-9, rtol=0)


@pytest.mark.slow
@given(logits_batches(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_changes_nothing(logits, random):
    order = list(range(logits.shape[1]))
    random.shuffle(order)
    torch.testing.assert_close(posterior_entropy(logits[:, order]), posterior_entropy(logits), atol=1e-12, rtol=0)


@given(logits_batches(), TAUS, st.floats(1, 20))
def test_a_larger_tau_never_lowers_entropy(logits, tau, factor):
    assert (posterior_entropy(logits, tau * factor) >= posterior_entropy(logits, tau) - 1e-9).all()


@pytest.mark.slow
@given(logits_batches(), TAUS, st.integers(0, 99))
def test_cross_entropy_is_entropy_plus_kl(logits, tau, seed):
    targets = torch.softmax(torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).double(), dim=1)
    left, right = cross_entropy(targets, logits, tau), entropy(targets) + kl_divergence(targets, logits, tau)
    torch.testing.assert_close(left, right)
    assert (kl_divergence(targets, logits, tau) >= -1e-12).all()


@pytest.mark.slow
@given(logits_batches(size=10), TAUS)
def test_kl_of_a_posterior_to_itself_is_0(logits, tau):
    assert kl_divergence(posterior(logits, tau), logits, tau).abs().max() < 1e-10


@given(logits_batches(), TAUS)
def test_posteriors_sum_to_1_and_temper_the_logits(logits, tau):
    torch.testing.assert_close(posterior(logits, tau), torch.softmax(logits / tau, dim=1))
    assert (posterior(logits, tau).sum(dim=1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits = random_batch(3, dtype=dtype)[0]
    got = posterior_entropy(logits)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, posterior_entropy(logits.float()), atol=0, rtol=0)


def test_float64_stays_float64():
    assert log_posterior(random_batch(3)[0]).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_ten_thousand_give_finite_values(dtype):
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]], dtype=dtype)
    torch.testing.assert_close(posterior_entropy(logits), torch.tensor([0, 0, math.log(2)], dtype=dtype))
    wrong = cross_entropy(torch.tensor([[0.0, 1.0]], dtype=dtype), logits[:1])
    torch.testing.assert_close(wrong, torch.tensor([2e4], dtype=dtype))
    assert kl_divergence(posterior(logits), logits).abs().max() == 0


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 3, 4)])
def test_a_wrong_shape_is_named(shape):
    for function in (log_posterior, posterior, posterior_entropy):
        with pytest.raises(ValueError, match=re.escape(f"(N, K >= 2), got {shape}")):
            function(torch.zeros(shape))


def test_targets_and_logits_of_different_shape_are_refused():
    for function in (cross_entropy, kl_divergence):
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 2\)"):
            function(torch.full((2, 3), 1 / 3), torch.zeros(2, 2))


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_a_tau_that_is_not_positive_is_refused(tau):
    with pytest.raises(ValueError, match="tau must be > 0"):
        posterior_entropy(torch.zeros(1, 2), tau)


def test_an_entropy_in_bits_is_refused():
    """Table 2 has .6896 nats for LS on MRPC; in bits that is .995, more than log 2."""
    assert check_entropy(0.6896, 2) == 0.6896
    with pytest.raises(ValueError, match=r"0\.9949.*log 2 = 0\.6931"):
        check_entropy(0.6896 / math.log(2), 2)
    with pytest.raises(ValueError, match="outside"):
        check_entropy(-0.01, 2)


def test_the_guard_stands_where_runs_are_measured(monkeypatch):
    from kdnb.core import metrics

    logits = np.zeros((4, 2))
    assert mean_entropy(logits) == pytest.approx(math.log(2))
    monkeypatch.setattr(metrics, "entr", lambda p: np.full(p.shape, 0.5))  # log2 instead of ln
    with pytest.raises(ValueError, match="outside"):
        summary(logits, np.array([0, 1, 0, 1]))
