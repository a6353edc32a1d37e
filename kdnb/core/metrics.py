"""What is read off stored logits: accuracy, entropy, calibration, agreement. numpy in float64.

Stored runs are analysed without torch, so that a notebook that only reads runs opens at once; the
tests hold these functions to `kdnb.core.entropy`.
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import entr, log_softmax, softmax


def posterior(logits: np.ndarray, tau: float = 1.0) -> np.ndarray:
    """softmax(z / tau) in float64; (N, K) -> (N, K)."""
    return softmax(np.asarray(logits, dtype=np.float64) / tau, axis=1)


def entropies(logits: np.ndarray) -> np.ndarray:
    """Entropy of each posterior [nats]; (N, K) -> (N,) in [0, log K]."""
    return entr(posterior(logits)).sum(axis=1)


def mean_entropy(logits: np.ndarray) -> float:
    """Mean entropy of the posteriors [nats], the measure of arXiv 2301.12609's Tables 2 and 4."""
    return check_entropy(float(entropies(logits).mean()), np.asarray(logits).shape[1])


def check_entropy(value: float, num_classes: int) -> float:
    """The value itself; ValueError if it is no mean entropy in nats over K classes (bits, say)."""
    if not -1e-9 <= value <= np.log(num_classes) + 1e-6:
        raise ValueError(f"mean entropy {value:.4f} is outside [0, log {num_classes} = {np.log(num_classes):.4f}] nats")
    return value


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose largest logit is the label's, in [0, 1]."""
    return float((np.argmax(logits, axis=1) == labels).mean())


