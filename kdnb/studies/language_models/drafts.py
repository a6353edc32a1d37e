"""Drafts of speculative decoding, trained and distilled: which arms there are, an experiment's record, their tables.

What trains and decodes is in `kdnb.studies.language_models.drafting`; nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdnb.core import store
from kdnb.core.store import Record
from kdnb.experiment import records
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.prefixes import GeneratedLanguage
from kdnb.studies.language_models.speculative import expected_tokens

START = "start"
ERM = "ERM"
LOSSES = {"forward KL": "forward_kl", "reverse KL": "reverse_kl", "TV": "tv", "-log acceptance": "nla"}
TEXT, SAMPLES, OWN = "text", "target's samples", "draft's own"
DATA = (TEXT, SAMPLES, OWN)
BASE, KD = f"{ERM}, {TEXT}", f"forward KL, {TEXT}"  # of equal size, start, text and steps: these two are decoded with
ARMS = (BASE, f"{ERM}, {SAMPLES}", *(f"{loss}, {data}" for data in DATA for loss in LOSSES))
WAYS = ("gamma given to generate", "gamma on the draft", "gamma on the draft, constant, threshold 0")


@dataclass(frozen=True, kw_only=True)
class Drafts(GeneratedLanguage):
    """Drafts of one target (`teacher`) that go on from one start, each arm in its own way, and decoding with two.

    The target is smaller than in the studies on prefixes and sparse targets, since it has to speak some thousand calls.
    """

    teacher: str = "llama-2x64"
    teacher_tokens: int = 300_000
    teacher_lr: float = 4e-3
    student: str = "llama-1x32"
    start_tokens: int = 200_000  # of the draft on the text, before the arms part; `tokens` are each arm's
    step: int = 16  # sequences of an arm's optimiser step
    prompt: int = 8  # tokens of text that a draft's own samples begin with, and that is decoded from
    arms: tuple[str, ...] = ARMS
    gammas: tuple[int, ...] = (1, 2, 4, 8)  # of our own decoding
    streams: int = 32  # texts decoded side by side
    assisted: int = 24  # texts decoded by transformers' assisted generation, with `gamma`
    gamma: int = 4


def obtain(experiment: Drafts) -> Record:
    """The record of an experiment, loaded or made.

    Its arrays, with the start and A arms in their order: acceptance, kl (target to draft), entropy (A + 1,), means on
    the target's held-out samples behind the first `prompt` tokens, and nll (A + 1,) on held-out text.
    Of the decoded drafts BASE and KD, G gammas, M the largest: calls, tokens (2, G); reached, accepted, overlap
    (2, G, M): how often each drafted place was looked at, accepted, and the sum of its sum min(p, q).
    Of assisted generation: assisted_calls, assisted_tokens (W,) for the ways WAYS, with the KD draft.
    Metrics: target_nll, target_entropy, language_entropy; seconds a token of target and draft alone and of WAYS[-1];
    greedy_equal, whether greedy assisted generation gave the target's greedy text; parameters of both.
    """

    def make() -> records.Made:
        from kdnb.studies.language_models.drafting import make

        return make(experiment)

    return records.obtain(experiment, make)


def table(found: Mapping[Drafts, Record]) -> pd.DataFrame:
    """A row for each arm and seed, the start among them.

    Returns:
        seed, arm, loss, data; acceptance (mean of sum min(p, q) on the target's samples), kl, entropy and nll [nats].
    """
    rows = []
    for one, record in found.items():
        for i, arm in enumerate((START, *one.arms)):
            loss, _, data = arm.partition(", ")
            values = {name: float(record.arrays[name][i]) for name in ("acceptance", "kl", "entropy", "nll")}
            rows.append({"seed": one.seed, "arm": arm, "loss": loss, "data": data, **values})
    return pd.DataFrame(rows)


def wide(rows: pd.DataFrame, column: str = "acceptance") -> pd.DataFrame:
    """One column of a table: a row for each seed, a column for each arm, in their order."""
    return rows.pivot(index="seed", columns="arm", values=column)[list(dict.fromkeys(rows.arm))]


def calls(found: Mapping[Drafts, Record]) -> pd.DataFrame:
    """Tokens per call of the target, measured and by the formula, for each seed, decoded draft and gamma.

    Returns:
        seed, arm, gamma, calls; measured; alpha, the draft's mean acceptance on the target's samples; formula, of
        alpha as if places were independent; by_place, the same of the mean sum min(p, q) at each drafted place.
    """
    rows = []
    for one, record in found.items():
        for i, arm in enumerate((BASE, KD)):
            alpha = float(record.arrays["acceptance"][1 + one.arms.index(arm)])
            for j, gamma in enumerate(one.gammas):
                a = {n: record.arrays[n][i, j] for n in ("calls", "tokens", "reached", "overlap")}
                chances = a["overlap"][:gamma] / np.maximum(a["reached"][:gamma], 1)
                rows.append(
                    {
                        "seed": one.seed,
                        "arm": arm,
                        "gamma": gamma,
                        "calls": int(a["calls"]),
                        "measured": float(a["tokens"] / a["calls"]),
                        "alpha": alpha,
                        "formula": float(expected_tokens(alpha, gamma)),
                        "by_place": 1 + float(chances.cumprod().sum()),
                    }
                )
    return pd.DataFrame(rows)


def places(found: Mapping[Drafts, Record]) -> pd.DataFrame:
    """Acceptance at each drafted place, with the largest gamma.

    Returns:
        seed, arm, place (from 1), reached; counted, share of the reached that were accepted; exact, mean of
        sum min(p, q) over the reached prefixes: the same chance without the noise of the draws.
    """
    rows = []
    for one, record in found.items():
        j = int(np.argmax(one.gammas))
        for i, arm in enumerate((BASE, KD)):
            reached, accepted, overlap = (record.arrays[n][i, j] for n in ("reached", "accepted", "overlap"))
            rows += [
                {
                    "seed": one.seed,
                    "arm": arm,
                    "place": k + 1,
                    "reached": int(reached[k]),
                    "counted": float(accepted[k] / reached[k]),
                    "exact": float(overlap[k] / reached[k]),
                }
                for k in range(one.gammas[j])
                if reached[k]
            ]
    return pd.DataFrame(rows)


def assistants(found: Mapping[Drafts, Record]) -> pd.DataFrame:
    """Tokens per call of transformers' assisted generation in each of WAYS, beside our own and the formula."""
    rows = []
    for one, record in found.items():
        own = calls({one: record})
        mine = own[(own.arm == KD) & (own.gamma == one.gamma)].iloc[0]
        given = dict(zip(WAYS, record.arrays["assisted_tokens"] / record.arrays["assisted_calls"], strict=True))
        rows.append({"seed": one.seed, **given, "our own": mine.measured, "formula": mine.formula})
    return pd.DataFrame(rows).set_index("seed")


def speed(found: Mapping[Drafts, Record]) -> pd.DataFrame:
    """Wall time with the KD draft, by seed: c, milliseconds a token, measured and promised factor."""
    rows = []
    for one, record in found.items():
        seconds = {name: record.metrics[f"seconds_{name}"] for name in ("target", "draft", "assisted")}
        per_call = assistants({one: record})[WAYS[-1]].iloc[0]
        c = seconds["draft"] / seconds["target"]
        rows.append(
            {
                "seed": one.seed,
                "c": c,
                "tokens per call": per_call,
                "plain [ms]": 1000 * seconds["target"],
                "assisted [ms]": 1000 * seconds["assisted"],
                "measured factor": seconds["target"] / seconds["assisted"],
                "promised factor": per_call / (one.gamma * c + 1),
            }
        )
    return pd.DataFrame(rows).set_index("seed")


_FEW = (BASE, f"{ERM}, {SAMPLES}", KD, f"forward KL, {SAMPLES}", f"TV, {SAMPLES}", f"forward KL, {OWN}")
_TOY: dict[str, Any] = {
    "vocabulary": 5, "length": 24, "rows": 64, "held_rows": 16, "teacher": "llama-1x64", "teacher_tokens": 4000,
    "start_tokens": 1500, "tokens": 1500, "gammas": (1, 2), "streams": 8, "assisted": 1, "gamma": 2, "arms": _FEW,
}  # fmt: skip
_DEMO: dict[str, Any] = {
    "rows": 1000, "held_rows": 32, "teacher_tokens": 200_000, "start_tokens": 100_000, "tokens": 60_000, "streams": 16,
    "assisted": 4, "gammas": (1, 4), "arms": _FEW,
}  # fmt: skip
_SIZES = {"toy": (_TOY, 2), "demo": (_DEMO, 1)}


def experiments(profile: str = "cpu") -> list[Drafts]:
    """All experiments of a profile: "toy", "demo", or any other for the whole."""
    changes, seeds = _SIZES.get(profile, ({}, 3))
    return [Drafts(**changes, seed=seed) for seed in range(seeds)]


def results(profile: str) -> dict[Drafts, Record]:
    """A profile's experiments with their records; for `cpu` those stored, else the others are made now."""
    wanted = experiments(profile)
    return records.those_stored(wanted) if profile == "cpu" else {one: obtain(one) for one in wanted}


def students() -> pd.DataFrame:
    """Stored students cut out of a real teacher, each judged as that teacher's draft on held-out text.

    Returns:
        student, method (erm, ls, kd), divergence, targets, seed; acceptance, kl and nll [nats].
    """
    rows = []
    for run_id in store.stored_ids():
        if not run_id.startswith("lm-") or not (record := records.read_if_whole(store.read, run_id)):
            continue
        config = LMConfig.from_record(record.config)
        if config.student.startswith("cut-") and "acceptance" in record.metrics:
            what = {name: getattr(config, name) for name in ("student", "method", "divergence", "targets", "seed")}
            rows.append(what | {name: record.metrics[name] for name in ("acceptance", "kl", "nll")})
    return pd.DataFrame(rows)
