"""Temperature: what each library means by it, what its limits leave, and which one is best for which teacher."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from kdnb.core import metrics, store, theory
from kdnb.core.config import Identity
from kdnb.core.entropy import posterior
from kdnb.data.splits import load
from kdnb.experiment import tables
from kdnb.experiment.records import Made, obtain, read_if_whole
from kdnb.studies.dark_knowledge.networks import config_of, trained_logits
from kdnb.sweeps import grids

# Conventions


@dataclass(frozen=True)
class Convention:
    """How one released loss weighs its labels and its teacher, as read in its source.

    weight: what the number called alpha weighs: "soft", "labels", "two" (two free numbers; taken as 1 - alpha and
        alpha), "none" (there is no label term).
    tau2: whether the soft term is multiplied by tau^2.
    class_mean: whether it is averaged over classes too, torch's reduction "mean", and so divided by K.
    tau: "loss", or "sampling" where the temperature only draws texts and the loss stays at 1.
    extra: a further factor on the soft term.
    """

    library: str
    where: str
    weight: str
    tau2: bool
    class_mean: bool
    tau: str = "loss"
    extra: float = 1.0
    note: str = ""

    def weights(self, alpha: float, tau: float, num_classes: int) -> tuple[float, float]:
        """Weights of H(q, p) and of KL(p^t_tau || p_tau), summed over classes, for a typed alpha."""
        hard, soft = {"soft": (1 - alpha, alpha), "labels": (alpha, 1 - alpha), "none": (0.0, 1.0)}.get(
            self.weight, (1 - alpha, alpha)
        )
        soft *= self.extra / (num_classes if self.class_mean else 1)
        return hard, soft * (tau**2 if self.tau2 and self.tau == "loss" else 1)

    def ours(self, alpha: float, tau: float, num_classes: int) -> tuple[float, float, float]:
        """(factor, alpha', c): its soft term is `factor` times ours at the typed alpha; as a whole it is c times
        `kd_loss` at alpha' and the same tau (at tau 1 where tau only samples), up to a constant."""
        hard, soft = self.weights(alpha, tau, num_classes)
        scaled = soft / (tau**2 if self.tau == "loss" else 1)
        return scaled / alpha, scaled / (hard + scaled), hard + scaled


CONVENTIONS = (
    Convention("kdnb", "kdnb/core/losses.py: kd_loss", "soft", tau2=True, class_mean=False),
    Convention(
        "Model-Optimizer", "modelopt/torch/distill/losses.py: LogitsDistillationLoss", "none", tau2=True,
        class_mean=False, note='"batchmean" by default at commit 2da2db9, "mean", over classes too, at a2fbac7',
    ),
    Convention(
        "Model-Optimizer, Megatron", "modelopt/torch/distill/plugins/megatron.py: LogitsKLLoss", "none", tau2=False,
        class_mean=False, note="the same package, and no tau^2",
    ),
    Convention("DistillKit", "distillkit/lossfuncs/kl.py: KLDLoss", "two", tau2=True, class_mean=False),
    Convention("TextBrewer", "src/textbrewer/losses.py: kd_ce_loss", "two", tau2=False, class_mean=False),
    Convention(
        "Liger-Kernel", "src/liger_kernel/chunked_loss/fused_linear_distillation.py", "two", tau2=False,
        class_mean=False, note="the labels' term at temperature 1; .5 and .5 by default",
    ),
    Convention(
        "TRL, GKD", "trl/experimental/gkd/gkd_trainer.py: generalized_jsd_loss", "none", tau2=False, class_mean=False,
        tau="sampling", note="the trainer's temperature draws the student's texts, its loss stays at 1",
    ),
    Convention(
        "torchdistill", "torchdistill/losses/mid_level.py: KDLoss", "labels", tau2=True, class_mean=False,
        note="without labels, or at alpha 0, the tau^2 is gone too",
    ),
    Convention("RepDistiller", "distiller_zoo/KD.py: DistillKL", "two", tau2=True, class_mean=False),
    Convention("mdistiller", "mdistiller/distillers/KD.py: kd_loss", "two", tau2=True, class_mean=False),
    Convention(
        "knowledge-distillation-pytorch", "model/net.py: loss_fn_kd", "soft", tau2=True, class_mean=True,
        note="torch's default reduction",
    ),
    Convention(
        "attention-transfer", "utils.py: distillation", "soft", tau2=True, class_mean=True, extra=2.0,
        note="torch's default reduction, and a factor 2",
    ),
    Convention(
        "Teacher-free KD", "my_loss_function.py: loss_kd", "soft", tau2=True, class_mean=True,
        note="torch's default reduction",
    ),
)  # fmt: skip


def conventions(alpha: float, tau: float, num_classes: int) -> pd.DataFrame:
    """`CONVENTIONS` as a table, with what each trains when one types an alpha and a tau."""
    rows = []
    for one in CONVENTIONS:
        factor, same, scale = one.ours(alpha, tau, num_classes)
        rows.append({**vars(one), "soft term / ours": factor, "our alpha": same, "scale c": scale})
    return pd.DataFrame(rows)


# Limits


def structure(teacher_logits: Tensor, tau: float) -> float:
    """How far a teacher's targets at tau are from uniform: mean total variation, in [0, 1 - 1/K]."""
    p = posterior(teacher_logits, tau)
    return float((p - 1 / p.shape[1]).abs().sum(dim=1).mean() / 2)


def matching_error(logits: Tensor, teacher_logits: Tensor, tau: float) -> float:
    """Relative distance of the soft gradient with tau^2 to its limit, logit matching: tau (p_tau - p^t_tau)."""
    limit = theory.logit_matching_gradient(logits, teacher_logits)
    gradient = tau * (posterior(logits, tau) - posterior(teacher_logits, tau))
    return float((gradient - limit).norm() / limit.norm())


# The best temperature

MEASURES = ("validation_nll", "validation_accuracy", "test_nll", "test_accuracy", "test_entropy")
FEWEST = 3  # temperatures of a seed among which one is chosen
RULE = (2.0, 6.0)  # the advice under test: take a temperature from 2 to 6
TEACHER_EPOCHS = {"toy": (1, 4), "demo": (2, 10, 40), "cpu": (2, 5, 10, 20, 40)}
TAUS = {"toy": (1.0, 4.0), "demo": (1.0, 4.0, 16.0), "cpu": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)}
SEEDS = {"toy": 2, "demo": 2, "cpu": 5}
EPOCHS = {"toy": 2, "demo": 15, "cpu": 30}


