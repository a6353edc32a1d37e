"""The fine-tuning loop, tiny models on generated text: seeds, methods, teachers, curves (T3.2, T4.1)."""

import copy
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from kdnb.core import loop, losses
from kdnb.core.loop import learning_rate
from kdnb.core.methods import batch_loss
from kdnb.core.store import SPLITS
from kdnb.data import splits
from kdnb.experiment import training
from kdnb.experiment.training import train as fit
from kdnb.models import classifiers, text


def same_logits(one, other):
    return all(np.array_equal(one.logits[split], other.logits[split]) for split in SPLITS)


@pytest.fixture
def built(monkeypatch):
    """Every model that is built: (weights at the start, the model itself)."""
    seen, real = [], classifiers.build

    def build(config, what):
        model = real(config, what)
        seen.append((copy.deepcopy(model.state_dict()), model))
        return model

    monkeypatch.setattr(classifiers, "build", build)
    return seen


@pytest.fixture(scope="module")
def erm(toy, quick):
    """An ERM run with its entropy curves: 64 examples, ten epochs."""
    return fit(quick("erm_small", epochs=10, lr=1e-2, history_points=10, history_rows=64), toy)


@pytest.mark.slow
def test_the_loss_falls_and_the_labels_are_learnt(erm, toy):
    first, last = erm.history[1]["loss"], erm.history[-1]["loss"]
    assert last < 0.8 * first
    majority = np.bincount(toy.splits["train"].labels).max() / 64
    assert erm.metrics["train"]["accuracy"] > majority + 0.15  # one label in ten is wrong: 1.0 is out of reach


def test_logits_and_labels_stand_in_the_splits_order(erm, toy):
    for split, part in toy.splits.items():
        assert erm.logits[split].shape == (len(part), 2)
        assert erm.logits[split].dtype == np.float32
        np.testing.assert_array_equal(erm.labels[split], part.labels)


def test_stored_metrics_are_those_of_the_logits(erm):
    for split in SPLITS:
        z, y = erm.logits[split].astype(float), erm.labels[split]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        assert erm.metrics[split]["entropy"] == pytest.approx(scipy_entropy(p, axis=1).mean())
        assert erm.metrics[split]["accuracy"] == np.mean(z.argmax(axis=1) == y)


def test_the_curves_have_their_columns_and_samples(erm):
    assert set(erm.history[0]) == {"step", "epoch", "loss", "running_entropy", "train_entropy", "test_entropy"}
    assert [row["step"] for row in erm.history] == [2 * i for i in range(11)]  # 64 rows, batches of 32, ten epochs
    assert [row["epoch"] for row in erm.history] == list(range(11))
    assert np.isnan(erm.history[0]["loss"])  # nothing has run before the first step
    assert all(np.isfinite(list(row.values())).all() for row in erm.history[1:])


def test_the_curves_end_where_the_run_ends(erm):
    """With as many history rows as examples, the last sample is the finished model on the whole split."""
    for split in ("train", "test"):
        assert erm.history[-1][f"{split}_entropy"] == pytest.approx(erm.metrics[split]["entropy"], abs=1e-4)


def test_an_untrained_model_is_all_but_undecided(erm):
    assert erm.history[0]["test_entropy"] == pytest.approx(np.log(2), abs=0.02)


@pytest.mark.slow
def test_the_curves_cost_no_other_logits(toy, quick):
    """Sampling the curves changes no weight and no random draw."""
    plain, sampled = fit(quick(), toy), fit(quick(history_points=7, history_rows=9), toy)
    assert same_logits(plain, sampled)
    assert plain.history == []


def test_a_run_tells_what_it_cost_and_where(erm):
    cost = erm.metrics["cost"]
    assert {"seconds", "train_seconds", "peak_memory_mib", "device", "precision", "versions", "revision"} <= set(cost)
    assert 0 < cost["train_seconds"] <= cost["seconds"]
    assert cost["precision"] == "fp32"
    assert cost["versions"]["torch"] == version("torch")
    assert cost["peak_memory_mib"] > 50


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_identical_logits(toy, quick, precision):
    config = quick("erm_large", precision=precision, epochs=2)
    torch.manual_seed(1)
    first = fit(config, toy)
    torch.rand(5)  # the caller's own random state does not matter
    assert same_logits(first, fit(config, toy))


