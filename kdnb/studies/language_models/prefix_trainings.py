"""Trains the students of `kdnb.studies.language_models.prefixes`: same start, same budget, other prefixes."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from kdnb.core.device import device
from kdnb.experiment.records import Made
from kdnb.studies.language_models import evaluation, losses, models, prefixes, runs, sampling, training
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.divergences import log_law
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.text import Blocks
from kdnb.studies.language_models.training import NoTargets, Online, Targets

_SOFT = {
    prefixes.WORD: {"alpha": 1.0, "targets": "online"},
    prefixes.MIXED: {"alpha": 0.5, "targets": "online"},
    prefixes.ON_REVERSE: {"alpha": 1.0, "targets": "on_policy", "divergence": "reverse_kl"},
    prefixes.ON_FORWARD: {"alpha": 1.0, "targets": "on_policy"},
    prefixes.ON_GJSD: {"alpha": 1.0, "targets": "on_policy", "divergence": "gjsd"},
    prefixes.ON_INTERP: {"alpha": 1.0, "targets": "on_policy", "divergence": "interp_jsd", "beta": 0.1},
    prefixes.ON_SKEW: {"alpha": 1.0, "targets": "on_policy", "divergence": "skew_kl"},
    prefixes.ON_TV: {"alpha": 1.0, "targets": "on_policy", "divergence": "tv"},
    **{name: {"alpha": alpha, "divergence": "uniform"} for alpha, name in prefixes.LS.items()},
}


def text_of(one: prefixes.GeneratedLanguage) -> tuple[MarkovSource, Blocks, Blocks, Blocks]:
    """The language and its text: what the teacher, what the students are trained on, what is held out."""
    source = MarkovSource(one.vocabulary, one.seed, one.scale)
    teachers = -(-one.teacher_tokens // (one.length - 1))
    return (
        source,
        source.blocks(teachers, one.length, 2),
        source.blocks(one.rows, one.length, 0),
        source.blocks(one.held_rows, one.length, 1),
    )


def teacher_of(one: prefixes.GeneratedLanguage) -> Language:
    """The teacher: trained once on text of its own, kept on this machine, loaded after that."""
    _, train, _, held = text_of(one)
    changes = {
        "tokens": one.teacher_tokens,
        "batch_size": one.batch,
        "lr": one.teacher_lr,
        "precision": "fp32",
        "seed": one.seed,
        "order_seed": one.seed,
    }
    arm = runs.Arm(student=one.teacher, changes=changes)
    config, _ = runs.ensure(runs.Material(train, held), arm, keep=True)
    return models.load(str(runs.model_folder(config)))


def student_of(one: prefixes.GeneratedLanguage) -> Language:
    """A student before its first step."""
    return models.student(one.student, None, one.vocabulary, one.seed)


def config_of(one: prefixes.GeneratedLanguage, student: Language, train: Blocks, held: Blocks, **changes) -> LMConfig:
    """How a student is trained."""
    return LMConfig(
        **{
            "data": train.fingerprint,
            "held_out": held.fingerprint,
            "length": one.length,
            "student": one.student,
            "student_weights": models.weights_hash(student.model),
            "vocabulary": one.vocabulary,
            "tokens": one.tokens,
            "batch_size": one.batch,
            "lr": one.student_lr,
            "precision": "fp32",
            "seed": one.seed,
            "order_seed": one.seed,
            **changes,
        }
    )


def make(one: prefixes.Prefixes) -> Made:
    """Train all arms; see `prefixes.obtain`."""
    source, _, text, held = text_of(one)
    teacher = teacher_of(one)
    weights = models.weights_hash(teacher.model)
    texts = _texts(one, teacher, text)
    measured = []
    for arm in one.arms:
        student, train = student_of(one), texts(arm)
        changes = dict(_SOFT.get(arm, {}))
        targets: Targets = NoTargets()
        if "targets" in changes:
            changes |= {"teacher": "teacher", "teacher_weights": weights, "prompt": one.prompt}
            targets = Online(teacher, "fp32", one.vocabulary)
        training.fit(config_of(one, student, train, held, **changes), student, train, targets)
        measured.append(measure(one, student, teacher, source, held))
    laws = evaluation.summary(evaluation.judge(teacher, held))
    facts = {
        "source_entropy": source.conditional_entropy,
        "held_out_entropy": float(source.entropies(held.ids).mean()),
        "teacher_unchanged": weights == models.weights_hash(teacher.model),
        **{f"teacher_{name}": value for name, value in asdict(laws).items() if name in ("nll", "entropy", "ece")},
        **{f"teacher_{name}": value for name, value in search(one, teacher, held).items()},
    }
    arrays = {name: np.array([row[name] for row in measured], dtype=np.float64) for name in prefixes.MEASURES}
    return Made(arrays=arrays, metrics=facts)


def _texts(one: prefixes.Prefixes, teacher: Language, text: Blocks) -> Callable[[str], Blocks]:
    """What an arm is trained on; the teacher's own text is made once."""
    made: dict[str, Blocks] = {}

    def continued(how: str) -> Blocks:
        if how not in made:
            prompts = _ids(text.ids[:, : one.prompt])
            new = one.length - one.prompt
            parts = prompts.split(256)
            drawn = [
                sampling.mode(teacher, part, new, beams=one.beams)
                if how == prefixes.MODE
                else sampling.sample(teacher, part, new, key=(one.seed, number))
                for number, part in enumerate(parts)
            ]
            made[how] = Blocks(torch.cat(drawn).cpu().numpy().astype(text.ids.dtype), text.tokenizer, text.vocabulary)
        return made[how]

    def of(arm: str) -> Blocks:
        if arm in (prefixes.MODE, prefixes.SAMPLES):
            return continued(arm)
        if arm == prefixes.BOTH:
            half = np.where(np.arange(len(text))[:, None] % 2, text.ids, continued(prefixes.MODE).ids)
            return Blocks(half, text.tokenizer, text.vocabulary)
        return text

    return of


