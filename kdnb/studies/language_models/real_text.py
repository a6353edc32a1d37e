"""Students of a real teacher on real text: SmolLM2 cut to six layers, on BBC articles, at equal tokens.

What trains is in `kdnb.studies.language_models.runs`; reading the stored runs needs no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kdnb.core import store
from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.experiment.records import read_if_whole
from kdnb.studies.language_models import sizes
from kdnb.studies.language_models.config import LMConfig

if TYPE_CHECKING:
    from kdnb.studies.language_models.runs import Arm, Material

TEACHER, STUDENT = "smollm2", "cut-6"
ERM, LS, FULL = "ERM", "LS 0.1", "KD, whole law"
TOP_64, TOP_8, SAMPLED = "KD, top 64", "KD, top 8", "KD, 8 draws"
ARMS: dict[str, dict[str, Any]] = {
    ERM: {},
    LS: {"alpha": 0.1, "divergence": "uniform"},
    FULL: {"alpha": 1.0, "targets": "cache"},
    TOP_64: {"alpha": 1.0, "targets": "cache", "variant": "tail_bucket"},
    TOP_8: {"alpha": 1.0, "targets": "cache", "variant": "renorm"},
    SAMPLED: {"alpha": 1.0, "targets": "cache", "variant": "sampled"},
}
STORED = {  # arm -> storage and what is kept of each law
    FULL: ("hidden", 1),
    TOP_64: ("top_k", 64),
    TOP_8: ("top_k", 8),
    SAMPLED: ("sampled", 8),
}
SEEDS = (0, 1, 2)
LENGTH, ROWS, HELD_ROWS = 128, 480, 64  # 60,960 tokens told, each twice in a budget
BUDGET: dict[str, Any] = {"tokens": 121_920, "batch_size": 4, "lr": 5e-4, "precision": "fp32"}


def arm(name: str, seed: int) -> "Arm":
    """How an arm's student of a seed is trained; the seed orders the sequences, all start from the same cut."""
    from kdnb.studies.language_models.caching import Wanted
    from kdnb.studies.language_models.runs import Arm

    storage, kept = STORED.get(name, ("top_k", 64))
    changes = {**BUDGET, **ARMS[name], "seed": seed, "order_seed": seed}
    return Arm(student=STUDENT, changes=changes, cache=Wanted(storage=storage, kept=kept, precision="fp32"))


def material() -> "Material":
    """Teacher, train and held-out sequences; MissingAsset where the teacher's package cannot be had."""
    from kdnb.studies.language_models import models, text
    from kdnb.studies.language_models.runs import Material

    teacher = models.load(TEACHER)
    parts = text.split(text.documents("bbc"))
    train = text.blocks(parts["train"], teacher.tokenizer, LENGTH, ROWS)
    return Material(train, text.blocks(parts["test"], teacher.tokenizer, LENGTH, HELD_ROWS), teacher)


def make(names: tuple[str, ...] = tuple(ARMS), seeds: tuple[int, ...] = SEEDS) -> None:
    """Train what is missing, seed by seed: hours on two cores; killed and started again it goes on.

    What `stored` finds is not missing. The committed runs' sequences have the ids that the tokenizer gives today; their
    names hold another hash of it, since transformers then converted it.
    """
    from kdnb.studies.language_models import runs

    there = stored()
    missing = [(name, seed) for seed in seeds for name in names if (name, seed) not in there]
    if not missing:
        return
    shared = material()
    for name, seed in missing:
        config, record = runs.ensure(shared, arm(name, seed))
        print(
            f"{name:<14} seed {seed}: perplexity {record.metrics['perplexity']:.1f}, entropy "
            f"{record.metrics['entropy']:.3f} nats, {config.run_id()}",
            flush=True,
        )


def stored() -> dict[tuple[str, int], Record]:
    """(arm, seed) -> record of what the store has; of students of several texts those of the text that most learned."""
    texts: dict[tuple[str, str], dict[tuple[str, int], Record]] = {}
    for run_id in store.stored_ids():
        if run_id.startswith("lm-") and (record := read_if_whole(store.read, run_id)):
            config = LMConfig.from_record(record.config)
            if config.student == STUDENT and (name := arm_of(config, record.metrics)):
                texts.setdefault((config.data, config.held_out), {})[name, config.seed] = record
    found = max(texts.values(), key=len, default={})
    return dict(sorted(found.items(), key=lambda item: (list(ARMS).index(item[0][0]), item[0][1])))


