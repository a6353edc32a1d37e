"""A class that the student never sees: what soft targets say of it, and the bias that brings it out.

Hinton et al. 2015, section 3: a student of MNIST whose transfer set has no 3 knows most of the 3s all the same, once
the bias of that class is raised. Here for every class in turn, with students of hard and of smoothed labels as the
controls.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from kdnb.core.config import Identity
from kdnb.errors import NoRuns
from kdnb.experiment.records import Made, obtain, stored

SEVENS_AND_EIGHTS = tuple(digit for digit in range(10) if digit not in (7, 8))  # left out for Hinton's second student
SINGLES = tuple((digit,) for digit in range(10))
HINTON = 3  # the digit that Hinton et al. leave out; the logits of its students are kept
SHIFTED = 0.03  # share of the unseen class where it has become rare
SMOOTHING = 0.1  # alpha of the control by label smoothing, which gives the unseen class alpha / K everywhere
STUDENT_SEED = 1000  # added to a teacher's seed: a student as wide as its teacher must not start as its copy
RULES = {  # rule -> the split whose labels it reads
    "none": "none",
    "test_optimal": "test",
    "val_optimal": "validation",
    "prior_match": "none",  # the inputs of test
    "prior_match_val": "none",  # the inputs of validation
    "prior_match_all": "none",  # the inputs of test
}
PUBLISHED = pd.DataFrame(
    [
        ("Hinton et al. 2015, 3s left out", "test_optimal", 3.5, 1 - 133 / 1010, 1 - 14 / 1010, 0.0206, 0.0109),
        ("Hinton et al. 2015, 7s and 8s alone", "test_optimal", 7.6, np.nan, np.nan, 0.473, 0.132),
        ("hinton-problems, 3s left out, one seed", "prior_match", 2.696, 0.9188, 0.9782, np.nan, 0.0193),
    ],
    columns=["source", "rule", "bias", "recall_before", "recall", "error_before", "error"],
)  # shares of MNIST's test images: of the unseen class, of all; Hinton's 7.6 is taken off 7 and 8


@dataclass(frozen=True)
class Setup:
    """What a profile trains on a task.

    omitted: the classes left out, one tuple for each student of a record.
    arms: (method, tau), "hard" and "ls" for the controls.
    widths: further hidden layers, at `WIDTH_TAUS`, with the digit `HINTON` left out.
    """

    teacher_width: int
    width: int
    epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    omitted: tuple[tuple[int, ...], ...]
    arms: tuple[tuple[str, float], ...] = (("kd", 20.0), ("kd", 4.0), ("kd", 1.0), ("hard", 1.0), ("ls", 1.0))
    widths: tuple[int, ...] = ()


WIDTH_TAUS = (4.0, 20.0)
SETUPS = {
    ("digits", "cpu"): Setup(256, 64, 60, 32, (0, 1, 2, 3, 4), (*SINGLES, SEVENS_AND_EIGHTS), widths=(16, 256)),
    ("digits", "demo"): Setup(256, 64, 20, 32, (0, 1), ((3,), (8,), SEVENS_AND_EIGHTS), widths=(16,)),
    ("digits", "toy"): Setup(32, 16, 4, 32, (0, 1), ((3,), (8,), SEVENS_AND_EIGHTS), widths=(8,)),
    ("mnist5k", "cpu"): Setup(400, 100, 15, 64, (0, 1, 2), SINGLES, (("kd", 20.0), ("hard", 1.0))),
    ("mnist5k", "demo"): Setup(400, 100, 5, 64, (0, 1), ((3,),), (("kd", 20.0), ("hard", 1.0))),
    ("mnist5k", "toy"): Setup(32, 16, 4, 32, (0, 1), ((3,),), (("kd", 20.0), ("hard", 1.0))),
}


@dataclass(frozen=True, kw_only=True)
class MissingTeacher(Identity):
    """A teacher of all classes."""

    task: str
    profile: str
    data: str
    width: int
    epochs: int
    batch_size: int
    lr: float = 2e-3
    seed: int


@dataclass(frozen=True, kw_only=True)
class MissingDigit(Identity):
    """Students of one seed that each miss some classes.

    method: "kd" at alpha 1; "hard": the labels of the same rows; "ls": these smoothed at `SMOOTHING`.
    omitted: the classes left out, one tuple for each student.
    """

    task: str
    profile: str
    data: str
    omitted: tuple[tuple[int, ...], ...]
    method: str
    tau: float
    teacher_width: int
    width: int
    epochs: int
    batch_size: int
    lr: float = 2e-3
    seed: int

    @property
    def teacher(self) -> MissingTeacher:
        """Who teaches them."""
        return MissingTeacher(
            task=self.task,
            profile=self.profile,
            data=self.data,
            width=self.teacher_width,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            seed=self.seed,
        )


def transfer_rows(labels: np.ndarray, omitted: Sequence[int]) -> np.ndarray:
    """Row numbers of the transfer set: the train split without some classes, in its order."""
    return np.flatnonzero(~np.isin(labels, omitted))


# The bias


def prior_bias(logits: np.ndarray, prior: np.ndarray, free: Sequence[int]) -> np.ndarray:
    """The bias at which the mean posterior of some classes is their prior (to 1e-12), on rows without labels.

    It minimises mean logsumexp(z + b) - prior . b over the classes whose bias may move, which is convex. Newton's
    steps; far away the better of a short one and b + ln(prior / mean p), which never goes too far.

    Args:
        logits: (N, K).
        prior: (K,) positive.
        free: classes whose bias may move. Of all K, one is held: a shift of all changes no posterior.
    Returns:
        (K,) float64, 0 where it may not move; of mean 0 if all may.
    Raises:
        ArithmeticError: not found in 500 steps, as where logits are further apart than a float's exponential reaches.
    """
    z, moves = logits.astype(np.float64), np.array(free)[: logits.shape[1] - 1]
    bias = np.zeros(z.shape[1])

    def objective(candidate: np.ndarray) -> float:
        return float(special.logsumexp(z + candidate, axis=1).mean() - prior @ candidate)

    for _ in range(500):
        p = special.softmax(z + bias, axis=1)
        mean = p.mean(axis=0)
        slope = (mean - prior)[moves]
        if np.abs(slope).max() <= 1e-12:
            break
        curvature = (np.diag(mean) - p.T @ p / len(p))[np.ix_(moves, moves)]
        newton, careful = bias.copy(), bias.copy()
        step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
        newton[moves] -= step / max(1.0, np.abs(step).max())
        careful[moves] += np.log(prior[moves] / mean[moves])
        bias = newton if np.abs(step).max() <= 1 else min(newton, careful, key=objective)
    else:
        raise ArithmeticError("no bias that matches the prior in 500 steps: the logits are too far apart")
    return bias - bias.mean() if len(free) == len(bias) else bias


def best_bias(logits: np.ndarray, labels: np.ndarray, omitted: Sequence[int]) -> float:
    """The number that leaves the fewest errors when it is added to some classes' logits; exact.

    The errors change only where a row's margin is passed. Of the intervals with the fewest it is the middle of the
    widest; those at the ends count as 2 wide.

    Args:
        logits: (N, K).
        labels: (N,), which it reads.
        omitted: the classes whose bias moves.
    """
    z, inside = logits.astype(np.float64), np.isin(np.arange(logits.shape[1]), omitted)
    margin = z[:, ~inside].max(axis=1) - z[:, inside].max(axis=1)  # from this bias on a row is taken for an omitted one
    outside_right, inside_right = (
        np.flatnonzero(part)[z[:, part].argmax(axis=1)] == labels for part in (~inside, inside)
    )
    order = margin.argsort()
    right = outside_right.sum() + np.r_[0, (inside_right.astype(int) - outside_right)[order].cumsum()]
    edges = np.r_[margin.min() - 2, margin[order], margin.max() + 2]
    widths = np.diff(edges)
    best = np.where(right == right[widths > 0].max(), widths, 0).argmax()
    return float(edges[best] + edges[best + 1]) / 2


def biases(
    test: np.ndarray, validation: np.ndarray, labels: dict[str, np.ndarray], omitted: Sequence[int]
) -> np.ndarray:
    """The bias of every rule of `RULES`: (R, K) float64. Prior matching takes all classes for equally frequent."""
    num_classes = test.shape[1]
    one, prior = np.isin(np.arange(num_classes), omitted).astype(float), np.full(num_classes, 1 / num_classes)
    of_rule = {
        "none": 0 * one,
        "test_optimal": best_bias(test, labels["test"], omitted) * one,
        "val_optimal": best_bias(validation, labels["validation"], omitted) * one,
        "prior_match": prior_bias(test, prior, omitted),
        "prior_match_val": prior_bias(validation, prior, omitted),
        "prior_match_all": prior_bias(test, prior, range(num_classes)),
    }
    return np.stack([of_rule[rule] for rule in RULES])


def judged(logits: np.ndarray, labels: np.ndarray, omitted: Sequence[int]) -> tuple[float, float]:
    """Share of the omitted classes' rows that are recognised (recall), and share of all rows that are not (error)."""
    right = logits.argmax(axis=1) == labels
    unseen = np.isin(labels, omitted)
    return float(right[unseen].mean()) if unseen.any() else np.nan, float(1 - right.mean())


