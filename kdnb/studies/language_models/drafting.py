"""Targets and drafts, trained on a generated language; decoding with them, by our rule and by transformers'."""

import copy
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kdnb.core.device import deterministic, device
from kdnb.experiment.records import Made
from kdnb.studies.language_models import (
    drafts,
    evaluation,
    models,
    prefix_trainings,
    sampling,
    speculative,
    training,
)
from kdnb.studies.language_models.drafts import Drafts
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.text import Blocks
from kdnb.studies.language_models.training import NoTargets, Online, Targets, Told


@dataclass(frozen=True)
class Pair:
    """A target, whose law every result has, and a draft of the same vocabulary; both in eval mode."""

    target: Language
    draft: Language


@dataclass
class Counts:
    """What calls of the target gave.

    calls: how many.
    tokens: made in them.
    reached: (gamma,) of each drafted place, how often all before it were accepted.
    accepted: (gamma,) how often it was too.
    overlap: (gamma,) the sum of sum min(p, q) where it was reached.
    """

    gamma: int
    calls: int = 0
    tokens: int = 0
    reached: np.ndarray = field(init=False)
    accepted: np.ndarray = field(init=False)
    overlap: np.ndarray = field(init=False)

    def __post_init__(self):
        self.reached, self.accepted, self.overlap = (np.zeros(self.gamma) for _ in range(3))

    def add(self, accepted: np.ndarray, overlap: np.ndarray) -> None:
        """Calls that accepted so many (N,), with sum min(p, q) at each drafted place (N, gamma)."""
        place = np.arange(self.gamma)
        reached = accepted[:, None] >= place
        self.calls += len(accepted)
        self.tokens += int(accepted.sum()) + len(accepted)
        self.reached += reached.sum(axis=0)
        self.accepted += (accepted[:, None] > place).sum(axis=0)
        self.overlap += (overlap * reached).sum(axis=0)


def decode(pair: Pair, prompts: np.ndarray, new: int, *, gamma: int, seed: int = 0) -> tuple[np.ndarray, Counts]:
    """Texts continued by speculative decoding, side by side, each at its own pace; no cache, so no crop to get wrong.

    Args:
        pair: target and draft.
        prompts: (B, P) ids.
        new: tokens wanted of each; a last call's surplus is counted and left out.
        gamma: tokens drafted for a call, >= 1.
        seed: of all draws.
    Returns:
        (B, P + new) ids, and the counts of all calls.
    """
    rng, (streams, begun) = np.random.default_rng(seed), prompts.shape
    ids = np.zeros((streams, begun + new + gamma), dtype=np.int64)
    ids[:, :begun] = prompts
    lengths, counts = np.full(streams, begun), Counts(gamma)
    while len(going := np.flatnonzero(lengths < begun + new)):
        part, at = ids[going], lengths[going][:, None]
        q = np.empty((len(going), gamma, pair.target.vocabulary))
        for i in range(gamma):
            q[:, i] = _laws(pair.draft, part, at - 1 + i)[:, 0]
            np.put_along_axis(part, at + i, speculative.pick(q[:, i], rng.random(len(going)))[:, None], axis=1)
        p = _laws(pair.target, part, at - 1 + np.arange(gamma + 1))
        drafted = np.take_along_axis(part, at + np.arange(gamma), axis=1)
        accepted, last = speculative.verify(p, q, drafted, rng.random((len(going), gamma + 1)))
        counts.add(accepted, speculative.acceptance(p[:, :gamma], q))
        np.put_along_axis(part, at + accepted[:, None], last[:, None], axis=1)
        ids[going], lengths[going] = part, lengths[going] + accepted + 1
    return ids[:, : begun + new], counts