@pytest.mark.slow
def test_the_callers_random_state_is_left_alone(toy, quick):
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    fit(quick(), toy)
    assert torch.equal(torch.rand(4), wanted)


@pytest.mark.slow
def test_another_seed_gives_another_start_and_the_same_order(toy, quick, built, monkeypatch):
    orders, real = [], loop.plan_batches

    def plan(*args):
        orders.append(real(*args))
        return orders[-1]

    monkeypatch.setattr(loop, "plan_batches", plan)
    runs = [fit(quick(seed=seed, order_seed=5, batch_size=8), toy) for seed in (0, 1)]
    assert not same_logits(*runs)
    assert not torch.equal(built[0][0]["classifier.weight"], built[1][0]["classifier.weight"])
    assert [rows.tolist() for rows in orders[0]] == [rows.tolist() for rows in orders[1]]


@pytest.mark.slow
def test_another_order_seed_changes_the_order_and_not_the_start(toy, quick, built, monkeypatch):
    orders, real = [], loop.plan_batches

    def plan(*args):
        orders.append(real(*args))
        return orders[-1]

    monkeypatch.setattr(loop, "plan_batches", plan)
    runs = [fit(quick(order_seed=seed, batch_size=8), toy) for seed in (0, 1)]
    assert not same_logits(*runs)
    for name, weight in built[0][0].items():
        assert torch.equal(weight, built[1][0][name]), name
    assert [rows.tolist() for rows in orders[0]] != [rows.tolist() for rows in orders[1]]


@pytest.mark.slow
@pytest.mark.parametrize("tau", [1.0, 8.0])
def test_alpha_0_gives_the_very_weights_of_erm(toy, quick, teacher, built, tau):
    """At equal seed LS, KD and teacher-free KD with no soft target are ERM, to the last bit, dropout and all."""
    erm = fit(quick("erm_small", epochs=2), toy)
    others = [
        fit(quick("ls_small", epochs=2, alpha=0.0), toy),
        fit(quick("kd_self", epochs=2, alpha=0.0, tau=tau, teacher_run=teacher.run_id), toy, teacher),
        fit(quick("tfkd_small", epochs=2, alpha=0.0, tau=tau), toy),
        fit(quick("tfkd_small", epochs=2, alpha=0.0, tau=tau, tfkd_form="released"), toy),
    ]
    for run, (_, model) in zip(others, built[1:], strict=True):
        assert same_logits(erm, run)
        for name, weight in built[0][1].state_dict().items():
            assert torch.equal(weight, model.state_dict()[name]), name


@pytest.mark.slow
def test_every_method_trains_another_model(toy, quick, teacher):
    runs = [
        fit(quick("erm_small"), toy),
        fit(quick("ls_small"), toy),
        fit(quick("kd_self", teacher_run=teacher.run_id), toy, teacher),
        fit(quick("tfkd_small"), toy),
        fit(quick("tfkd_small", tfkd_form="released"), toy),
    ]
    for i, one in enumerate(runs):
        assert not any(same_logits(one, other) for other in runs[:i])
    assert {"agreement", "kl_to_teacher"} <= set(runs[2].metrics["test"])
    assert "agreement" not in runs[0].metrics["test"]


@pytest.mark.slow
def test_ls_raises_entropy_towards_its_optimum(toy, quick, erm):
    """The bound of the theory: at alpha .9 and K = 2 the optimum has .688 nats, far above what ERM ends with."""
    smoothed = fit(quick("ls_small", alpha=0.9, epochs=10, lr=1e-2), toy)
    assert smoothed.metrics["train"]["entropy"] > erm.metrics["train"]["entropy"] + 0.05
    assert smoothed.metrics["train"]["entropy"] > 0.65


@pytest.mark.slow
def test_a_student_never_runs_its_teacher(toy, quick, teacher, built):
    fit(quick("kd_self", teacher_run=teacher.run_id), toy, teacher)
    assert len(built) == 1


