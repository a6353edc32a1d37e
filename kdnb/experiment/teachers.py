"""Who teaches: a stored run, or logits that were written down or averaged and are stored under the hash of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from kdnb.core import metrics, store
from kdnb.core.config import SPLITS, Identity
from kdnb.core.store import Run
from kdnb.data.splits import TaskData
from kdnb.data.teacher_table import FAR, TeacherTable
from kdnb.errors import DamagedRun
from kdnb.experiment.arms import AVERAGE, TABLE

KIND = "teacher-"  # how the kinds of such records begin


@dataclass(frozen=True, kw_only=True)
class WrittenTeacher(Identity):
    """What names a teacher that no training gives: its logits. Equal answers are one teacher, whatever the file.

    origin: TABLE or AVERAGE.
    task: whose rows they are.
    data: fingerprint of its splits.
    content: hash of the logits.
    """

    origin: str
    task: str
    data: str
    content: str

    def prefix(self) -> str:
        """What the name begins with: what it comes from."""
        return f"{KIND}{self.origin}"


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What a student needs to know of its teacher.

    run_id: its name in the store.
    task: what it was made for.
    data: fingerprint of the splits.
    logits: split -> (N, K) float32; in a train row that it says nothing on the label, as surely as can be.
    known: split -> (N,) whether it says something on a row.
    """

    run_id: str
    task: str
    data: str
    logits: dict[str, np.ndarray]
    known: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Unstored:
    """A teacher that is ready to be stored, once everything else that was asked for has been checked.

    identity: names it.
    logits: split -> (N, K) float32, nan in rows that it says nothing on.
    labels: split -> (N,) of the data.
    facts: what it was made of, for people.
    """

    identity: WrittenTeacher
    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    facts: dict[str, Any]

    @property
    def run_id(self) -> str:
        """Its name in the store."""
        return self.identity.run_id()

    def store(self) -> str:
        """Store it, unless it is there already; returns its name."""
        values = {split: _told(self.logits[split], self.labels[split]) for split in SPLITS}
        store.write(self.identity, self.logits, {**self.facts, **values}, labels=(self.identity.data, self.labels))
        return self.run_id


def of_table(table: TeacherTable, data: TaskData) -> Unstored:
    """The teacher that a file holds."""
    labels = {split: data.splits[split].labels.astype(np.int64) for split in SPLITS}
    facts = {"file": table.path, "form": table.form, "by": table.by, "rows": table.rows, "unknown": table.unknown}
    return _unstored(TABLE, data.task.name, data.fingerprint, table.logits, labels, facts)


def average(run_ids: Sequence[str]) -> Unstored:
    """An ensemble: the mean posterior of two or more teachers on the same data.

    A row on which one of them says nothing is one on which the ensemble says nothing.

    Raises:
        ValueError: fewer than two, or they are not of the same data.
        FileNotFoundError: one is not stored.
        DamagedRun: a file of one is not what was written.
    """
    names = list(dict.fromkeys(run_ids))
    if len(names) < 2:
        raise ValueError(f"an average needs two different runs or more, got {', '.join(names) or 'none'}")
    members = [load(name) for name in names]
    first = members[0]
    for one in members[1:]:
        if one.data != first.data:
            raise ValueError(
                f"{one.run_id} is of {one.task} (data {one.data}), {first.run_id} of {first.task} "
                f"(data {first.data}): task, rows and label order must be the same"
            )
    logits = {}
    for split in SPLITS:
        each = np.stack([one.logits[split] for one in members]).astype(np.float64)
        mean = logsumexp(each - logsumexp(each, axis=2, keepdims=True), axis=0) - np.log(len(members))
        mean[~np.all([one.known[split] for one in members], axis=0)] = np.nan
        logits[split] = np.maximum(mean, -FAR).astype(np.float32)
    if np.isnan(logits["train"]).any(axis=1).all():
        raise ValueError(f"there is no train row of {first.task} on which all of {', '.join(names)} say something")
    return _unstored(AVERAGE, first.task, first.data, logits, store.read(first.run_id).labels, {"runs": names})


def _unstored(origin: str, task: str, data: str, logits: Mapping, labels: Mapping, facts: dict[str, Any]) -> Unstored:  # noqa: PLR0913 - what a record is made of
    identity = WrittenTeacher(origin=origin, task=task, data=data, content=_content(logits))
    return Unstored(
        identity=identity,
        logits={split: logits[split] for split in SPLITS},
        labels={split: labels[split] for split in SPLITS},
        facts=facts,
    )


