"""Speculative decoding with a real target on real text: SmolLM2, and six of its layers as the draft, by two losses.

Reading the stored record needs no torch; `make` trains, or takes what was trained, and decodes.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdnb.core import store
from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.experiment import records
from kdnb.studies.language_models import drafts, real_text

if TYPE_CHECKING:
    from kdnb.studies.language_models.drafting import Judging
    from kdnb.studies.language_models.models import Language
    from kdnb.studies.language_models.runs import Material

TOKENS = 60_960  # of each draft's training: every sequence of `real_text` once
TRAINED_AS = {drafts.BASE: real_text.ERM, drafts.KD: real_text.FULL}  # arm here -> arm of `real_text`


@dataclass(frozen=True, kw_only=True)
class RealDrafts(Identity):
    """A real target and its drafts, and how they are decoded with; the fields of `drafts.Drafts` of the same names.

    teacher_weights: hash of the target's weights.
    held_out: fingerprint of the text that prompts are taken from.
    students: names of the drafts' trainings, in the order of `arms`.
    """

    teacher_weights: str
    held_out: str
    students: tuple[str, ...]
    arms: tuple[str, ...] = tuple(TRAINED_AS)
    length: int = 64
    prompt: int = 16
    gammas: tuple[int, ...] = (1, 4)
    streams: int = 32
    assisted: int = 16
    gamma: int = 4
    seed: int = 0


def trained(shared: "Material", seed: int = 0) -> dict[str, tuple[str, "Language"]]:
    """Arm -> name of its training and the draft; trained where it is not on this machine."""
    from kdnb.studies.language_models import models, runs

    found = {}
    for arm, name in TRAINED_AS.items():
        how = real_text.arm(name, seed)
        how = dataclasses.replace(how, changes={**how.changes, "tokens": TOKENS})
        config, _ = runs.ensure(shared, how, keep=True)
        found[arm] = config.run_id(), models.load(str(runs.model_folder(config)))
    return found


def make(**changes: Any) -> Record:
    """The record of the experiment, loaded or made: an hour of one core, most of it the two trainings.

    Its arrays and metrics are those of `drafts.obtain`; the start is the cut before any training, judged alone.

    Args:
        changes: fields of RealDrafts.
    """
    from kdnb.core.device import deterministic
    from kdnb.studies.language_models import drafting, models

    shared = real_text.material()
    target = shared.teacher
    assert target is not None
    students = trained(shared)
    one = RealDrafts(
        teacher_weights=shared.teacher_weights,
        held_out=shared.held_out.fingerprint,
        students=tuple(name for name, _ in students.values()),
        **changes,
    )

    def languages() -> Iterator[tuple[str, "Language"]]:
        yield drafts.START, models.student(real_text.STUDENT, target, target.vocabulary, 0)
        yield from ((arm, language) for arm, (_, language) in students.items())

    def decode() -> records.Made:
        for language in (target, *(language for _, language in students.values())):
            language.model.generation_config.eos_token_id = None  # type: ignore[union-attr] # texts of equal length
        with deterministic():
            return drafting.judged(one, judging(one, shared), languages())

    return records.obtain(one, decode)


def judging(one: RealDrafts, shared: "Material") -> "Judging":
    """The target, the beginnings of held-out sequences, and the target's own way to go on from their prompts."""
    from kdnb.studies.language_models import drafting
    from kdnb.studies.language_models.text import Blocks

    assert shared.teacher is not None
    held = shared.held_out.head(one.streams)
    text = Blocks(held.ids[:, : one.length], held.tokenizer, held.vocabulary)
    samples = drafting.samples_like(shared.teacher, text, one.seed, begun=one.prompt)
    return drafting.Judging(shared.teacher, text, samples)


def stored() -> dict[RealDrafts, Record]:
    """The experiments that the store has whole, with their records: what the tables of `drafts` take."""
    found = {}
    for run_id in store.stored_ids():
        if run_id.startswith("realdrafts-") and (record := records.read_if_whole(store.read, run_id)):
            values = {f.name: record.config[f.name] for f in dataclasses.fields(RealDrafts)}
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            found[RealDrafts(**values)] = record
    return found