def separation(logits: np.ndarray, labels: np.ndarray, omitted: Sequence[int]) -> float:
    """Area under the ROC curve of omitted against other rows, over all biases: .5 if no bias can tell them apart."""
    inside = np.isin(np.arange(logits.shape[1]), omitted)
    margin, unseen = logits[:, inside].max(axis=1) - logits[:, ~inside].max(axis=1), np.isin(labels, omitted)
    pairs = int(unseen.sum()) * int((~unseen).sum())
    return float(stats.mannwhitneyu(margin[unseen], margin[~unseen]).statistic / pairs) if pairs else np.nan


def shifted_rows(labels: np.ndarray, digit: int) -> np.ndarray:
    """Rows in which a class has the share `SHIFTED`: all of the others, and the first few of it."""
    of_class, others = np.flatnonzero(labels == digit), np.flatnonzero(labels != digit)
    return np.sort(np.r_[others, of_class[: max(1, round(SHIFTED / (1 - SHIFTED) * len(others)))]])


def shift(logits: np.ndarray, labels: np.ndarray, digit: int) -> np.ndarray:
    """What prior matching does where the class has become rare: (2, 3) bias, recall and error.

    First with the old prior 1/K, which is now wrong, then with the right one.
    """
    rows, num_classes = shifted_rows(labels, digit), logits.shape[1]
    found = []
    for prior in (1 / num_classes, float((labels[rows] == digit).mean())):
        priors = np.full(num_classes, (1 - prior) / (num_classes - 1))
        priors[digit] = prior
        bias = prior_bias(logits[rows], priors, [digit])
        found.append((bias[digit], *judged(logits[rows] + bias, labels[rows], [digit])))
    return np.array(found)


