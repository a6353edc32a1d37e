"""Students of a real teacher on real text: SmolLM2 cut to six layers, on BBC articles, at equal tokens.

What trains is in `kdnb.studies.language_models.runs`; reading the stored runs needs no torch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdnb.core import store
from kdnb.core.store import Record
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
    """(arm, seed) -> record of what the store has."""
    found = {}
    for run_id in store.stored_ids():
        if run_id.startswith("lm-"):
            record = store.read(run_id)
            config = LMConfig.from_record(record.config)
            if config.student == STUDENT and (name := arm_of(config, record.metrics)):
                found[name, config.seed] = record
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