@pytest.mark.slow
def test_a_student_sees_each_rows_own_teacher_logits(toy, quick, teacher, monkeypatch):
    """The soft targets of a batch are the stored train logits of the rows in it, in their order."""
    rows, seen, plan, loss = [], [], loop.plan_batches, loop.batch_loss
    monkeypatch.setattr(loop, "plan_batches", lambda *a: rows.append(plan(*a)) or rows[-1])
    monkeypatch.setattr(loop, "batch_loss", lambda c, z, y, t, *at: seen.append((y, t())) or loss(c, z, y, t, *at))
    fit(quick("kd_self", batch_size=8, teacher_run=teacher.run_id), toy, teacher)
    for batch, (labels, soft) in zip(rows[0], seen, strict=True):
        np.testing.assert_array_equal(soft.numpy(), teacher.logits["train"][batch])
        np.testing.assert_array_equal(labels.numpy(), toy.splits["train"].labels[batch])


@pytest.mark.slow
def test_reverse_kd_is_the_same_call_with_the_models_exchanged(toy, quick, teacher):
    large = fit(quick("erm_large"), toy)
    forward = fit(quick("kd_standard", teacher_run=large.run_id), toy, large)
    backward = fit(quick("kd_reverse", teacher_run=teacher.run_id), toy, teacher)
    assert forward.config.student == teacher.config.student == "small"
    assert backward.config.student == large.config.student == "large"
    for student, its_teacher in ((forward, large), (backward, teacher)):
        same = student.logits["test"].argmax(1) == its_teacher.logits["test"].argmax(1)
        assert student.metrics["test"]["agreement"] == pytest.approx(same.mean())


@pytest.mark.slow
def test_a_missing_or_wrong_teacher_is_refused(toy, quick, teacher):
    config = quick("kd_self", teacher_run=teacher.run_id)
    with pytest.raises(ValueError, match=f"teacher run {teacher.run_id} is needed, got none"):
        fit(config, toy)
    with pytest.raises(ValueError, match="is needed, got"):
        fit(replace(config, teacher_run="rt-erm-small-s9-0123456789ab"), toy, teacher)


@pytest.mark.slow
def test_a_teacher_of_another_task_is_refused(quick, teacher):
    other = splits.load("headline", "toy")
    with pytest.raises(ValueError, match=r"was trained on rt .* the student on headline .*must be the same"):
        fit(quick("kd_self", data=other, teacher_run=teacher.run_id), other, teacher)


@pytest.mark.slow
def test_a_teacher_of_another_label_order_is_refused(toy, quick, teacher):
    turned = replace(toy.task, labels=toy.task.labels[::-1])
    other = splits.TaskData(turned, toy.splits, splits._fingerprint(turned, toy.splits))
    with pytest.raises(ValueError, match="label order must be the same"):
        fit(quick("kd_self", data=other, teacher_run=teacher.run_id), other, teacher)


@pytest.mark.slow
def test_data_of_another_config_are_refused(toy, quick):
    with pytest.raises(ValueError, match=f"is for data {'0' * 16}, got {toy.fingerprint}"):
        fit(quick(data=splits.TaskData(toy.task, toy.splits, "0" * 16)), toy)


def test_a_virtual_teacher_below_chance_is_refused(toy, quick):
    with pytest.raises(ValueError, match=r"confidence must be in \(1/2, 1\), got 0.4"):
        fit(quick("tfkd_small", confidence=0.4), toy)


