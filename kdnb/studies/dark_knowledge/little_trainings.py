"""Trains the little-data experiments: one teacher a seed, then every arm's student on some of its rows."""

import contextlib
import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.catalog import SOURCES, Source, modality_of
from kdnb.core import metrics
from kdnb.core.batches import Inputs
from kdnb.core.config import RunConfig
from kdnb.core.device import device, precision
from kdnb.core.loop import fit
from kdnb.core.methods import METHODS, Method, batch_loss
from kdnb.core.predict import predict
from kdnb.core.store import Record
from kdnb.data import splits
from kdnb.experiment import records
from kdnb.experiment.training import encode
from kdnb.models import classifiers, vision
from kdnb.studies.dark_knowledge import features
from kdnb.studies.dark_knowledge.attention import AttentionLoss, Read, Scores, read_scores
from kdnb.studies.dark_knowledge.features import Beside, Depth, FeatureLoss, RelationLoss
from kdnb.studies.dark_knowledge.little_data import ARMS, PLANS, LittleData, identities
from kdnb.studies.dark_knowledge.methods import ATTENTIVE, FeatureKD, RelationKD

WEIGHED = 64  # train rows on which the gradients' share is measured


def run(name: str, profile: str = "cpu", say=print) -> list[Record]:
    """All records of an experiment, each told in a line as it is there."""
    data, found = splits.load(PLANS[name]["fixed"]["task"], "toy" if profile == "toy" else "cpu"), []
    for identity in identities(name, profile, data.fingerprint):
        found.append(obtain(identity))
        arms = found[-1].metrics["arms"]
        say(f"{identity.run_id()}: " + ", ".join(f"{arm} {100 * arms[arm]['accuracy']:.1f}" for arm in identity.arms))
    return found


def obtain(identity: LittleData) -> Record:
    """The record of one seed and one number of rows: loaded, else trained."""
    return records.obtain(identity, lambda: _make(identity))


@dataclass(frozen=True)
class Taught:
    """What a teacher leaves of its rows and of test.

    states: hidden states of its rows.
    scores: of attention, of its rows; only if an arm asks for them.
    logits: (n, K) on its rows.
    test: its logits on test; None where it was not tuned.
    """

    states: dict[Depth, Tensor]
    scores: dict[Depth, Scores]
    logits: np.ndarray
    test: np.ndarray | None

    def first(self, count: int) -> "Taught":
        """The same of the first of its rows."""
        return Taught(
            states={depth: state[:count] for depth, state in self.states.items()},
            scores={depth: scores.first(count) for depth, scores in self.scores.items()},
            logits=self.logits[:count],
            test=self.test,
        )


@dataclass(frozen=True)
class Lesson:
    """What every arm's student gets: inputs by split, the labels of its train rows, and its teacher on these."""

    inputs: dict[str, Inputs]
    labels: np.ndarray
    taught: Taught


def _make(identity: LittleData) -> records.Made:
    """Train the teacher, unless this process just did, and every arm."""
    data = splits.load(identity.task, identity.profile)
    labels, test_labels = (data.splits[split].labels for split in ("train", "test"))
    chosen = _rows(identity, len(labels))
    taught = _teacher(_alone(identity))
    inputs = _inputs(identity.student, identity)
    inputs = {**inputs, "train": inputs["train"].take(chosen[: identity.rows])}
    lesson = Lesson(inputs, labels[chosen[: identity.rows]], taught.first(identity.rows))
    told, right = {}, []
    for arm in identity.arms:
        more, logits = _student(identity, arm, lesson)
        told[arm] = {**metrics.summary(logits, test_labels, taught.test), **more}
        right.append(logits.argmax(axis=1) == test_labels)
    teacher = {} if taught.test is None else metrics.summary(taught.test, test_labels)
    return records.Made(arrays={"right": np.array(right, dtype=np.uint8)}, metrics={"arms": told, "teacher": teacher})


def _rows(identity: LittleData, available: int) -> np.ndarray:
    """Train rows in a seed's order: the teacher's come first, and the students' among them."""
    if identity.rows > identity.teacher_rows or identity.teacher_rows > available:
        raise ValueError(
            f"rows must rise from students to teacher to {available}, got {identity.rows} and {identity.teacher_rows}"
        )
    return np.random.default_rng(identity.seed).permutation(available)[: identity.teacher_rows]


def _alone(identity: LittleData) -> LittleData:
    """What decides a teacher and what is read of it, the same for every number of rows: it as a student of labels."""
    return replace(
        identity,
        student=identity.teacher,
        rows=identity.teacher_rows,
        epochs=max(1, identity.teacher_epochs),
        lr=identity.teacher_lr,
        arms=tuple(arm for arm in identity.arms if ARMS[arm].get("feature_loss") in ATTENTIVE),
    )


@functools.lru_cache(maxsize=1)
def _teacher(identity: LittleData) -> Taught:
    """A teacher, by what decides it, trained unless it is to be left as pretrained."""
    inputs, data = _inputs(identity.student, identity), splits.load(identity.task, identity.profile)
    chosen = _rows(identity, len(inputs["train"]))
    inputs = {**inputs, "train": inputs["train"].take(chosen)}
    config, model = _config(identity, {"method": "erm"}), _model(identity.student, identity)
    kind = precision(config.precision)
    if identity.teacher_epochs:
        with torch.random.fork_rng():
            torch.manual_seed(identity.seed)
            fit(config, model, inputs, data.splits["train"].labels[chosen])
    test = predict(model, inputs["test"], kind).numpy() if identity.teacher_epochs else None
    states = features.read_states(model, inputs["train"], kind)
    scores = read_scores(model, inputs["train"], kind) if identity.arms else {}
    return Taught(states, scores, predict(model, inputs["train"], kind).numpy(), test)