def _content(logits: Mapping[str, np.ndarray]) -> str:
    """Hash of a teacher's logits."""
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(np.ascontiguousarray(logits[split], dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def of_run(run: Run) -> Teacher:
    """A trained model as a teacher: it says something on every row."""
    known = {split: np.ones(len(logits), bool) for split, logits in run.logits.items()}
    return Teacher(run_id=run.run_id, task=run.config.task, data=run.config.data, logits=run.logits, known=known)


def load(run_id: str) -> Teacher:
    """A stored run or written teacher, by its name.

    Raises:
        FileNotFoundError: there is none of that name.
        ValueError: what has it is no teacher of a classification task.
        DamagedRun: a file is missing or altered.
    """
    kind = store.kind_of(run_id)
    if not kind:
        return of_run(store.load(run_id))
    if not kind.startswith(KIND):
        raise ValueError(f"{run_id} is of kind {kind}: neither a classification run nor a written teacher")
    identity, record = read(run_id)
    known = {split: ~np.isnan(record.arrays[split]).any(axis=1) for split in SPLITS}
    logits = {split: record.arrays[split] for split in SPLITS}
    silent = np.flatnonzero(~known["train"])
    logits["train"][silent] = -FAR
    logits["train"][silent, record.labels["train"][silent]] = 0
    return Teacher(run_id=run_id, task=identity.task, data=identity.data, logits=logits, known=known)


def read(run_id: str) -> tuple[WrittenTeacher, store.Record]:
    """A written teacher as it is stored, its logits held to its name and its metrics to both.

    Raises:
        FileNotFoundError: there is none of that name.
        DamagedRun: a file is missing or altered, or does not follow from the others.
    """
    record = store.read(run_id)
    try:
        identity = WrittenTeacher(**{name: value for name, value in record.config.items() if name != "kind"})
        if identity.run_id() != run_id:
            raise DamagedRun("config.json belongs to another one")
        if _content(record.arrays) != identity.content:
            raise DamagedRun("its logits are not those that its name stands for")
        for split in SPLITS:
            told, logits = record.metrics[split], _told(record.arrays[split], record.labels[split])
            for name, value in logits.items():
                if not np.isclose(told[name], value, rtol=1e-6, atol=1e-6):
                    raise DamagedRun(f"{name} of {split} is {told[name]} in its metrics, {value:.6g} by its logits")
    except store.UNREADABLE as error:
        raise store.damaged(run_id, error) from None
    return identity, record


def origin_of(run_id: str) -> str:
    """What a written teacher comes from, TABLE or AVERAGE; "" for anything else."""
    try:
        kind = "" if store.config_of(run_id) else store.kind_of(run_id)  # a run's config is read once for many students
    except ValueError:  # it is a path
        return ""
    return kind.removeprefix(KIND) if kind.startswith(KIND) else ""


def summary(logits: np.ndarray, labels: np.ndarray, teacher: Teacher | None, split: str) -> dict[str, float]:
    """`metrics.summary` of a student; its agreement with a teacher on the rows on which that says something.

    Args:
        logits: (N, K) of the student.
        labels: (N,).
        teacher: None for none.
        split: which of the teacher's logits are of these rows.
    """
    if teacher is None or not teacher.known[split].any():
        return metrics.summary(logits, labels)
    known, taught = teacher.known[split], teacher.logits[split]
    if known.all():
        return metrics.summary(logits, labels, taught)
    return {
        **metrics.summary(logits, labels),
        "agreement": metrics.agreement(logits[known], taught[known]),
        "kl_to_teacher": metrics.kl_to_teacher(logits[known], taught[known]),
    }


def check(run: Run) -> None:
    """Hold what a run says of its teacher to the logits of both, if the teacher is stored and whole.

    Raises:
        DamagedRun: it does not follow from them.
    """
    half = run.metrics["cost"].get("stored") == "float16"
    if not run.config.teacher_run:
        return
    try:
        teacher = load(run.config.teacher_run)
        if not half and store.read(teacher.run_id).metrics.get("cost", {}).get("stored") == "float16":
            return  # it may have been taught before its teacher was rounded
    except (FileNotFoundError, ValueError):  # none, or one that is dealt with by its own name
        return
    if half:  # a rounded run tells of a rounded teacher, see `kdnb.experiment.compact`
        teacher = rounded(teacher)
    for split in SPLITS:
        if teacher.logits[split].shape != run.logits[split].shape:
            raise DamagedRun(f"run {run.run_id}: its teacher's logits of {split} are of another shape than its own")
        values = summary(run.logits[split], run.labels[split], teacher, split)
        for name in ("agreement", "kl_to_teacher"):
            stored, value = (float(of.get(name, np.nan)) for of in (run.metrics[split], values))
            if not np.isclose(stored, value, rtol=1e-6, atol=1e-6, equal_nan=True):
                told = f"{name} is {stored} in its metrics, {value:.6g} by its teacher's logits"
                raise DamagedRun(f"run {run.run_id}: {told}")


def shifted(logits: np.ndarray) -> np.ndarray:
    """Each row of (N, K) logits less its last one: the same posterior, and a last column of zeros."""
    return logits - logits[:, -1:]


def halved(logits: np.ndarray) -> np.ndarray:
    """(N, K) logits, shifted, in half precision and column by column, in which they compress best."""
    return np.asfortranarray(shifted(logits).astype(np.float16))


def rounded(teacher: Teacher) -> Teacher:
    """A teacher whose logits went through `halved`."""
    logits = {split: halved(part).astype(np.float32) for split, part in teacher.logits.items()}
    return replace(teacher, logits=logits)


def _told(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How many rows a teacher says something on; where it does, its entropy [nats] and accuracy on them."""
    known = ~np.isnan(logits).any(axis=1)
    if not known.any():
        return {"known": 0}
    return {
        "known": int(known.sum()),
        "entropy": metrics.mean_entropy(logits[known]),
        "accuracy": metrics.accuracy(logits[known], labels[known]),
    }
