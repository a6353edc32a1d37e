"""Whether a teacher and a student fit, before anything is trained: each finding with its reason."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from kdnb.studies.language_models import divergences, evaluation, models, training
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.text import Blocks

SLACK = 0.1  # nats by which a teacher may be worse than a uniform guess: untrained ones are, a misread one by far


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    what: in a word or two.
    fits: False stands in the way of distillation; None is to be known and stands in no way.
    why: what was found.
    """

    what: str
    fits: bool | None
    why: str


def common_vocabulary(student: Language, teacher: Language | None, blocks: Blocks) -> int:
    """Entries that the laws of teacher and student have in common: padding rows of either head are cut off.

    Raises:
        ValueError: the tokenizers are not the same, or a head has fewer rows than the tokenizer has ids.
    """
    both = [student, *([teacher] if teacher else [])]
    for one in both:
        if one.tokenizer is not None and models.tokenizer_hash(one.tokenizer) != blocks.tokenizer:
            raise ValueError(
                f"tokenizer: {one.name}'s gives other ids than the one the text was made with (their hashes differ); "
                "distillation across tokenizers is left out, TRL's GOLD trainer does it"
            )
    rows = min(one.vocabulary for one in both)
    if rows < blocks.vocabulary:
        short = min(both, key=lambda one: one.vocabulary)
        raise ValueError(
            f"vocabulary: {short.name}'s head has {rows:,} rows, its tokenizer {blocks.vocabulary:,} ids; expected at "
            "least as many rows"
        )
    return rows


def check(teacher: Language, student: Language, blocks: Blocks | None = None) -> list[Finding]:
    """Findings on a pair, those that stand in the way among them.

    Args:
        teacher: what is learned from.
        student: what learns.
        blocks: some text, on which the teacher's perplexity is told.
    """
    found = [_tokenizers(teacher, student), _heads(teacher), _heads(student)]
    size = len(teacher.tokenizer) if teacher.tokenizer is not None else 0
    rows, common = (student.vocabulary, teacher.vocabulary), min(student.vocabulary, teacher.vocabulary)
    words = f"student {rows[0]:,} rows, teacher {rows[1]:,}, tokenizer {size:,} ids"
    found.append(Finding("vocabulary", common >= size, f"{words}; the law of the first {common:,} is learned"))
    found += [_ends(teacher, student), _templates(teacher, student), _lengths(teacher, student)]
    licences = ", ".join(f"{one.name}: {one.licence or 'none is told'}" for one in (teacher, student))
    found.append(Finding("licence", None, licences))
    if all(one.fits is not False for one in found):
        found += _measured(teacher, blocks, common)
    return found


def _tokenizers(teacher: Language, student: Language) -> Finding:
    if teacher.tokenizer is None or student.tokenizer is None:
        who = " and ".join(one.name for one in (teacher, student) if one.tokenizer is None)
        return Finding("tokenizer", False, f"{who} has none: expected tokenizer.json beside the weights")
    if models.tokenizer_hash(teacher.tokenizer) == models.tokenizer_hash(student.tokenizer):
        return Finding("tokenizer", True, "the same, proven by the hash of vocabulary and rules")
    own, other = teacher.tokenizer.get_vocab(), student.tokenizer.get_vocab()
    moved = sum(other.get(word) != number for word, number in own.items())
    return Finding(
        "tokenizer",
        False,
        f"not the same: {moved:,} of the teacher's {len(own):,} tokens have another id or none"
        f"{'; the rules differ' if not moved else ''}. TRL's GOLD trainer distils across tokenizers",
    )


def _heads(language: Language) -> Finding:
    try:
        models.check_head(language)
    except ValueError as error:
        return Finding("head", False, str(error))
    return Finding("head", True, f"{language.name}: logits are the head applied to the last hidden states")


def _ends(teacher: Language, student: Language) -> Finding:
    ends = [getattr(one.tokenizer, "eos_token_id", None) for one in (teacher, student)]
    same = ends[0] == ends[1] and ends[0] is not None
    return Finding("end of text", same or None, f"token {ends[0]} of the teacher, {ends[1]} of the student")


def _templates(teacher: Language, student: Language) -> Finding:
    own, other = (models.template_hash(one.tokenizer) for one in (teacher, student))
    words = "the same" if own == other else "not the same"
    return Finding("chat template", own == other or None, f"{words}; plain text is trained on, no template is applied")


def _lengths(teacher: Language, student: Language) -> Finding:
    limits = [getattr(one.model.config, "max_position_embeddings", None) for one in (teacher, student)]
    known = [limit for limit in limits if isinstance(limit, int)]
    return Finding("length", None, f"up to {min(known):,} tokens" if known else "no limit known")


def _measured(teacher: Language, blocks: Blocks | None, vocabulary: int) -> list[Finding]:
    """What only running it tells: it is no distance from itself, its perplexity, the mass that is cut off."""
    text = blocks or Blocks(np.arange(64, dtype=np.int64).reshape(2, 32) % vocabulary, "", vocabulary)
    ids = torch.from_numpy(text.ids[:2].astype(np.int64)).to(teacher.head.weight.device)
    with torch.no_grad():
        logits = teacher.logits(ids).reshape(-1, teacher.vocabulary)
        itself = float(divergences.divergence("forward_kl", logits, logits.clone()).abs().max())
        cut = float(logits.float().softmax(-1)[:, vocabulary:].sum(-1).max())
    found = [
        Finding("teacher beside itself", itself < 1e-6, f"KL {itself:.1e} nats, expected 0"),
        Finding("mass cut off", cut < 0.01, f"at most {cut:.1e} of the teacher's law lies beyond {vocabulary:,}"),
    ]
    if blocks is not None:
        online = training.Online(teacher, "fp32", vocabulary)
        judged = evaluation.judge(teacher, blocks, lambda rows, ids: online(rows, ids, None), vocabulary)
        nll = float(judged["nll"].mean())
        told = f"perplexity {math.exp(nll):,.1f} on {judged['nll'].size:,} tokens of your text"
        fits = nll < math.log(vocabulary) + SLACK
        found.append(Finding("teacher's likelihood", fits, told + ("" if fits else "; worse than a uniform guess")))
    return found
