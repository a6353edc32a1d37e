"""Divergences, sparse targets and the chunked loss, held to closed forms, enumeration and torch's own."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdnb.studies.language_models import losses, sparse
from kdnb.studies.language_models.divergences import DIVERGENCES, between, check, divergence
from kdnb.studies.language_models.losses import Head, Objective
from kdnb.studies.language_models.sparse import Sparse

T = torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]], dtype=torch.float64)
S = torch.tensor([[0.3, 0.3, 0.2, 0.1, 0.1]], dtype=torch.float64)


def kept(law, k):
    """Sparse targets of given laws, in double precision."""
    weights, ids = law.topk(k, dim=-1)
    return Sparse(ids, weights, 1 - weights.sum(-1), -(law * law.log()).sum(-1))


@pytest.mark.parametrize(
    ("name", "beta", "value"),
    [
        ("forward_kl", None, 0.183787),
        ("reverse_kl", None, 0.192042),
        ("gjsd", 0.01, 0.001819),
        ("gjsd", 0.1, 0.016518),
        ("gjsd", 0.5, 0.046201),
        ("gjsd", 0.9, 0.017100),
        ("gjsd", 0.99, 0.001899),
        ("interp_jsd", 0.01, 0.178260),
        ("interp_jsd", 0.1, 0.133880),
        ("interp_jsd", 0.5, 0.046201),
        ("interp_jsd", 0.9, 0.137346),
        ("interp_jsd", 0.99, 0.185912),
        ("gjsd", 0.0, 0.0),
        ("gjsd", 1.0, 0.0),
        ("interp_jsd", 0.0, 0.183787),
        ("interp_jsd", 1.0, 0.192042),
        ("skew_kl", 0.0, 0.183787),
        ("skew_reverse_kl", 0.0, 0.192042),
        ("tv", None, 0.3),
        ("nla", None, -math.log(0.7)),
    ],
)
def test_known_values(name, beta, value):
    q, p = torch.tensor([[0.7, 0.2, 0.1]]).double(), torch.tensor([[0.4, 0.4, 0.2]]).double()
    assert divergence(name, q.log(), p.log(), beta=beta).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_are_those_of_finite_differences_and_teacher_has_none(name):
    torch.manual_seed(0)
    teacher = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    student = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: divergence(name, teacher, z), student)
    divergence(name, teacher, student).sum().backward()
    assert teacher.grad is None
    near_one_hot = torch.tensor([[30.0, 0.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    if name not in ("tv", "nla"):  # those have a kink where both laws agree
        assert torch.autograd.gradcheck(lambda z: divergence(name, near_one_hot, z), student[:1])


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("tau", [0.05, 1.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_finite_at_any_temperature(name, tau, dtype):
    if tau != 1 and not DIVERGENCES[name].scales:
        with pytest.raises(ValueError, match="taken at tau 1"):
            check(name, None, tau)
        return
    torch.manual_seed(1)
    teacher = (1e4 * torch.randn(4, 7)).to(dtype)
    student = (1e4 * torch.randn(4, 7)).to(dtype).requires_grad_()
    loss = divergence(name, teacher, student, tau=tau)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


SMOLLM2 = 49_152  # entries of its law


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_law_is_no_distance_from_itself_in_half_precision(name, dtype):
    """Nothing but float32 rounds: the log of an even mixture in a JSD, that of a sum over the vocabulary in nla."""
    torch.manual_seed(2)
    logits = (5 * torch.randn(16, SMOLLM2)).to(dtype)
    limit = {"gjsd": 1e-6, "interp_jsd": 1e-6, "nla": 2e-5}.get(name, 1e-7)
    assert divergence(name, logits, logits.clone()).abs().max() <= limit
    if name == "forward_kl":
        labels = torch.zeros(16, dtype=torch.int64)
        assert Objective(alpha=1.0).part(logits.float(), labels, logits)[0].abs().max() <= limit
        rounded = logits.log_softmax(-1).float()  # the softmax itself in half precision
        assert between(name, logits.float().log_softmax(-1), rounded).abs().max() > 100 * limit


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
def test_tau_squared_keeps_the_size_of_the_gradient(name):
    """At a high temperature tau squared KL tends to the mean squared difference of the centred logits over 2."""
    torch.manual_seed(5)
    teacher, student = torch.randn(2, 3, 9, dtype=torch.float64)
    student.requires_grad_()
    (found,) = torch.autograd.grad(divergence(name, teacher, student, tau=1e3).sum(), student)
    centred = [one - one.mean(-1, keepdim=True) for one in (student.detach(), teacher)]
    torch.testing.assert_close(found, (centred[0] - centred[1]) / 9, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["gjsd", "interp_jsd"])
def test_a_jsd_of_one_law_in_two_precisions_is_not_negative(name):
    torch.manual_seed(6)
    student = 5 * torch.randn(64, 2000)
    assert divergence(name, student.bfloat16(), student).min() >= 0
    assert divergence(name, student.bfloat16(), student.bfloat16().float()).abs().max() <= 1e-6


@pytest.mark.parametrize(
    ("variant", "value"),
    [("truncate", 0.174320), ("tail_bucket", 0.088015), ("renorm", 0.605703), ("conditional", 0.094878)],
)
def test_variants_have_their_known_values(variant, value):
    """T14.2b."""
    assert sparse.sparse_divergence(variant, kept(T, 2), S.log()).item() == pytest.approx(value, abs=1e-6)
    assert divergence("forward_kl", T.log(), S.log()).item() == pytest.approx(0.096510, abs=1e-6)


def test_truncated_targets_may_give_a_negative_loss_the_bucket_may_not():
    q, p = torch.tensor([[0.4, 0.1, 0.3, 0.2]]).double(), torch.tensor([[0.7, 0.1, 0.1, 0.1]]).double()
    truncated = sparse.sparse_divergence("truncate", kept(q, 1), p.log())
    bucket = sparse.sparse_divergence("tail_bucket", kept(q, 1), p.log())
    assert truncated.item() < 0 < bucket.item() <= divergence("forward_kl", q.log(), p.log()).item()
    q, p = torch.tensor([[0.6, 0.4]]).double(), torch.tensor([[0.9, 0.1]]).double()  # told of in verl's #7806
    truncated = sparse.sparse_divergence("truncate", kept(q, 1), p.log())
    bucket = sparse.sparse_divergence("tail_bucket", kept(q, 1), p.log())
    assert (truncated.item(), bucket.item()) == pytest.approx((-0.243279, 0.311239), abs=1e-6)
    assert divergence("forward_kl", q.log(), p.log()).item() == pytest.approx(0.311239, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), k=st.integers(1, 6))
def test_the_bucket_is_binary_kl_plus_m_times_the_conditional(seed, k):
    generator = torch.Generator().manual_seed(seed)
    q, p = (torch.randn(3, 8, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    target = kept(q, k)
    m, share = target.weights.sum(-1), p.gather(-1, target.ids).sum(-1)
    binary = m * (m / share).log() + (1 - m) * ((1 - m) / (1 - share)).log()
    bucket = sparse.sparse_divergence("tail_bucket", target, p.log())
    conditional = sparse.sparse_divergence("conditional", target, p.log())
    torch.testing.assert_close(bucket, binary + m * conditional)
    assert (bucket <= divergence("forward_kl", q.log(), p.log()) + 1e-12).all()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_mass_that_is_zero_in_half_precision_keeps_every_divergence_finite(name):
    law = torch.tensor([[1 - 2e-9, 1e-9, 1e-9, 1e-12]]).float()
    target = sparse.top_k(law.log(), 2)
    stored = Sparse(target.ids, target.weights.half().float(), target.tail.half().float(), target.entropy)
    assert stored.weights.min() == stored.tail.min() == 0
    logits = torch.zeros(1, 4, requires_grad=True)
    loss = Objective(alpha=1.0, divergence=name, variant="tail_bucket").losses(logits, torch.tensor([0]), stored)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def minimum(variant, target, size=5, steps=400):
    """The law that minimises a variant, by descent."""
    z = torch.zeros(1, size, dtype=torch.float64, requires_grad=True)
    rule = torch.optim.Adam([z], lr=0.4)
    for _ in range(steps):
        rule.zero_grad()
        sparse.sparse_divergence(variant, target, z).sum().backward()
        rule.step()
    return z.detach().softmax(-1)[0]


@pytest.mark.slow
def test_optima_of_the_variants():
    """T14.2."""
    target = kept(T, 2)
    renorm = minimum("renorm", target)
    torch.testing.assert_close(renorm[:2], torch.tensor([0.714286, 0.285714]).double(), atol=2e-3, rtol=0)
    assert -(renorm[:2] * renorm[:2].log()).sum().item() == pytest.approx(0.5983, abs=0.01)
    assert -(T * T.log()).sum().item() == pytest.approx(1.3331, abs=1e-4)
    torch.testing.assert_close(minimum("truncate", target)[:2], renorm[:2], atol=5e-3, rtol=0)
    bucket = minimum("tail_bucket", target)
    torch.testing.assert_close(bucket[:2], T[0, :2], atol=1e-3, rtol=0)
    spread = minimum("uniform_tail", target)
    torch.testing.assert_close(spread, torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]).double(), atol=1e-3, rtol=0)
    z = S.log().requires_grad_()
    sparse.sparse_divergence("conditional", target, z).sum().backward()
    assert z.grad[0, :2].sum().item() == pytest.approx(0, abs=1e-12)  # nothing moves the mass p(S)
    assert z.grad[0, 2:].abs().max().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_samples_are_unbiased(exponent):
    """T14.2, the mean of sampled targets."""
    generator, n = torch.Generator().manual_seed(0), 20_000
    target = sparse.sample(T.float().log().expand(n, -1), 4, generator, exponent=exponent)
    found = torch.zeros(n, 5).scatter_add_(-1, target.ids, target.weights)
    off = (found.mean(0) - T[0].float()) / (found.std(0) / n**0.5)
    assert off.abs().max() < 4
    distinct = (target.weights > 0).sum(-1).float().mean().item()
    if exponent == 1:
        assert distinct == pytest.approx(2.535, abs=0.03)


def test_keeping_the_top_of_the_draws_is_not_unbiased():
    """The one public version keeps of four draws the two that came most often, of equals the likelier one, and
    renormalises; its mean is known by enumeration."""
    generator, n = torch.Generator().manual_seed(0), 50_000
    target = sparse.sample(T.float().log().expand(n, -1), 4, generator)
    _, place = (target.weights - 1e-3 * target.ids).topk(2, dim=-1)
    weights = target.weights.gather(-1, place)
    weights = weights / weights.sum(-1, keepdim=True)
    found = torch.zeros(n, 5).scatter_add_(-1, target.ids.gather(-1, place), weights)
    off = (found.mean(0) - T[0].float()) / (found.std(0) / n**0.5)
    assert off.abs().max() > 10
    torch.testing.assert_close(found.mean(0), torch.tensor([0.575, 0.237, 0.120, 0.052, 0.015]), atol=5e-3, rtol=0)


OBJECTIVES = [
    Objective(),
    Objective(alpha=0.3, divergence="uniform"),
    *(Objective(alpha=a, divergence=name) for name in DIVERGENCES for a in (0.4, 1.0)),
    Objective(alpha=0.7, tau=3.0),
    *(Objective(alpha=0.6, variant=variant) for variant in sparse.VARIANTS),
    Objective(alpha=1.0, divergence="reverse_kl", variant="tail_bucket"),
]


def material(objective, n=37, d=6, v=23):
    torch.manual_seed(3)
    hidden = torch.randn(n, d, requires_grad=True)
    weight = torch.randn(v, d, requires_grad=True)
    bias = torch.randn(v, requires_grad=True)
    labels, teacher = torch.randint(v, (n,)), 2 * torch.randn(n, v)
    sampled = sparse.sample(teacher, 5, torch.Generator().manual_seed(0))
    target = sampled if objective.variant == "sampled" else sparse.top_k(teacher, 5)
    return hidden, weight, bias, labels, teacher, target


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 8, 64])
@pytest.mark.parametrize("form", ["whole", "sparse"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_chunked_equals_dense_in_value_and_gradient(objective, form, chunk):
    if form == "sparse" and (objective.divergence not in ("forward_kl", "reverse_kl") or objective.tau != 1):
        pytest.skip("sparse targets: forward KL, or a tail bucket")
    if form == "whole" and objective.variant not in ("tail_bucket",):
        pytest.skip("variants are of sparse targets")
    hidden, weight, bias, labels, teacher, target = material(objective)
    soft = target if form == "sparse" else (lambda rows: teacher[rows])
    ours = losses.from_hidden(objective, hidden, Head(weight, bias, chunk), labels, soft)
    found = torch.autograd.grad(ours / 5, (hidden, weight, bias))
    dense = objective.losses(hidden @ weight.T + bias, labels, target if form == "sparse" else teacher).sum()
    torch.testing.assert_close(ours, dense, rtol=1e-5, atol=1e-4)
    for a, b in zip(found, torch.autograd.grad(dense / 5, (hidden, weight, bias)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_erm_and_ls_are_torchs_own():
    hidden, weight, _, labels, _, _ = material(Objective())
    logits = hidden @ weight.T
    ours = losses.from_hidden(Objective(), hidden, Head(weight), labels)
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, reduction="sum"))
    smoothed = losses.from_hidden(Objective(alpha=0.1, divergence="uniform"), hidden, Head(weight), labels)
    torch.testing.assert_close(smoothed, F.cross_entropy(logits, labels, reduction="sum", label_smoothing=0.1))


def test_no_token_gives_zero_loss_and_gradient():
    hidden = torch.zeros(0, 4, requires_grad=True)
    weight = torch.randn(7, 4, requires_grad=True)
    loss = losses.from_hidden(Objective(), hidden, Head(weight), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert (weight.grad == 0).all()


def test_position_i_tells_token_i_plus_1():
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
    states = torch.arange(6.0).view(2, 3, 1)
    told, labels = losses.shifted(states, ids)
    assert told[:, 0].tolist() == [0, 1, 3, 4]
    assert labels.tolist() == [5, 6, 8, 9]
    mask = torch.tensor([[True, True, False], [True, False, True]])
    told, labels = losses.shifted(states, ids, mask)
    assert (told[:, 0].tolist(), labels.tolist()) == ([0, 4], [5, 9])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": 1.2}, "alpha must be in"),
        ({"divergence": "kl"}, "divergence must be one of"),
        ({"variant": "topk"}, "variant must be one of"),
        ({"beta": 0.5}, "has no beta"),
        ({"divergence": "gjsd", "beta": 2.0}, "beta must be in"),
        ({"tau": 0.0}, "tau must be > 0"),
        ({"divergence": "tv", "tau": 2.0}, "taken at tau 1"),
    ],
)
def test_mistakes_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        Objective(**settings)


def test_sparse_targets_are_refused_where_they_cannot_serve():
    Objective(alpha=1.0, divergence="reverse_kl", variant="tail_bucket").check_sparse("top_k", 1.0)
    Objective(alpha=1.0, variant="sampled").check_sparse("sampled", 1.0)
    with pytest.raises(ValueError, match="tail_bucket"):
        Objective(alpha=1.0, divergence="reverse_kl", variant="renorm").check_sparse("top_k", 1.0)
    with pytest.raises(ValueError, match="tau must be 1"):
        Objective(alpha=1.0, tau=2.0).check_sparse("top_k", 1.0)
    for variant, storage in (("sampled", "top_k"), ("tail_bucket", "sampled"), ("renorm", "sampled")):
        with pytest.raises(ValueError, match=f"got {variant} with {storage}"):
            Objective(alpha=1.0, variant=variant).check_sparse(storage, 1.0)


def test_estimators_of_reverse_kl_as_losses():
    """By enumeration: the gradient of E[k1] is 0 where draws are not differentiated, k2's reverse KL, k3's forward."""
    z = torch.tensor([[0.2, -0.1, 0.4]], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    log_p = z.log_softmax(-1)
    ratio = q.log() - log_p  # of a draw from p
    weights = log_p.exp().detach()

    def gradient(each):
        return torch.autograd.grad((weights * each).sum(), z, retain_graph=True)[0][0]

    reverse = torch.autograd.grad(between("reverse_kl", q.log(), log_p).sum(), z, retain_graph=True)[0][0]
    forward = torch.autograd.grad(between("forward_kl", q.log(), log_p).sum(), z, retain_graph=True)[0][0]
    torch.testing.assert_close(reverse, torch.tensor([-0.3791, -0.0426, 0.4217]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(forward, torch.tensor([-0.3624, 0.0501, 0.3123]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(gradient(-ratio), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient(ratio**2 / 2), reverse)
    torch.testing.assert_close(gradient(ratio.exp() - 1 - ratio), forward)


@pytest.mark.parametrize("variant", sparse.TOP_K_VARIANTS)
def test_a_divergence_as_a_reward_teaches_nothing_as_a_loss_it_does(variant):
    """By enumeration of the drawn token: one number for all draws at a place has a score-function gradient of 0; the
    log-ratio of the drawn token itself, as an advantage, has reverse KL's."""
    z = torch.tensor([[0.2, -0.1, 0.4, 0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    log_p = z.log_softmax(-1)
    weights = log_p.exp().detach()

    def score(reward):
        return torch.autograd.grad(-(weights * reward.detach() * log_p).sum(), z, retain_graph=True)[0]

    loss = sparse.sparse_divergence(variant, kept(T, 2), z)
    assert score(-loss).abs().max() < 1e-12
    assert torch.autograd.grad(loss.sum(), z)[0].abs().max() > 0.01
    (reverse,) = torch.autograd.grad(between("reverse_kl", T.log(), log_p).sum(), z, retain_graph=True)
    torch.testing.assert_close(score(T.log() - log_p), reverse)