def f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1 for K = 2 (GLUE's for MRPC), macro F1 for K > 2; a class never met or predicted counts 0."""
    predicted, num_classes = np.argmax(logits, axis=1), np.asarray(logits).shape[1]
    hits, *both = (np.bincount(of, minlength=num_classes) for of in (labels[predicted == labels], predicted, labels))
    scores = 2 * hits / np.maximum(1, sum(both))
    return float(scores[1] if num_classes == 2 else np.mean(scores))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of the labels [nats]."""
    return float(per_example("nll", logits, labels).mean())


def reliability(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The reliability diagram: per bin the number of examples, mean confidence and accuracy; three (bins,) arrays.

    Equal-width bins (a, b] of top-label confidence; 1.0 lies in the last, 0.0 in the first: none is lost.
    Mean confidence and accuracy of an empty bin are nan.

    Args:
        confidence: (N,) largest posterior, in [0, 1].
        correct: (N,) whether the prediction is right.
    Raises:
        ValueError: a confidence lies outside [0, 1], or the shapes differ.
    """
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if confidence.shape != correct.shape:
        raise ValueError(f"confidence {confidence.shape} and correct {correct.shape} must have one shape")
    if confidence.size and not 0 <= confidence.min() <= confidence.max() <= 1 + 1e-9:
        raise ValueError(f"confidence must be in [0, 1], got {confidence.min()}..{confidence.max()}")
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    sums = [np.bincount(which, values, minlength=bins) for values in (confidence, correct)]
    means = [np.divide(total, count, out=np.full(bins, np.nan), where=count > 0) for total in sums]
    return count, *means


def ece(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in [0, 1]: the mean gap of `reliability`'s bins, weighted by their examples."""
    count, mean_confidence, accuracies = reliability(confidence, correct, bins)
    gaps = np.abs(mean_confidence - accuracies)[count > 0]
    return float((count[count > 0] * gaps).sum() / count.sum())


def agreement(logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """Share of examples on which student and teacher predict the same class, in [0, 1]."""
    return float((np.argmax(logits, axis=1) == np.argmax(teacher_logits, axis=1)).mean())


def kl_to_teacher(logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """Mean KL(p^t || p) at tau 1 [nats]."""
    target = posterior(teacher_logits)
    log_p = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    return float((-entr(target) - target * log_p).sum(axis=1).mean())


def majority_share(logits: np.ndarray) -> float:
    """Share of the class predicted most often; 1 marks a degenerate run."""
    predicted = np.argmax(logits, axis=1)
    return float(np.bincount(predicted).max() / len(predicted))


def majority_floor(labels: np.ndarray) -> float:
    """Accuracy of always predicting the most frequent label."""
    return float(np.bincount(labels).max() / len(labels))


def is_degenerate(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a model has learnt nothing: it predicts one class only, or is no better than the most frequent one."""
    return majority_share(logits) == 1 or accuracy(logits, labels) <= majority_floor(labels)


def per_example(metric: str, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The (N,) values whose mean is a metric: entropy, accuracy, nll, brier or overconfidence.

    Overconfidence is confidence minus 1 if right, minus 0 if wrong; its mean is confidence minus accuracy.
    Raises ValueError for a metric that is no mean over examples.
    """
    correct = (np.argmax(logits, axis=1) == labels).astype(np.float64)
    if metric == "entropy":
        return entropies(logits)
    if metric == "accuracy":
        return correct
    if metric == "nll":
        return -log_softmax(np.asarray(logits, dtype=np.float64), axis=1)[np.arange(len(labels)), labels]
    if metric == "brier":
        return _brier(posterior(logits), labels)
    if metric == "overconfidence":
        return posterior(logits).max(axis=1) - correct
    raise ValueError(f"{metric} is no mean over examples")


def _brier(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distances (N,) of posteriors (N, K) and one-hot labels."""
    away = p.copy()
    away[np.arange(len(labels)), labels] -= 1
    return (away**2).sum(axis=1)


def summary(logits: np.ndarray, labels: np.ndarray, teacher_logits: np.ndarray | None = None) -> dict[str, float]:
    """All of the above for one split, by name; agreement and kl_to_teacher where a teacher is given.

    Raises ValueError for a label outside 0..K-1: hidden labels are never scored.
    """
    num_classes = np.asarray(logits).shape[1]
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels must be in 0..{num_classes - 1}; hidden labels (-1) are never scored")
    p = posterior(logits)
    values = {
        "accuracy": accuracy(logits, labels),
        "f1": f1(logits, labels),
        "entropy": check_entropy(float(entr(p).sum(axis=1).mean()), num_classes),
        "nll": nll(logits, labels),
        "brier": float(_brier(p, labels).mean()),
        "ece": ece(p.max(axis=1).clip(0, 1), p.argmax(axis=1) == labels),
        "confidence": float(p.max(axis=1).mean()),
        "majority_share": majority_share(logits),
    }
    if teacher_logits is not None:
        values["agreement"] = agreement(logits, teacher_logits)
        values["kl_to_teacher"] = kl_to_teacher(logits, teacher_logits)
    return values


def check(told: Mapping[str, float], logits: np.ndarray, labels: np.ndarray) -> None:
    """Raise ValueError unless logits are (N, K >= 2) numbers, labels theirs, and the metrics told those of both.

    Another machine's last bits are none of a difference; in `ece` they may move a few examples to the next bin.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"logits {logits.shape} and {labels.dtype} labels {labels.shape} are not (N, K >= 2) and (N,)")
    if not np.isfinite(logits).all():
        raise ValueError("its logits are not all finite")
    for name, value in summary(logits, labels).items():
        slack = 4 / len(labels) if name == "ece" else 1e-6
        stored = told.get(name)
        if not isinstance(stored, float) or not math.isclose(stored, value, rel_tol=1e-6, abs_tol=slack):
            raise ValueError(f"{name} is {stored} in its metrics, {value:.6g} by its logits and labels")


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The tau > 0 that minimises the NLL of softmax(z / tau), fitted on validation (temperature scaling)."""
    from scipy.optimize import minimize_scalar

    z = np.asarray(logits, dtype=np.float64)
    best = minimize_scalar(lambda log_tau: nll(z / np.exp(log_tau), labels), bounds=(-4, 6), method="bounded")
    return float(np.exp(best.x)) if best.fun <= nll(z, labels) else 1.0