def _student(identity: LittleData, arm: str, lesson: Lesson) -> tuple[dict, np.ndarray]:
    """One arm's student: what is told of its training, and its test logits (N, K)."""
    config = _config(identity, {"alpha": 0.0, "tau": identity.tau, **ARMS[arm]})
    model, inputs, taught = _model(identity.student, identity), lesson.inputs, lesson.taught
    method, kind = METHODS[config.method].of(config), precision(config.precision)
    beside = _beside(method, model, lesson, identity.seed)
    if beside is not None:
        beside.weight = _weight(config, model, beside, lesson, identity.share)
    with torch.random.fork_rng(), contextlib.nullcontext() if beside is None else beside:
        torch.manual_seed(identity.seed)
        fit(config, model, inputs, lesson.labels, taught.logits, beside=beside)
    told = {} if beside is None else {"weight": beside.weight, **_projected(beside, model, lesson, kind)}
    return told, predict(model, inputs["test"], kind).numpy()


def _beside(method: Method, model: nn.Module, lesson: Lesson, seed: int) -> Beside | None:
    if isinstance(method, RelationKD):
        return RelationLoss(method, model, lesson.taught.states)
    if isinstance(method, FeatureKD):
        widths, states = features.widths_of(model, lesson.inputs["train"]), lesson.taught.states
        if method.feature_loss in ATTENTIVE:
            return AttentionLoss(method, model, Read(states, lesson.taught.scores), widths, seed)
        return FeatureLoss(method, model, states, widths, seed)
    return None


def _weight(config: RunConfig, model: nn.Module, beside: Beside, lesson: Lesson, share: float) -> float:
    """The weight of the loss on states, by its share of the gradient on the first rows, dropout off."""
    rows = np.arange(min(WEIGHED, len(lesson.labels)))
    index = torch.from_numpy(rows).to(device())
    labels, posteriors = (torch.from_numpy(part).to(device()) for part in (lesson.labels, lesson.taught.logits))
    model.eval()
    with beside:
        logits = model(**{name: part.to(device()) for name, part in lesson.inputs["train"].batch(rows).items()})
        task = batch_loss(config, logits, labels[index], posteriors[index])
        weight = features.weight_for_share(share, task, beside.loss(index), model)
    model.train()
    return weight


def _projected(beside: Beside, model: nn.Module, lesson: Lesson, kind: str) -> dict:
    """Squared errors per entry of the teacher's states on the train rows, averaged over pairs; or a learned map."""
    if not isinstance(beside, FeatureLoss) or beside.how.feature_loss != "mse":
        return {}
    if beside.how.layer_map == "learned":
        return {"map": beside.map().detach().cpu().numpy().round(4).tolist()}
    own, errors = features.read_states(model, lesson.inputs["train"], kind), []
    for i, pair in enumerate(beside.pairs):
        mine, target = own[pair.student], lesson.taught.states[pair.teacher].double()
        projection = beside.projections[i % len(beside.projections)].weight.detach().cpu().T.double()
        best = mine.double() @ features.least_squares(mine, target)
        guesses = (mine.double() @ projection, best, target.mean(dim=0, keepdim=True))
        errors.append([float((guess - target).square().mean()) for guess in guesses])
    return dict(zip(("trained", "least_squares", "mean"), np.mean(errors, axis=0).tolist(), strict=True))


def _config(identity: LittleData, settings: dict) -> RunConfig:
    """What the loop is told; `teacher_run` names nothing that is stored, the states are handed over."""
    teacher = {"teacher_run": "beside"} if METHODS[settings["method"]].needs_teacher else {}
    if settings["method"] == "erm":
        settings = {"method": "erm"}
    image = modality_of(identity.task) == "image"
    return RunConfig.of(
        {
            "task": identity.task,
            "profile": identity.profile,
            "data": identity.data,
            "history_points": 0,
            "student": "mlp" if image else identity.student,
            "dropout": 0.0 if image else 0.1,
            "lr": identity.lr,
            "epochs": identity.epochs,
            "seed": identity.seed,
            "order_seed": identity.seed,
            "max_length": 32 if identity.profile == "toy" else 128,
            **teacher,
            **settings,
        }
    )


def _model(name: str, identity: LittleData) -> nn.Module:
    data = splits.load(identity.task, identity.profile)
    if name in SOURCES:
        config = _config(identity, {"method": "erm"})
        return classifiers.build(config.changed(student=name), data).to(device())
    images = data.splits["train"].images
    assert images is not None, "an image model for a task of texts"
    kind = "cnn" if name.startswith("cnn") else "mlp"
    source = Source("image", kind, layers=tuple(map(int, name.removeprefix(kind).split("x"))))
    return vision.untrained(source, images.shape[1:], data.task.num_classes, 0.0, identity.seed).to(device())


def _inputs(name: str, identity: LittleData) -> dict[str, Inputs]:
    data = splits.load(identity.task, identity.profile)
    return encode(name if name in SOURCES else "mlp", data, 32 if identity.profile == "toy" else 128)
