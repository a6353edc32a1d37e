"""What a teacher's states add to labels as these get few: the experiments, their records and tables. No torch.

One teacher a seed, and students that see some of its rows. `little_trainings` beside this module trains them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdnb.core import store
from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.errors import NoRuns
from kdnb.experiment.records import read_if_whole

ARMS: dict[str, dict] = {  # alpha 0: no loss on posteriors beside that on states
    "ERM": {"method": "erm"},
    "KD": {"method": "kd", "alpha": 0.9},
    "hidden, uniform": {"method": "features"},
    "hidden, last": {"method": "features", "layer_map": "last"},
    "hidden, learned": {"method": "features", "layer_map": "learned"},
    "PKD": {"method": "features", "layer_map": "skip", "feature_loss": "pkd"},
    "RKD": {"method": "rkd"},
    "attention": {"method": "features", "feature_loss": "attention"},
    "TinyBERT": {"method": "features", "feature_loss": "tinybert", "layer_map": "tinybert"},
    "KD + hidden": {"method": "features", "alpha": 0.9},
}


@dataclass(frozen=True, kw_only=True)
class LittleData(Identity):
    """One seed's students on one number of rows, and the teacher of all of them.

    The seed decides which rows are the teacher's, which of these are the students', and all weights. Image models are
    spelled by their sizes: "32x32" is an MLP of two hidden layers, "cnn8x16" a CNN of two convolutions.
    """

    task: str
    profile: str
    data: str  # fingerprint of the splits
    teacher: str  # a key of SOURCES, or an image model's sizes
    student: str
    rows: int  # of each student
    teacher_rows: int
    epochs: int
    teacher_epochs: int  # 0: pretrained and no more; its posteriors then mean nothing
    lr: float
    teacher_lr: float
    seed: int
    arms: tuple[str, ...]
    share: float = 0.5  # of the loss on states in the gradient at step 0
    tau: float = 2.0

    def prefix(self) -> str:
        """Task, student, rows and seed."""
        return f"little-{self.task}-{self.student}-{self.rows}-s{self.seed}"


DIGITS = {
    "task": "digits", "teacher": "128x128x128x128", "student": "32x32", "teacher_rows": 1000, "teacher_epochs": 40,
    "lr": 2e-3, "teacher_lr": 1e-3,
}  # fmt: skip
RT = {
    "task": "rt", "teacher": "minilm-6", "student": "minilm-l3", "teacher_rows": 1000, "teacher_epochs": 1, "lr": 2e-4,
    "teacher_lr": 2e-4,
}  # fmt: skip
MNIST5K = DIGITS | {"task": "mnist5k", "teacher": "cnn16x32x64", "student": "cnn4x8", "teacher_epochs": 15}
LADDER = RT | {"teacher": "mpnet-12", "student": "minilm-6", "teacher_rows": 300, "teacher_epochs": 0}  # never tuned
TOY_IMAGES = {"teacher_rows": 48, "teacher_epochs": 5}
TOY = {"teacher": "tiny-3", "student": "tiny-large", "teacher_rows": 48, "lr": 5e-3, "teacher_lr": 5e-3}
WIDE = ("ERM", "KD", "hidden, uniform", "hidden, last", "hidden, learned", "RKD", "KD + hidden")  # of any widths
EQUAL = "equal steps"  # in the name of an experiment whose students take one number of steps, whatever their rows
PLANS: dict[str, dict] = {  # experiment -> what is fixed, rows -> epochs, arms, seeds in the profile cpu
    "digits": {"fixed": DIGITS, "epochs": {50: 160, 100: 80, 300: 40, 1000: 20}, "arms": WIDE, "seeds": 5},
    "rt": {
        "fixed": RT, "epochs": {100: 6, 1000: 1}, "seeds": 3,
        "arms": ("ERM", "KD", "hidden, uniform", "hidden, learned", "PKD", "RKD"),
    },
    f"digits, {EQUAL}": {"fixed": DIGITS, "epochs": {50: 320, 1000: 20}, "arms": WIDE, "seeds": 5},
    f"rt, {EQUAL}": {
        "fixed": RT, "epochs": {100: 8, 1000: 1}, "seeds": 3,
        "arms": ("ERM", "KD", "hidden, uniform", "attention", "TinyBERT", "RKD"),
        "toy": TOY | {"student": "tiny-small"},
    },
    f"mnist5k, {EQUAL}": {
        "fixed": MNIST5K, "epochs": {50: 160, 1000: 10}, "seeds": 5,
        "arms": tuple(arm for arm in WIDE if arm != "hidden, learned"),  # which mixes layers of one width
    },
    "ladder": {"fixed": LADDER, "epochs": {300: 3}, "arms": ("ERM", "hidden, uniform", "RKD"), "seeds": 3},
}  # fmt: skip
TOYS = ("digits", f"rt, {EQUAL}", f"mnist5k, {EQUAL}")  # experiments that a notebook trains to test its code


def identities(name: str, profile: str = "cpu", data: str = "") -> list[LittleData]:
    """The records of an experiment, seed by seed.

    Args:
        name: a key of PLANS.
        profile: "cpu" decides claims; "demo" trains digits anew, three seeds on fewest and most rows; "toy" has
            generated examples.
        data: fingerprint of the splits, "" for any.
    """
    plan = PLANS[name]
    fixed, epochs, arms, seeds = (plan[part] for part in ("fixed", "epochs", "arms", "seeds"))
    if profile == "demo" and name == "digits":
        epochs, seeds = {rows: epochs[rows] for rows in (min(epochs), max(epochs))}, 3
    if profile == "toy":
        fixed = fixed | plan.get("toy", TOY if fixed["task"] == "rt" else TOY_IMAGES)
        epochs, seeds = {16: 4 if EQUAL in name else 2, 48: 2}, 2
    common = {**fixed, "profile": "toy" if profile == "toy" else "cpu", "data": data, "arms": arms}
    return [
        LittleData(**common, rows=rows, epochs=passes, seed=seed)
        for seed in range(seeds)
        for rows, passes in epochs.items()
    ]


def steps(config: Mapping[str, Any], batch_size: int = 32) -> int:
    """Optimiser steps of each student of a record's config: an epoch's batches, the last may be short, times epochs."""
    return -(-config["rows"] // batch_size) * config["epochs"]


def stored(name: str, profile: str = "cpu") -> list[Record]:
    """An experiment's records in the store or among the committed ones, whatever data they name; no data are read.

    Raises NoRuns if one is missing, or damaged, which is said.
    """
    names, found = store.stored_ids(), []
    for identity in identities(name, profile):
        candidates = [
            read_if_whole(store.read, run_id) for run_id in names if run_id.startswith(f"{identity.prefix()}-")
        ]
        wanted = {**identity.values(), "arms": list(identity.arms)}
        same = [one for one in candidates if one and {**one.config, "data": ""} == wanted]
        if not same:
            raise NoRuns(
                f"no record {identity.prefix()} of the experiment {name}: little_trainings.run({name!r}) makes it"
            )
        found.append(same[0])
    return found


def table(found: Iterable[Record]) -> pd.DataFrame:
    """A row per arm of some records.

    Returns:
        task, student, rows, seed, arm; accuracy [share], nll and entropy [nats], agreement with the teacher [share];
        weight; trained, least_squares and mean (squared errors of the projected states, of the best projection's, of
        the mean state's; nan without projections).
    """
    rows = []
    for record in found:
        told = record.config
        for arm in told["arms"]:
            values = record.metrics["arms"][arm]
            what = {name: told[name] for name in ("task", "teacher", "student", "rows", "seed")}
            rows.append({**what, "arm": arm, **{name: values.get(name, np.nan) for name in COLUMNS}})
    return pd.DataFrame(rows)


COLUMNS = ("accuracy", "nll", "entropy", "agreement", "weight", "trained", "least_squares", "mean")


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of all arms but ERM with `gain`, their accuracy minus ERM's of the same seed and rows [points]."""
    keys = ["task", "student", "rows", "seed"]
    erm = table[table.arm == "ERM"].set_index(keys).accuracy
    others = table[table.arm != "ERM"].set_index(keys)
    return others.assign(gain=100 * (others.accuracy - erm.reindex(others.index))).reset_index()


def told(values: pd.Series) -> str:
    """Means of gains by their index of one or several levels, in words: "RKD 50 +2.1"."""
    if values.empty:
        return "nothing"
    names = values.index.to_frame().astype(str).agg(" ".join, axis=1)
    return "; ".join(f"{name} {value:+.1f}" for name, value in zip(names, values, strict=True))