@dataclass(frozen=True, kw_only=True)
class BestTau(Identity):
    """Students of one seed, taught by one teacher at several temperatures, alpha 1.

    teacher_epochs: how long the teacher has learnt; 0 for one student of the labels instead, with no tau.
    """

    task: str
    profile: str
    data: str
    teacher_epochs: int
    taus: tuple[float, ...]
    teacher_width: int = 256
    width: int = 64
    epochs: int
    batch_size: int = 32
    lr: float = 2e-3
    seed: int


def configs(profile: str, data: str) -> Iterator[BestTau]:
    """All records of a profile on digits, seed by seed, the students of labels first."""
    base: dict[str, Any] = {"task": "digits", "profile": profile, "data": data, "epochs": EPOCHS[profile]}
    for seed in range(SEEDS[profile]):
        yield BestTau(**base, teacher_epochs=0, taus=(), seed=seed)
        for epochs in TEACHER_EPOCHS[profile]:
            yield BestTau(**base, teacher_epochs=epochs, taus=TAUS[profile], seed=seed)


def make(identity: BestTau) -> Made:
    """Train a teacher and its students, or the student of the labels; array "students" (T, 5) of `MEASURES`."""
    data, teacher = load(identity.task, identity.profile), {}
    seed = identity.seed + 1000  # a student must not start as its teacher did
    if not identity.teacher_epochs:
        all_logits = [trained_logits(config_of(identity, seed, method="erm"), identity.width, data)]
    else:
        own = config_of(identity, identity.seed, method="erm", epochs=identity.teacher_epochs)
        of_teacher = trained_logits(own, identity.teacher_width, data)
        teacher = {split: metrics.summary(of_teacher[split], data.splits[split].labels) for split in of_teacher}
        how = {"method": "kd", "alpha": 1.0, "teacher_run": own.run_id()}
        all_logits = [
            trained_logits(config_of(identity, seed, tau=tau, **how), identity.width, data, None, of_teacher["train"])
            for tau in identity.taus
        ]
    rows = []
    for logits in all_logits:
        of_split = {split: metrics.summary(logits[split], data.splits[split].labels) for split in logits}
        rows.append([of_split[split][name] for split, name in (measure.split("_") for measure in MEASURES)])
    return Made(arrays={"students": np.array(rows, dtype=np.float32)}, metrics={"teacher": teacher})


