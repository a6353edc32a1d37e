"""Distillation of linear models by gradient flow and by ridge, one eigendirection at a time; numpy only.

Setting: inputs X (N, D), targets y (N,), gradient flow on 1/2 ||X b - y||^2 from b(0) = 0. lam_k are the
eigenvalues of X X^T; constant factors such as 1/N only rescale time. The teacher stops at time T. Its student
is the same flow on the teacher's predictions X b(T). Along an eigendirection the share of the target that has
been learnt, its progress, is A(t) = 1 - e^(-lam t) for the teacher and A(t) A(T) for the student: filters
multiply. Statement and proof are ours; arXiv 2301.12923 has a theorem of this kind, whose text we could not read.
"""

import numpy as np

FLOOR = 1e-6  # of the largest eigenvalue: what lies below counts as no direction
POINTS = 200  # at which two curves are compared


def _positive(**values) -> None:
    for name, value in values.items():
        if not np.all(np.asarray(value) > 0):
            raise ValueError(f"{name} must be > 0, got {np.min(value):g}")


def gf_progress(lam: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Progress A(t) = 1 - e^(-lam t) of gradient flow, in [0, 1); lam [1/time] and t [time] broadcast."""
    return -np.expm1(-np.asarray(lam) * t)


def student_progress(lam: np.ndarray, t: np.ndarray, T: float) -> np.ndarray:
    """Progress S(t) = (1 - e^(-lam t))(1 - e^(-lam T)) at time t of a student whose teacher stopped at T."""
    return gf_progress(lam, t) * gf_progress(lam, T)


def matched_time(lam: float, t: float, T: float) -> np.ndarray:
    """Time at which the teacher has come as far as its student at t: A(time) = S(t), along lam.

    With a = e^(-lam t) and b = e^(-lam T) the student has a + b - ab of its target left, so the time is
    -ln(a + b - ab) / lam: less than both t and T.

    Args:
        lam: eigenvalue matched, usually the largest [1/time].
        t: time of the student, > 0 (inf allowed).
        T: time of the teacher, likewise.
    Raises:
        ValueError: one of them is not positive.
    """
    _positive(lam=lam, t=t, T=T)
    lam, t, T = (np.asarray(value, dtype=float) for value in (lam, t, T))
    progress = student_progress(lam, t, T)
    left = np.logaddexp(-lam * t, -lam * T + np.log(gf_progress(lam, t)))  # of the target, in logs: exact late
    return -np.where(progress < 0.5, np.log1p(-np.minimum(progress, 0.5)), left) / lam


def gd_rate(lam: np.ndarray, step_size: float) -> np.ndarray:
    """The flow's eigenvalue that gradient descent amounts to, -ln(1 - h lam), one step being one unit of time.

    (1 - h lam)^steps = e^(-rate steps), so every function here serves gradient descent with `gd_rate(lam, h)`
    for lam and steps for t. The rate grows faster than lam: the order of eigendirections stays.

    Raises:
        ValueError: h lam is outside (0, 1); from 1 on descent overshoots, and the theorem says nothing.
    """
    reach = step_size * np.asarray(lam, dtype=float)
    if not np.all((reach > 0) & (reach < 1)):
        raise ValueError(f"step_size * lam must be in (0, 1), got {np.min(reach):g} to {np.max(reach):g}")
    return -np.log1p(-reach)


def exaggeration_gap(a: np.ndarray, b: np.ndarray, r: np.ndarray) -> np.ndarray:
    """F(b) = a^r + b^r - (ab)^r - (a + b - ab)^r: the teacher's lead along lam_2 where both are even along lam_1.

    a = e^(-lam_1 t), b = e^(-lam_1 T), r = lam_2 / lam_1. F is 0 at b = 0 and 1 and positive between, for a and r
    in (0, 1): at equal progress along the top direction the student has made less along the other.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return a**r + b**r - (a * b) ** r - (a + b - a * b) ** r


def gap_slope_sign(a: np.ndarray, b: np.ndarray, r: np.ndarray) -> np.ndarray:
    """G(b) = (1 - a^r)/(1 - a) (a/b + 1 - a)^(1 - r), the step in the middle of the proof: F'(b) > 0 iff G(b) > 1.

    G falls in b from infinity at 0 to (1 - a^r)/(1 - a) < 1 at 1: F rises, then falls, from 0 to 0.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return (1 - a**r) / (1 - a) * (a / b + 1 - a) ** (1 - r)


def gradient_flow(inputs: np.ndarray, targets: np.ndarray, t: float) -> np.ndarray:
    """Weights b(t) = X^T (X X^T)^+ (I - e^(-t X X^T)) y in closed form; (N, D), (N,) or (N, K) -> (D,) or (D, K)."""
    u, s, vt = np.linalg.svd(inputs, full_matrices=False)
    kept = s > s.max() * 1e-12
    share = gf_progress(s[kept] ** 2, t) / s[kept]
    return vt[kept].T @ (share.reshape(-1, *[1] * (targets.ndim - 1)) * (u[:, kept].T @ targets))


def gradient_descent(inputs: np.ndarray, targets: np.ndarray, step_size: float, steps: int) -> np.ndarray:
    """Weights after `steps` steps of gradient descent on 1/2 ||X b - y||^2 from 0, taken one by one.

    Euler's method for `gradient_flow` at t = step_size * steps. Shapes as there.
    """
    gram, aim = inputs.T @ inputs, inputs.T @ targets
    weights = np.zeros_like(aim)
    for _ in range(steps):
        weights -= step_size * (gram @ weights - aim)
    return weights


def ridge_filter(d: np.ndarray, c: float, generations: int = 1) -> np.ndarray:
    """Share (d / (d + c))^g of the target left in the fit after g generations of ridge self-distillation.

    Generation 1 is ridge regression on the labels (after Mobahi et al. 2020, whose penalty changes by generation; c
    fixed is ours).

    Args:
        d: eigenvalues of the kernel matrix, > 0.
        c: ridge penalty, the same in each generation, > 0.
        generations: g.
    """
    _positive(d=d, c=c)
    return (np.asarray(d, dtype=float) / (np.asarray(d) + c)) ** generations


def input_eigenvectors(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, and eigenvectors (columns) of the uncentred second moment X^T X / N.

    Directions with lam <= FLOOR lam_1 are left out: constant pixels move no weight.

    Args:
        inputs: (N, D).
    Returns:
        (M,) and (D, M), M <= D.
    """
    lam, vectors = np.linalg.eigh(inputs.T @ inputs / len(inputs))
    moving = lam > FLOOR * lam[-1]
    return lam[moving][::-1], vectors[:, moving][:, ::-1]


def movement(change: np.ndarray, vectors: np.ndarray, top: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """How far first-layer weights have moved along the top and along the bottom input eigenvectors.

    c_k = ||(W_1(t) - W_1(0)) v_k||; the top is the mean over k <= top, the bottom over the lowest tenth.

    Args:
        change: (..., D, H) the weights less the initial ones.
        vectors: (D, M), largest eigenvalue first.
        top: how many count as top.
    Returns:
        (c_top, c_bottom), each (...,).
    Raises:
        ValueError: fewer than 2 directions remain below the top ones.
    """
    if vectors.shape[1] < top + 2:
        raise ValueError(f"top must be at most {vectors.shape[1] - 2} for {vectors.shape[1]} eigenvectors, got {top}")
    moved = np.linalg.norm(vectors.T @ change, axis=-1)
    bottom = max(1, vectors.shape[1] // 10)
    return moved[..., :top].mean(axis=-1), moved[..., -bottom:].mean(axis=-1)


def share_below(teacher: tuple, student: tuple) -> float:
    """Share of common top progress at which the student's bottom progress lies below its teacher's.

    Args:
        teacher: (top, bottom) along training, each (steps,). A value of the top that training passes more than
            once counts where it is first reached.
        student: the same of the student.
    Returns:
        In [0, 1]: the bottoms compared at POINTS tops, evenly spread over what both curves reach.
    Raises:
        ValueError: the two curves share no top progress.
    """
    curves = []
    for top, bottom in (teacher, student):
        reached = np.r_[True, np.diff(np.maximum.accumulate(top)) > 0]
        curves.append((np.asarray(top)[reached], np.asarray(bottom)[reached]))
    start, end = max(top[0] for top, _ in curves), min(top[-1] for top, _ in curves)
    if not start < end:
        raise ValueError(f"the curves share no top progress: {start:g} is not below {end:g}")
    common = np.linspace(start, end, POINTS + 1)[1:]
    return float(np.mean(np.interp(common, *curves[1]) < np.interp(common, *curves[0])))