@pytest.mark.parametrize("arm", ["erm_small", "ls_small", "kd_self", "tfkd_small"])
def test_the_loop_trains_on_the_losses_of_kdnb(quick, arm):
    generator = torch.Generator().manual_seed(0)
    z, t = torch.randn(6, 3, generator=generator), torch.randn(6, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    settings = {
        "erm_small": {},
        "ls_small": {"alpha": 0.3},
        "kd_self": {"alpha": 0.3, "tau": 4.0, "teacher_run": "rt-erm-small-s0-abc"},
        "tfkd_small": {"alpha": 0.3, "tau": 4.0},
    }
    config = quick(arm, **settings[arm])
    wanted = {
        "erm_small": lambda: losses.erm_loss(z, labels),
        "ls_small": lambda: losses.ls_loss(z, labels, 0.3),
        "kd_self": lambda: losses.kd_loss(z, labels, t, 0.3, 4.0),
        "tfkd_small": lambda: losses.kd_loss(
            z, labels, losses.virtual_teacher_logits(labels, 3, config.confidence), 0.3, 4.0
        ),
    }[arm]()
    torch.testing.assert_close(batch_loss(config, z, labels, t if arm == "kd_self" else None), wanted)


def test_the_loop_knows_both_forms_of_teacher_free_kd(quick):
    z, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
    released = quick("tfkd_small", alpha=0.3, tau=4.0, tfkd_form="released", multiplier=5.0, confidence=0.99)
    wanted = losses.tfkd_released_loss(z, labels, 0.3, 0.99, 4.0, 5.0)
    torch.testing.assert_close(batch_loss(released, z, labels, None), wanted)
    paper = quick("tfkd_small", alpha=0.3, tau=4.0)
    assert (batch_loss(paper, z, labels, None) - wanted).abs() > 0.1


def test_the_loop_heeds_tau2_scaling(quick):
    z, t, labels = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    config = quick("kd_self", alpha=1.0, tau=4.0, teacher_run="rt-erm-small-s0-abc")
    with_it = batch_loss(config, z, labels, t)
    torch.testing.assert_close(with_it, 16 * batch_loss(replace(config, tau2_scaling=False), z, labels, t))


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_learning_rates_are_those_of_transformers(quick, schedule, warmup):
    from transformers import get_scheduler

    total, config = 40, quick(schedule=schedule, warmup=warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.lr)
    name = "constant_with_warmup" if schedule == "constant" else "linear"
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=int(warmup * total), num_training_steps=total)
    for step in range(total):
        assert learning_rate(config, step, total) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


@pytest.mark.slow
def test_one_training_serves_every_epoch_count_bit_for_bit(toy, quick, teacher):
    kd = {"teacher_run": teacher.run_id, "schedule": "constant", "history_points": 3, "precision": "bf16"}
    configs = [quick("kd_self", epochs=epochs, **kd) for epochs in (3, 1, 4)]
    told, steps = [], []
    shared = training.train_epochs(configs, toy, teacher, lambda step, total, loss: steps.append(step), told.append)
    assert [run.config.epochs for run in shared] == [1, 3, 4]
    assert told == shared
    assert len(steps) == 4 * 2  # 64 rows in batches of 32, once to the longest
    for run in shared:
        alone = training.train(run.config, toy, teacher)
        for split, logits in alone.logits.items():
            np.testing.assert_array_equal(logits, run.logits[split])
        assert [row["test_entropy"] for row in alone.history] == [row["test_entropy"] for row in run.history]
        np.testing.assert_array_equal(
            [row["running_entropy"] for row in alone.history], [row["running_entropy"] for row in run.history]
        )


def test_epoch_counts_of_a_decaying_learning_rate_share_no_training(toy, quick):
    with pytest.raises(ValueError, match="not on one training"):
        training.train_epochs([quick(epochs=1), quick(epochs=2)], toy)


@pytest.mark.slow
def test_the_step_callback_counts_every_step(toy, quick):
    steps = []
    fit(quick(epochs=2, batch_size=24), toy, on_step=lambda step, total, loss: steps.append((step, total, float(loss))))
    assert [step for step, _, _ in steps] == [1, 2, 3, 4, 5, 6]  # 64 rows: batches of 24, 24 and 16, twice
    assert {total for _, total, _ in steps} == {6}
    assert all(np.isfinite(loss) for _, _, loss in steps)


@pytest.mark.slow
def test_the_head_is_new_from_the_seed_and_the_tiny_encoder_too(toy, quick):
    first, again, other = (text.build(quick(seed=seed), toy).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first if "classifier" not in name)
    assert first["classifier.weight"].std() == pytest.approx(0.02, rel=0.3)
    assert (first["classifier.bias"] == 0).all()


@pytest.mark.slow
def test_training_one_model_leaves_the_next_ones_start_alone(toy, quick, built):
    fit(quick(lr=1e-1), toy)
    fit(quick(lr=1e-1), toy)
    for name, weight in built[0][0].items():
        assert torch.equal(weight, built[1][0][name]), name


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_is_on_in_training_and_off_in_evaluation(toy, quick, dropout):

    model = text.build(quick(dropout=dropout), toy)
    tokens = training.encode("tiny-small", toy, 32)
    inputs = tokens["test"].batch(np.arange(8))
    with torch.inference_mode():
        model.train()
        noisy = [model(**inputs) for _ in range(2)]
        model.eval()
        quiet = [model(**inputs) for _ in range(2)]
    assert torch.equal(*noisy) == (dropout == 0)
    assert torch.equal(*quiet)