def arm_of(config: LMConfig, metrics: Mapping[str, Any]) -> str:
    """The arm that a run belongs to, by its config and by what its cache stored; "" if none."""
    if any(getattr(config, name) != value for name, value in BUDGET.items()):
        return ""
    for name, changes in ARMS.items():
        fields = {"alpha": 0.0, "divergence": "forward_kl", "targets": "none", "variant": "tail_bucket", **changes}
        storage, kept = STORED.get(name, (None, None))
        same_cache = metrics.get("storage") == storage and (storage == "hidden" or metrics.get("kept") == kept)
        if same_cache and all(getattr(config, field) == value for field, value in fields.items()):
            return name
    return ""


def table(found: Mapping[tuple[str, int], Record]) -> pd.DataFrame:
    """A row for each arm and seed, with the means of `kdnb.studies.language_models.evaluation.Summary`."""
    names = ("perplexity", "nll", "entropy", "entropy_ratio", "kl", "ece", "accuracy", "agreement", "acceptance")
    rows = [
        {"arm": name, "seed": seed, **{key: record.metrics[key] for key in names if key in record.metrics}}
        for (name, seed), record in found.items()
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True)
class KeptLaws(Identity):
    """What a cache of the teacher's likeliest entries loses on held-out text, by how many are kept."""

    teacher_weights: str
    data: str
    vocabulary: int
    kept: tuple[int, ...] = (8, 64)  # those of STORED


def measure_kept() -> Record:
    """The record of `KeptLaws`, loaded or made: the teacher reads the held-out sequences once, a minute or two.

    Arrays: kl, KL of the law to the one that a cache gives back, its tail spread evenly, and tail, the mass outside;
    (kept, tokens) float16 [nats, share].
    """
    from kdnb.experiment import records
    from kdnb.studies.language_models import sparse, target_cache
    from kdnb.studies.language_models.sparse import Sparse
    from kdnb.studies.language_models.training import Online

    shared = material()
    teacher, held = shared.teacher, shared.held_out
    assert teacher is not None
    one = KeptLaws(teacher_weights=shared.teacher_weights, data=held.fingerprint, vocabulary=teacher.vocabulary)

    def lost(logits: Any, kept: int) -> tuple[Any, Any]:
        law = sparse.top_k(logits, kept)
        stored = Sparse(law.ids, law.weights.half().float(), law.tail.half().float(), law.entropy)
        return target_cache.reconstruction(logits, stored), stored.tail

    def make() -> records.Made:
        import torch

        online, found = Online(teacher, "fp32", teacher.vocabulary), []
        for row in range(len(held)):
            ids = torch.from_numpy(held.ids[row : row + 1].astype(np.int64)).to(teacher.head.weight.device)
            logits = online(np.array([row]), ids, None)(slice(None))
            found.append(torch.stack([torch.stack(lost(logits, kept)) for kept in one.kept]).half().cpu().numpy())
        told = np.concatenate(found, axis=-1)  # (kept, what, tokens)
        return records.Made(arrays={"kl": told[:, 0], "tail": told[:, 1]}, metrics={"tokens": told.shape[-1]})

    return records.obtain(one, make)


def kept_table() -> pd.DataFrame:
    """A row for each number of entries kept: bytes a token, KL lost [nats], mass outside, and the share of tokens with
    more than a tenth of it outside; empty where nothing is stored."""
    rows: list[dict[str, float]] = []
    for run_id in store.stored_ids():
        if run_id.startswith("keptlaws-") and (record := read_if_whole(store.read, run_id)):
            for kept, kl, tail in zip(record.config["kept"], record.arrays["kl"], record.arrays["tail"], strict=True):
                means = {"KL lost": kl, "mass outside": tail, "over a tenth": tail > 0.1}
                size = {"kept": kept, "bytes a token": sizes.bytes_per_token(kept, record.config["vocabulary"])}
                rows.append(size | {name: float(array.mean(dtype=np.float64)) for name, array in means.items()})
    return pd.DataFrame(rows)