# Records


def configs(task: str, profile: str, data: str) -> Iterator[MissingDigit]:
    """All students of a profile with a setup, seed by seed."""
    setup = SETUPS[task, profile]
    base: dict[str, Any] = {"task": task, "profile": profile, "data": data}
    base |= {name: getattr(setup, name) for name in ("teacher_width", "epochs", "batch_size")}
    for seed in setup.seeds:
        for method, tau in setup.arms:
            yield MissingDigit(**base, omitted=setup.omitted, width=setup.width, method=method, tau=tau, seed=seed)
        for width in setup.widths:
            for tau in WIDTH_TAUS:
                yield MissingDigit(**base, omitted=((HINTON,),), width=width, method="kd", tau=tau, seed=seed)


def own_profile(profile: str) -> str:
    """The profile whose students are read: its own, or "cpu"."""
    return profile if ("digits", profile) in SETUPS else "cpu"


def make_teacher(identity: MissingTeacher) -> Made:
    """Train a teacher; its logits on all splits, in half precision."""
    from kdnb.data.splits import load
    from kdnb.studies.dark_knowledge.networks import config_of, trained_logits

    data = load(identity.task, identity.profile)
    logits = trained_logits(config_of(identity, identity.seed, method="erm"), identity.width, data)
    error = {split: judged(part, data.splits[split].labels, ())[1] for split, part in logits.items()}
    return Made(arrays={split: part.astype(np.float16) for split, part in logits.items()}, metrics={"error": error})