def _laws(language: Language, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Laws (B, n, V) float64 of what follows the tokens at some places (B, n); what stands behind changes nothing."""
    with torch.no_grad():
        logits = language.logits(torch.from_numpy(ids[:, : places.max() + 1]).to(device()))
    rows = logits[np.arange(len(ids))[:, None], places]
    return rows.double().softmax(dim=-1).cpu().numpy()


# transformers' own


def _not_its_own_call(record: logging.LogRecord) -> bool:
    """Leaves out what transformers 5.23 says of the way in which it calls the assistant itself."""
    return "Passing `generation_config` together with" not in record.getMessage()


@contextmanager
def knobs(draft: Language, **changes: Any) -> Iterator[None]:
    """Settings of a draft's generation_config, put back afterwards: where transformers looks for them."""
    config = draft.model.generation_config
    log = logging.getLogger("transformers.generation.utils")
    log.addFilter(_not_its_own_call)
    before = copy.deepcopy(config)
    try:
        for name, value in changes.items():
            setattr(config, name, value)  # type: ignore[union-attr]
        yield
    finally:
        log.removeFilter(_not_its_own_call)
        draft.model.generation_config = before  # type: ignore[assignment]


def comparable(gamma: int) -> dict[str, Any]:
    """The settings with which assisted generation drafts gamma tokens for every call, as the paper has it."""
    return {
        "num_assistant_tokens": gamma,
        "num_assistant_tokens_schedule": "constant",
        "assistant_confidence_threshold": 0.0,
    }


def generate(language: Language, prompt: Tensor, new: int, *, greedy: bool = False, **more: Any) -> Tensor:
    """A prompt (1, P) continued by transformers from the model's whole law (1, P + new): no top-k, no nucleus.

    No pad token is named: transformers would guess the *draft's* attention mask from it, and hide that token from the
    draft wherever it stands in the text. The result keeps its law, the draft is accepted less often.
    """
    how = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    with torch.no_grad():
        return language.model.generate(  # type: ignore[operator]
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new, **how, **more
        )


def assisted(pair: Pair, prompt: Tensor, new: int, room: int, **more: Any) -> tuple[int, int]:
    """Calls of the target in transformers' assisted generation, and tokens made in them.

    Args:
        pair: what generates, and its assistant.
        prompt: (1, P).
        new: tokens generated.
        room: calls with fewer tokens left are not counted: the end of the text cuts their drafts short.
        more: arguments of generate.
    """
    lengths: list[int] = []

    def note(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        cache = given.get("past_key_values")
        lengths.append(max(prompt.shape[1], (cache.get_seq_length() if cache is not None else 0) + 1))

    hook = pair.target.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        out = generate(pair.target, prompt, new, assistant_model=pair.draft.model, **more)
    finally:
        hook.remove()
    steps = np.diff([*lengths, out.shape[1]])
    whole = np.array(lengths) + room <= prompt.shape[1] + new
    return int(whole.sum()), int(steps[whole].sum())


# the experiment


class Decoding(Protocol):
    """What an experiment says of how drafts are judged and decoded with, see `drafts.Drafts`."""

    @property
    def length(self) -> int: ...
    @property
    def prompt(self) -> int: ...
    @property
    def gammas(self) -> tuple[int, ...]: ...
    @property
    def streams(self) -> int: ...
    @property
    def assisted(self) -> int: ...
    @property
    def gamma(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Judging:
    """What drafts are judged by: their target, held-out text, and the target's own samples in its place."""

    target: Language
    held_text: Blocks
    held_samples: Blocks


@dataclass(frozen=True)
class Material(Judging):
    """What the arms of an experiment share: the language's text and the target's samples, train and held out."""

    source: MarkovSource
    text: Blocks
    samples: Blocks


def samples_like(target: Language, like: Blocks, *key: int, begun: int = 1) -> Blocks:
    """As many sequences of the target's own as a text has, each from the text's first tokens.

    Args:
        target: whose law they are drawn from.
        like: the text.
        key: see `sampling.sample`.
        begun: tokens of the text that each begins with.
    """
    first = torch.from_numpy(like.ids[:, :begun].astype(np.int64)).to(device())
    ids = sampling.sample(target, first, like.ids.shape[1] - begun, key=key).cpu().numpy()
    return Blocks(ids.astype(like.ids.dtype), like.tokenizer, like.vocabulary)


def material(experiment: Drafts) -> Material:
    """Text, target and samples of an experiment; the target is trained here, or was on this machine."""
    source, _, text, held = prefix_trainings.text_of(experiment)
    target = prefix_trainings.teacher_of(experiment)
    samples, held_samples = (samples_like(target, like, experiment.seed, n) for n, like in enumerate((text, held)))
    return Material(target, held, held_samples, source, text, samples)


def arms(experiment: Drafts, shared: Material) -> Iterator[tuple[str, Language]]:
    """The start, then each arm's draft: all from the start's weights, for as many tokens, at one learning rate."""
    one, target = experiment, shared.target

    def trained(draft: Language, blocks: Blocks, laws: Targets, **changes: Any) -> Language:
        draft = Language(copy.deepcopy(draft.model), name=one.student)
        changes = {"batch_size": one.step, **changes}
        config = prefix_trainings.config_of(one, draft, blocks, shared.held_text, **changes)
        training.fit(config, draft, blocks, laws)
        return draft

    begun = {"tokens": one.start_tokens, "batch_size": one.batch}
    start = trained(prefix_trainings.student_of(one), shared.text, NoTargets(), **begun)
    yield drafts.START, start
    blocks = {drafts.TEXT: shared.text, drafts.SAMPLES: shared.samples, drafts.OWN: shared.text}
    told: dict[str, Targets] = {drafts.OWN: Online(target, "fp32", one.vocabulary)}
    taught = {"alpha": 1.0, "teacher": target.name, "teacher_weights": models.weights_hash(target.model)}
    for arm in one.arms:
        loss, _, data = arm.partition(", ")
        if loss == drafts.ERM:
            yield arm, trained(start, blocks[data], NoTargets())
            continue
        if data not in told:
            told[data] = Told(target, blocks[data])
        where = {"targets": "on_policy", "prompt": one.prompt} if data == drafts.OWN else {"targets": "online"}
        yield arm, trained(start, blocks[data], told[data], divergence=drafts.LOSSES[loss], **taught, **where)


def make(experiment: Drafts) -> Made:
    """What an experiment's record holds, see `drafts.obtain`."""
    with deterministic():
        shared = material(experiment)
        made = judged(experiment, shared, arms(experiment, shared))
    return Made(arrays=made.arrays, metrics={**made.metrics, "language_entropy": shared.source.conditional_entropy})


def judged(experiment: Decoding, shared: Judging, languages: Iterable[tuple[str, Language]]) -> Made:
    """Drafts beside their target, and decoding with two of them: what `drafts.obtain` says of a record.

    Args:
        experiment: how.
        shared: the target, and what the drafts are judged on.
        languages: each arm's draft, the start first; BASE and KD among them.
    """
    found: dict[str, list[float]] = {name: [] for name in ("acceptance", "kl", "entropy", "nll")}
    decoding, laws = {}, Told(shared.target, shared.held_samples)
    for arm, draft in languages:
        values = evaluation.judge(draft, shared.held_samples, laws)
        for name, array in (("acceptance", "overlap"), ("kl", "kl"), ("entropy", "entropy")):
            found[name].append(float(values[array][:, experiment.prompt :].mean(dtype=np.float64)))
        found["nll"].append(float(evaluation.judge(draft, shared.held_text)["nll"].mean(dtype=np.float64)))
        if arm in (drafts.BASE, drafts.KD):
            decoding[arm] = draft
    arrays = {name: np.array(values) for name, values in found.items()}
    arrays |= _decoded(experiment, shared, [decoding[arm] for arm in (drafts.BASE, drafts.KD)])
    more, metrics = _assistance(experiment, shared, decoding[drafts.KD])
    own = evaluation.summary(evaluation.judge(shared.target, shared.held_text))
    metrics |= {
        "target_nll": own.nll,
        "target_entropy": own.entropy,
        "target_parameters": models.parameters(shared.target.model),
        "draft_parameters": models.parameters(decoding[drafts.KD].model),
    }
    return Made(arrays={**arrays, **more}, metrics=metrics)


def _decoded(experiment: Decoding, shared: Judging, languages: list[Language]) -> dict[str, np.ndarray]:
    """Counts of our own decoding for each draft and gamma."""
    one, most = experiment, max(experiment.gammas)
    prompts = shared.held_text.ids[: one.streams, : one.prompt].astype(np.int64)
    new = one.length - one.prompt - most
    counts = [
        [decode(Pair(shared.target, draft), prompts, new, gamma=gamma, seed=one.seed)[1] for gamma in one.gammas]
        for draft in languages
    ]
    arrays = {name: np.array([[getattr(c, name) for c in row] for row in counts]) for name in ("calls", "tokens")}
    for name in ("reached", "accepted", "overlap"):
        padded = [[np.pad(getattr(c, name), (0, most - c.gamma)) for c in row] for row in counts]
        arrays[name] = np.array(padded)
    return arrays


def _assistance(experiment: Decoding, shared: Judging, draft: Language) -> tuple[dict, dict]:
    """Calls and tokens of assisted generation in each of `drafts.WAYS`, wall times, and the greedy check."""
    one, pair, gamma = experiment, Pair(shared.target, draft), experiment.gamma
    prompts = torch.from_numpy(shared.held_text.ids[: one.assisted, : one.prompt].astype(np.int64)).to(device())
    new, room = one.length - one.prompt, gamma + 1
    length: dict[str, Any] = {"num_assistant_tokens": gamma}
    ways: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (({}, length), (length, {}), (comparable(gamma), {}))
    counts = np.zeros((len(ways), 2), dtype=np.int64)
    seconds: dict[str, list[float]] = {"target": [], "draft": [], "assisted": []}
    equal = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(one.seed)
        for prompt in prompts.split(1):
            for name, language in (("target", pair.target), ("draft", draft)):
                with _timed(seconds[name], new):
                    generate(language, prompt, new)
            for i, (on_draft, on_main) in enumerate(ways):
                with knobs(draft, **on_draft), _timed(seconds["assisted"] if i == len(ways) - 1 else [], new):
                    counts[i] += assisted(pair, prompt, new, room, **on_main)
        for prompt in prompts[:4].split(1):
            with knobs(draft, **comparable(gamma)):
                helped = generate(pair.target, prompt, new, greedy=True, assistant_model=draft.model)
            equal &= bool(torch.equal(helped, generate(pair.target, prompt, new, greedy=True)))
    metrics = {f"seconds_{name}": float(np.median(values)) for name, values in seconds.items()}
    return {"assisted_calls": counts[:, 0], "assisted_tokens": counts[:, 1]}, {**metrics, "greedy_equal": equal}


@contextmanager
def _timed(into: list[float], tokens: int) -> Iterator[None]:
    """Append the seconds a token that a block took."""
    started = time.perf_counter()
    yield
    into.append((time.perf_counter() - started) / tokens)
