"""Born-again generations as stored: what each is like, and what their ensembles do beside ERM's. Trains nothing.

Furlanello et al. 2018; uncertainty and diversity as Zhang and Sabuncu 2020 ask for them, by our reconstruction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdnb.core import metrics, store
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.experiment import tables
from kdnb.experiment.tables import Study
from kdnb.studies.dark_knowledge.grids import BAN, ERM, GENERATIONS, ROOT, STRIDE, family
from kdnb.sweeps import grids


@dataclass(frozen=True)
class Family:
    """The stored trainings of one seed: (kind, generation) -> run."""

    seed: int
    runs: dict[tuple[str, int], Run]

    def run(self, kind: str, generation: int = 1) -> Run | None:
        """One of them; None where it is missing."""
        return self.runs.get((kind, generation))

    def bans(self, count: int = 0) -> list[Run]:
        """The born-again models in order, up to the first that is missing: the first `count`, 0 for all."""
        found: list[Run] = []
        while run := self.run(BAN, len(found) + 1):
            found.append(run)
        return found[: count or None]

    def erms(self, count: int = 0) -> list[Run]:
        """The ERM models that teach nobody: the first `count`, 0 for all."""
        found = [run for (kind, _), run in sorted(self.runs.items()) if kind == ERM]
        return found[: count or None]


def study(task: str, profile: str) -> Study | None:
    """The stored runs of the grid `generations`, first models among them; None where there are none."""
    wanted = {member.config.run_id() for first in _firsts(task, profile) for member in family(first)}
    found = tables.stored_configs(task, profile)
    if not any(found[run_id].method != "erm" for run_id in wanted & set(found)):
        return None
    return tables.study(task, profile, lambda config: config.run_id() in wanted)


def families(runs: Study) -> list[Family]:
    """The families of a study, by seed; those without a first model are left out."""
    made = []
    configs = [run.config for run in runs.runs.values() if run.config.method == "erm" and run.config.seed < STRIDE]
    for first in sorted(configs, key=lambda config: config.seed):
        members = {(one.kind, one.generation): one.config.run_id() for one in family(first)}
        stored = {place: runs.runs[run_id] for place, run_id in members.items() if run_id in runs.runs}
        if len(stored) > 1:
            made.append(Family(first.seed, stored))
    return made


def table(members: Sequence[Family]) -> pd.DataFrame:
    """One row per stored training.

    Returns:
        seed, kind, generation; accuracy, entropy, nll and ece on test; uncertainty, the mean entropy on train of what
        it would teach [nats]; diversity, the spread of its largest posterior over train examples; mean_entropy, the
        entropy of its mean posterior on test [nats]; run_id.
    """
    rows = []
    for one in members:
        for (kind, generation), run in one.runs.items():
            test = run.metrics["test"]
            rows.append(
                {
                    "seed": one.seed,
                    "kind": kind,
                    "generation": generation,
                    **{name: test[name] for name in ("accuracy", "entropy", "nll", "ece")},
                    "uncertainty": float(metrics.entropies(run.logits["train"]).mean()),
                    "diversity": float(metrics.posterior(run.logits["train"]).max(axis=1).std()),
                    "mean_entropy": _entropy(metrics.posterior(run.logits["test"]).mean(axis=0)),
                    "run_id": run.run_id,
                }
            )
    return pd.DataFrame(rows)


def ensemble(runs: Sequence[Run]) -> np.ndarray:
    """Log of the mean posterior of some models on test (BANE): (N, K) float64, logits whose softmax is that mean."""
    mean = np.mean([metrics.posterior(run.logits["test"]) for run in runs], axis=0)
    return np.log(np.maximum(mean, np.finfo(np.float64).tiny))


def ensembles(members: Sequence[Family]) -> pd.DataFrame:
    """Ensembles of 1.. generations beside ERM ensembles of equal size and of equal training FLOPs.

    k generations take k + 1 trainings, since the first model teaches; of equal cost is therefore an ensemble of
    k + 1 ERM models, the first model among them.

    Returns:
        seed, size k, kind ("BAN", "ERM, equal size", "ERM, equal FLOPs"); accuracy, nll, entropy, ece on test;
        best_member, mean_member: accuracy of the best member and mean NLL of all.
    """
    rows = []
    for one in members:
        first = [run for run in (one.run(ROOT, 0),) if run]
        for size in range(1, min(len(one.bans()), len(one.erms())) + 1):
            rivals = {
                "BAN": one.bans(size),
                "ERM, equal size": one.erms(size),
                "ERM, equal FLOPs": first + one.erms(size),
            }
            for kind, runs in rivals.items():
                labels = runs[0].labels["test"]
                alone = [run.metrics["test"] for run in runs]
                rows.append(
                    {
                        "seed": one.seed,
                        "size": size,
                        "kind": kind,
                        **_measures(ensemble(runs), labels),
                        "best_member": max(test["accuracy"] for test in alone),
                        "mean_member": float(np.mean([test["nll"] for test in alone])),
                    }
                )
    return pd.DataFrame(rows)


def _measures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    summary = metrics.summary(logits, labels, None)
    return {name: summary[name] for name in ("accuracy", "nll", "entropy", "ece")}


def _entropy(posterior: np.ndarray) -> float:
    """Of one posterior (K,) [nats]."""
    return float(-np.sum(posterior * np.log(np.maximum(posterior, np.finfo(np.float64).tiny))))


def _firsts(task: str, profile: str) -> Iterator[RunConfig]:
    """The configs of the first models that the store may have, by seed: its cut of the data with most runs."""
    stored = [config for config in tables.stored_configs(task, profile).values() if config.seed < STRIDE]
    cuts = pd.Series([config.data for config in stored], dtype=str).value_counts()
    for data in cuts.index[:1]:
        for seed in sorted({config.seed for config in stored if config.data == data}):
            erm = grids.stages(GENERATIONS, task, profile, data, (seed,), erm_only=True).erm
            yield from (point.config for point in erm if store.exists(point.config.run_id()))


def difference(members: Sequence[Family], value) -> pd.Series:
    """value(family) for each family that has it, by seed; families for which it is None are left out."""
    found = {one.seed: value(one) for one in members}
    return pd.Series({seed: number for seed, number in found.items() if number is not None}, dtype=float)


def accuracy(run: Run | None) -> float | None:
    """Test accuracy of a run; None for none."""
    return None if run is None else run.metrics["test"]["accuracy"]