def measure(
    one: prefixes.Prefixes, student: Language, teacher: Language, source: MarkovSource, held: Blocks
) -> dict[str, float]:
    """MEASURES of one student, from the whole laws."""
    online = Online(teacher, "fp32", one.vocabulary)
    judged = evaluation.judge(student, held, lambda rows, ids: online(rows, ids, None))
    summary = evaluation.summary(judged)
    own = _ids(held.ids[: one.prompts, : one.prompt])
    drawn = sampling.sample(student, own, one.length - one.prompt, key=(one.seed,))
    samples = Blocks(drawn.cpu().numpy().astype(held.ids.dtype), held.tokenizer, held.vocabulary)
    return {
        "nll": summary.nll,
        "entropy": summary.entropy,
        "teacher_kl": summary.kl,
        "source_kl": source_kl(student, source, held),
        "accuracy": summary.accuracy,
        "ece": summary.ece,
        "own_entropy": float(evaluation.judge(student, samples)["entropy"][:, one.prompt - 1 :].mean()),
        **search(one, student, held),
    }


def _ids(ids: np.ndarray) -> Tensor:
    """Token ids for a model, on the training device."""
    return torch.from_numpy(ids.astype(np.int64)).to(device())


def source_kl(student: Language, source: MarkovSource, held: Blocks) -> float:
    """Mean KL of the source's true law to a student's on held-out text, from the third token on [nats]."""
    with torch.no_grad():
        log_p = log_law(student.logits(_ids(held.ids))[:, 1:-1]).double().cpu()
    q = torch.from_numpy(source.laws[held.ids[:, :-2], held.ids[:, 1:-1]])
    return float((torch.special.xlogy(q, q) - q * log_p).sum(-1).mean())


def search(one: prefixes.Prefixes, language: Language, held: Blocks) -> dict[str, float]:
    """What beam search finds beyond greedy decoding, under the model itself, and how likely its find is."""
    prompts = _ids(held.ids[: one.prompts, : one.prompt])
    greedy, beam = (
        log_probability(language, sampling.mode(language, prompts, one.continued, beams=beams), one.prompt)
        for beams in (1, one.beams)
    )
    return {"gap": float((beam - greedy).mean()), "mode_share": float(beam.exp().mean())}


def log_probability(language: Language, ids: Tensor, prompt: int) -> Tensor:
    """Log-probability of what follows the first `prompt` tokens of each sequence (B,) [nats]."""
    with torch.no_grad():
        hidden, labels = losses.shifted(language.hidden(ids), ids)
        told = -losses.Objective().losses(language.head(hidden), labels)
    return told.view(len(ids), -1)[:, prompt - 1 :].sum(dim=-1)
