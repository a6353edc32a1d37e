"""What mutants of the core showed that no quick test held: orders, precisions, first and last steps, words."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from fakes import CONFIG, made_run
from torch import nn

from kdnb.core import loop, metrics
from kdnb.core import store as runs
from kdnb.core.batches import plan_batches
from kdnb.core.config import RunConfig, flat
from kdnb.core.methods import METHODS, Method, Setting, share_after
from kdnb.core.optimizer import FastPath, fast_path
from kdnb.errors import DamagedRun


@dataclass
class Points:
    """Inputs of a network: rows of numbers."""

    rows: torch.Tensor

    def __len__(self):
        return len(self.rows)

    @property
    def lengths(self):
        return np.ones(len(self), dtype=int)

    def take(self, rows):
        return Points(self.rows[rows])

    def batch(self, rows):
        return {"x": self.rows[rows]}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x)


class Beside(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, index):
        return self.weight.square().sum()


def fitted(monkeypatch, **options):
    """(samples, ends, (number, total) of every loss) of a training of 16 rows, four steps an epoch, two epochs."""
    numbers, real, ends = [], loop.batch_loss, []

    def batch_loss(config, logits, labels, soft_targets, number, total):
        numbers.append((number, total))
        return real(config, logits, labels, soft_targets, number, total)

    monkeypatch.setattr(loop, "batch_loss", batch_loss)
    torch.manual_seed(0)
    config = replace(CONFIG, precision="fp32", epochs=2, batch_size=4, history_points=4, history_rows=8)
    points = Points(torch.randn(16, 3))
    samples = loop.fit(
        config,
        Network(),
        {"train": points, "test": points},
        np.arange(16) % 2,
        shorter=[replace(config, epochs=1)],
        on_end=lambda one, rows, seconds: ends.append((one.epochs, [row["step"] for row in rows], seconds)),
        **options,
    )
    return samples, ends, numbers


def test_a_training_is_sampled_from_its_start_to_its_end_and_timed(monkeypatch):
    samples, ends, numbers = fitted(monkeypatch)
    assert [row["step"] for row in samples] == [0, 2, 4, 6, 8]
    assert all(list(row) == runs.CURVES for row in samples)
    assert [(epochs, steps) for epochs, steps, _ in ends] == [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4, 6, 8])]
    assert 0 < ends[0][2] < ends[1][2]
    assert numbers == [(number, 8) for number in range(8)]


def test_what_trains_beside_is_trained(monkeypatch):
    beside = Beside()
    fitted(monkeypatch, beside=beside)
    assert 0 < float(beside.weight) < 1


def test_what_a_model_offers_is_taken():
    offered = FastPath()
    model = nn.Linear(2, 2)
    assert fast_path(model) == offered
    model.fast_path = lambda: offered
    assert fast_path(model) is offered


def test_rows_of_one_length_stay_as_they_were_shuffled():
    lengths = np.random.default_rng(1).integers(1, 4, 640)
    order = np.random.default_rng(0).permutation(640)
    wanted = sorted(order.tolist(), key=lambda row: lengths[row])
    found = {tuple(batch.tolist()) for batch in plan_batches(lengths, 32, np.random.default_rng(0))}
    assert found == {tuple(wanted[i : i + 32]) for i in range(0, 640, 32)}


def test_measures_are_taken_in_double_precision():
    rng = np.random.default_rng(0)
    logits, teacher = (rng.normal(size=(50, 3)).astype(np.float32) for _ in range(2))
    assert metrics.kl_to_teacher(logits, teacher) == metrics.kl_to_teacher(logits.astype(np.float64), teacher)
    confidence = np.float32(1 / 3 + rng.random(50) / 2)
    pairs = zip(
        metrics.reliability(confidence, confidence > 0.6),
        metrics.reliability(confidence.astype(np.float64), confidence > 0.6),
        strict=True,
    )
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)
    edge = np.float32([7 / 15])  # above 7 / 15 in double precision
    assert metrics.reliability(edge, np.ones(1))[0].argmax() == 7


def test_a_hard_switch_is_made_at_its_step():
    assert [share_after(step, 3) for step in (2, 3, 4)] == [0, 1, 1]


def test_a_calibration_error_may_move_by_four_examples_and_no_more():
    logits, labels = made_run().logits["train"], made_run().labels["train"]
    told = metrics.summary(logits, labels)
    metrics.check({**told, "ece": told["ece"] + 3.9 / 12}, logits, labels)
    with pytest.raises(ValueError, match=r"^ece is"):
        metrics.check({**told, "ece": told["ece"] + 4.1 / 12}, logits, labels)


@pytest.mark.parametrize("points", [0, 1])
def test_a_history_may_be_short(store, points):
    run = replace(made_run(), history=made_run().history[:points])
    runs.save(run)
    assert runs.load(CONFIG.run_id()).history == run.history
    first = (store / CONFIG.run_id() / "history.csv").read_text().splitlines()[0]
    assert first == (",".join(runs.CURVES) if points else "step")


def test_what_a_stored_run_tells_by_its_name(store):
    run = made_run()
    runs.save(run)
    assert runs.load_validation(CONFIG.run_id()) == run.metrics["validation"]
    assert runs.kind_of(CONFIG.run_id()) == ""
    path = store / CONFIG.run_id() / "config.json"
    path.write_text(path.read_text().replace("{", '{"kind": "other",', 1))
    assert runs.kind_of(CONFIG.run_id()) == "other"


def test_damage_is_named(store):
    runs.save(made_run())
    path = store / CONFIG.run_id() / "metrics.json"
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1', 1))
    with pytest.raises(DamagedRun, match=r"metrics\.json is not what was written"):
        runs.load(CONFIG.run_id())
    logits, labels = made_run().logits["train"].copy(), made_run().labels["train"]
    logits[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"^its logits are not all finite$"):
        metrics.check({}, logits, labels)
    with pytest.raises(ValueError, match=r"^labels must be in 0\.\.1; hidden labels"):
        metrics.summary(np.zeros((2, 2)), np.array([0, -1]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 1.5}, "epochs must be of type int, got 1.5"),
        ({"method": "tfkd", "confidence": 1.0}, "confidence must be"),
        (
            {
                "method": "kd",
                "teacher_run": "digits-x",
                "task": "digits",
                "student": "mlp-small",
                "augment": "flip-crop",
            },
            "augment must be none with a teacher, whose logits are of images as they are, got 'flip-crop'",
        ),
    ],
)
def test_a_config_says_what_is_wrong(changes, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        replace(CONFIG, **changes)


def test_all_methods_that_have_a_teacher_are_told():
    named = ", ".join(name for name, one in METHODS.items() if one.needs_teacher)
    with pytest.raises(ValueError, match=f"^teacher_run must be a run_id for {named}, empty for the others, got ''$"):
        replace(CONFIG, method="kd")


def test_a_config_without_a_field_says_so():
    with pytest.raises(AttributeError, match=r"^'RunConfig' object has no attribute 'colour'$"):
        _ = CONFIG.colour


def test_a_whole_number_of_a_method_elsewhere_stays_one():
    @dataclass(frozen=True, kw_only=True)
    class Counted(Method):
        """A method with a count."""

        name, title = "counted", "Counted"
        count: int = Setting(low=0, help="so many").field(2)

    try:
        config = RunConfig.of({**flat(CONFIG), "method": "counted", "count": 3})
        assert type(config.count) is int
        assert '"count": 3,' in config.to_json().replace("\n", "") or '"count": 3}' in config.to_json()
    finally:
        del METHODS["counted"]