def study(profile: str) -> pd.DataFrame:
    """Every student on digits, made if it is not stored.

    Returns:
        run_id, seed, teacher_epochs (0: labels), tau (nan: labels), `MEASURES`; of the teacher confidence (mean
        largest posterior on test), entropy [nats] and accuracy on test, train_accuracy.
    """
    profile, rows = profile if profile in SEEDS else "cpu", []
    for one in configs(profile, load("digits", profile).fingerprint):
        record = obtain(one, functools.partial(make, one))
        teacher = record.metrics["teacher"]
        of_teacher = {name: teacher["test"][name] for name in ("confidence", "entropy", "accuracy")} if teacher else {}
        if teacher:
            of_teacher["train_accuracy"] = teacher["train"]["accuracy"]
        for tau, values in zip(one.taus or (np.nan,), record.arrays["students"].tolist(), strict=True):
            fixed = {"run_id": one.run_id(), "seed": one.seed, "teacher_epochs": one.teacher_epochs, "tau": tau}
            rows.append({**fixed, **dict(zip(MEASURES, values, strict=True)), **of_teacher})
    return pd.DataFrame(rows)


def best(table: pd.DataFrame, by: str = "validation_nll") -> pd.DataFrame:
    """Of each teacher and seed the student with the lowest validation NLL, or the highest validation accuracy.

    Equal accuracies are decided by validation NLL.

    Args:
        table: columns seed, tau, teacher_epochs and `MEASURES`.
        by: "validation_nll" or "validation_accuracy".
    """
    ordered = table[table.tau.notna()].sort_values("validation_nll", kind="stable")
    if by == "validation_accuracy":
        ordered = ordered.sort_values("validation_accuracy", ascending=False, kind="stable")
    return ordered.groupby(["teacher_epochs", "seed"], as_index=False).first()


def of_grid(task: str, profile: str) -> pd.DataFrame:
    """The stored runs of the grid "temperature" at alpha 1, with tau^2: seed, tau, `MEASURES`, and the teacher's
    confidence and entropy on test. Seeds with fewer than `FEWEST` temperatures are left out: they leave no choice. So
    are runs that are damaged, or whose teacher is missing or is.

    Args:
        task: a key of TASKS; the grids must be registered (`kdnb.studies.registry.grids`).
        profile: a key of PROFILES.
    """
    found = tables.stored_configs(task, profile)
    read = functools.cache(functools.partial(read_if_whole, store.read_metrics))
    seeds, rows = sorted({config.seed for config in found.values()}), []
    for data in sorted({config.data for config in found.values()}):
        for point in grids.stages("temperature", task, profile, data, seeds).points:
            config = point.config
            if point.arm != "kd_standard" or config.alpha != 1 or not config.tau2_scaling:
                continue
            if config.run_id() in found and all(both := [read(name) for name in (config.run_id(), config.teacher_run)]):
                own, teacher = (metrics for metrics, _ in filter(None, both))
                values = {name: own[name.split("_")[0]][name.split("_")[1]] for name in MEASURES}
                of_teacher = {name: teacher["test"][name] for name in ("confidence", "entropy")}
                rows.append({"seed": config.seed, "tau": config.tau, "teacher_epochs": 0, **values, **of_teacher})
    columns = ["seed", "tau", "teacher_epochs", *MEASURES, "confidence", "entropy"]
    table = pd.DataFrame(rows, columns=columns)
    return table[table.groupby("seed").tau.transform("nunique") >= FEWEST]