def student_logits(identity: MissingDigit, omitted: Sequence[int]) -> dict[str, np.ndarray]:
    """Train one student; its logits on all splits. No row of an omitted class reaches the loop."""
    from kdnb.data.splits import load
    from kdnb.studies.dark_knowledge.networks import config_of, trained_logits

    data, seed = load(identity.task, identity.profile), identity.seed + STUDENT_SEED
    labels = data.splits["train"].labels
    rows = transfer_rows(labels, omitted)
    unseen = np.flatnonzero(np.isin(labels, omitted))
    assert not set(rows.tolist()) & set(unseen.tolist())
    if identity.method != "kd":
        alpha = {"alpha": SMOOTHING} if identity.method == "ls" else {}
        config = config_of(identity, seed, method="ls" if alpha else "erm", **alpha)
        return trained_logits(config, identity.width, data, rows)
    teacher = obtain(identity.teacher, lambda: make_teacher(identity.teacher)).arrays["train"]
    how = {"method": "kd", "alpha": 1.0, "tau": identity.tau, "teacher_run": identity.teacher.run_id()}
    return trained_logits(config_of(identity, seed, **how), identity.width, data, rows, teacher)


def make(identity: MissingDigit) -> Made:
    """Train the students of a record and judge them by every rule.

    Arrays: bias (S, R, K), recall (S, R), error (S, R), separation (S,), shift (S, 2, 3), for S students and R rules;
    "test" and "validation", logits of the student without the digit `HINTON`, in half precision.
    """
    from kdnb.data.splits import load

    labels = {name: split.labels for name, split in load(identity.task, identity.profile).splits.items()}
    arrays: dict[str, list] = {"bias": [], "recall": [], "error": [], "separation": [], "shift": []}
    kept, rows = {}, []
    for omitted in identity.omitted:
        logits = student_logits(identity, omitted)
        test, validation = logits["test"], logits["validation"]
        bias = biases(test, validation, labels, omitted)
        values = [judged(test + one, labels["test"], omitted) for one in bias]
        arrays["bias"].append(bias)
        arrays["recall"].append([recall for recall, _ in values])
        arrays["error"].append([error for _, error in values])
        arrays["separation"].append(separation(test, labels["test"], omitted))
        single = len(omitted) == 1
        arrays["shift"].append(shift(test, labels["test"], omitted[0]) if single else np.full((2, 3), np.nan))
        rows.append(len(transfer_rows(labels["train"], omitted)))
        if omitted == (HINTON,):
            kept = {split: logits[split].astype(np.float16) for split in ("test", "validation")}
    made = {name: np.array(values, dtype=np.float32) for name, values in arrays.items()}
    return Made(arrays={**made, **kept}, metrics={"transfer_rows": rows})


def study(task: str, profile: str) -> pd.DataFrame:
    """Every student of a profile under every rule, the columns of `stored_study`; those of "cpu" are read and not made.

    Raises NoRuns if none is there.
    """
    from kdnb.data.splits import load

    own, data = own_profile(profile), load(task, own_profile(profile)).fingerprint
    if own != "cpu":
        make_all(task, own)
    table = stored_study(task, own, data)
    if table.empty:
        raise NoRuns(f"no student of a missing digit is stored on {task}: kdnb.studies.dark_knowledge.reference trains")
    return table


def make_all(task: str, profile: str) -> None:
    """Train the students of a profile that are not stored."""
    from kdnb.data.splits import load

    for identity in configs(task, profile, load(task, profile).fingerprint):
        obtain(identity, functools.partial(make, identity))


def stored_study(task: str, profile: str, data: str) -> pd.DataFrame:
    """Every stored student of a profile under every rule; empty if none is stored.

    Returns:
        run_id, seed, method, tau, width, omitted (a tuple), rule, bias (mean over the omitted classes), recall,
        error, separation.
    """
    found = [(one, stored(one)) for one in configs(task, profile, data)]
    tables = [_rows(one, record.arrays) for one, record in found if record]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _rows(identity: MissingDigit, arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    fixed = {name: getattr(identity, name) for name in ("seed", "method", "tau", "width")}
    return pd.DataFrame(
        [
            {
                "run_id": identity.run_id(),
                **fixed,
                "omitted": omitted,
                "rule": rule,
                "bias": float(arrays["bias"][s, r, list(omitted)].mean()),
                "recall": float(arrays["recall"][s, r]),
                "error": float(arrays["error"][s, r]),
                "separation": float(arrays["separation"][s]),
            }
            for s, omitted in enumerate(identity.omitted)
            for r, rule in enumerate(RULES)
        ]
    )
