"""RKD against its invariances, exact distances and its released form."""

import pytest
import torch
from torch.nn.functional import normalize, smooth_l1_loss
from torch.utils._python_dispatch import TorchDispatchMode

from kdnb.studies.dark_knowledge.relations import APEXES, angle_loss, distance_loss, distances, rkd_loss


def drawn(n=12, d=7, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(d, seed=1):
    return torch.linalg.qr(drawn(d, d, seed, torch.float64))[0]


def released_distances(e):
    """pdist of lenscloth/RKD (metric/utils.py)."""
    square = e.pow(2).sum(dim=1)
    return (square[:, None] + square[None] - 2 * e @ e.t()).clamp(min=1e-12).sqrt()


def released_distance_loss(student, teacher):
    """RkdDistance of lenscloth/RKD (metric/loss.py), whose pdist has its diagonal set to 0."""
    scaled = []
    for e in (teacher, student):
        d = released_distances(e) * (1 - torch.eye(len(e), dtype=e.dtype))
        scaled.append(d / d[d > 0].mean())
    return smooth_l1_loss(scaled[1], scaled[0])


def released_angle_loss(student, teacher):
    """RKdAngle of lenscloth/RKD (metric/loss.py): all N^2 d differences and N^3 cosines at once."""
    cosines = []
    for e in (teacher, student):
        unit = normalize(e[None] - e[:, None], p=2, dim=2)
        cosines.append(torch.bmm(unit, unit.transpose(1, 2)))
    return smooth_l1_loss(cosines[1], cosines[0])


@pytest.mark.parametrize("loss", [distance_loss, angle_loss, rkd_loss])
def test_a_scaled_turned_and_shifted_teacher_costs_nothing_a_stretched_one_does(loss):
    """T12.2."""
    teacher = drawn(dtype=torch.float64)
    student = 3.7 * teacher @ rotation(7) + 5
    assert abs(float(loss(student, teacher))) < 1e-14
    stretched = teacher * torch.linspace(1, 4, 7, dtype=torch.float64)
    assert float(loss(stretched, teacher)) > 1e-3


@pytest.mark.parametrize("n", [3, 8, 9, 20])  # below, at, and beside whole chunks of apexes
def test_values_and_gradients_are_those_of_the_released_form_where_that_is_sound(n):
    teacher, student = drawn(n, 5, 2, torch.float64), drawn(n, 7, 3, torch.float64).requires_grad_()
    for ours, theirs in ((distance_loss, released_distance_loss), (angle_loss, released_angle_loss)):
        (mine,), (other,) = (torch.autograd.grad(f(student, teacher), student) for f in (ours, theirs))
        torch.testing.assert_close(ours(student, teacher), theirs(student, teacher), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    teacher, student = drawn(5, 3, 4, torch.float64), drawn(5, 4, 5, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: distance_loss(s, teacher), student)
    assert torch.autograd.gradcheck(lambda s: angle_loss(s, teacher), student)


def test_near_embeddings_far_from_the_origin_keep_their_distance():
    """Norm 100, 1e-3 apart in each coordinate: the released form takes the difference of two numbers near 20,000."""
    direction = normalize(drawn(1, 154, 6, torch.float64)) * 100
    pair = torch.cat([direction, direction + 1e-3]).float()
    true = (pair[0].double() - pair[1].double()).norm()
    assert 0.0123 < true < 0.0125
    assert abs(distances(pair)[0, 1].double() / true - 1) < 1e-6
    assert not 0.1 < released_distances(pair)[0, 1].double() / true < 10  # off by more than tenfold


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("case", ["one", "two", "equal", "all but one equal", "equal on both sides"])
def test_degenerate_batches_are_finite_in_loss_and_gradient(case, dtype):
    n = {"one": 1, "two": 2}.get(case, 6)
    student, teacher = drawn(n).to(dtype), drawn(n, 9, 1).to(dtype)
    if "equal" in case:
        student[int(case == "all but one equal") :] = student[-1].clone()
    if case == "equal on both sides":
        teacher[:] = teacher[0].clone()
    student.requires_grad_()
    loss = rkd_loss(student, teacher)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().max() < 100  # and not 1e12, as behind a norm clamped at 1e-12
    if n == 1 or case == "equal on both sides":
        assert loss.item() == 0 == student.grad.abs().sum().item()
    if n < 3:
        assert angle_loss(student, teacher).item() == 0


@pytest.mark.parametrize(("n", "dtype"), [(1, torch.float32), (6, torch.float16)])
def test_the_released_form_is_not_finite_there(n, dtype):
    """What the test above guards against is real: one example, or equal ones in half precision."""
    student = drawn(1).expand(n, -1).to(dtype).clone().requires_grad_()
    loss = released_distance_loss(student, drawn(n, 9, 1).to(dtype))
    loss.backward()
    assert not (torch.isfinite(loss) and torch.isfinite(student.grad).all())


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_the_gradient_reaches_the_student_and_never_the_teacher(loss):
    """T12.4."""
    student, teacher = drawn().requires_grad_(), drawn(seed=1).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_half_precision_around_it_changes_nothing():
    student, teacher = drawn(), drawn(seed=1)
    plain = rkd_loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rkd_loss(student, teacher), plain)


class Largest(TorchDispatchMode):
    """Notes the most entries that any tensor made within it has."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple) else (made,):
            self.entries = max(self.entries, one.numel() if isinstance(one, torch.Tensor) else 0)
        return made


@pytest.mark.parametrize(("loss", "whole"), [(rkd_loss, False), (released_angle_loss, True)])
def test_the_angles_of_a_few_apexes_are_in_memory_at_a_time(loss, whole):
    """Of 64 examples of width 48 no tensor has N^2 d or N^3 entries, as the released form's have."""
    student, teacher = drawn(64, 48).requires_grad_(), drawn(64, 48, 1)
    with Largest() as seen:
        torch.autograd.grad(loss(student, teacher), student)
    assert (seen.entries >= 64 * 64 * 48) == whole
    assert whole or seen.entries == APEXES * 64 * 64
