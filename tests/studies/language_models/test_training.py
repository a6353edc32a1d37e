"""The loop of language models: what is told, how it is counted, resumed to the last bit, cached as online."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import forked
import numpy as np
import pytest
import torch
from safetensors.numpy import save

from kdnb import paths
from kdnb.studies.language_models import evaluation, losses, models, runs, training
from kdnb.studies.language_models.caching import Wanted
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.runs import Arm, Material
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.training import NoTargets, Online, Watch

SOURCE = MarkovSource()


@pytest.fixture(scope="module")
def train():
    return SOURCE.blocks(40, 16, 0)


@pytest.fixture(scope="module")
def held():
    return SOURCE.blocks(6, 16, 1)


def student(seed=0, name="llama-1x32"):
    return models.student(name, None, 64, seed)


@pytest.fixture(scope="module")
def teacher():
    return student(seed=7, name="llama-2x64")


@pytest.fixture
def outputs(store, tmp_path, monkeypatch):
    from kdnb.studies.language_models import target_cache

    monkeypatch.setattr(runs, "MODELS", tmp_path / "lm")
    monkeypatch.setattr(target_cache, "FOLDER", tmp_path / "targets")


def config(train, **changes):
    return LMConfig(
        **{
            "data": train.fingerprint,
            "held_out": "",
            "length": 16,
            "student": "llama-1x32",
            "student_weights": "",
            "vocabulary": 64,
            "tokens": 600,
            "batch_size": 8,
            "lr": 1e-2,
            "precision": "fp32",
            **changes,
        }
    )


def fit(train, soft=None, one=None, **changes):
    one = one or student()
    training.fit(config(train, **changes), one, train, soft or NoTargets())
    return one


def weights(language):
    return torch.cat([p.detach().flatten() for p in language.model.parameters()])


def first_step(train):
    """Loss and gradients of the loop's first step of ERM, and transformers' own."""
    one, setting, found = student(), config(train), []
    ids, rows, told = training.batch(setting, one, train, 0)
    assert told is None
    assert (ids.numpy() == train.ids[rows]).all()
    loss = torch.tensor(training._step(setting, one, NoTargets(), (ids, rows, told)))
    found.append([loss, *(p.grad.clone() for p in one.model.parameters())])
    one.model.zero_grad()
    loss = one.model(input_ids=ids, labels=ids).loss
    loss.backward()
    return *found, [loss.detach(), *(p.grad for p in one.model.parameters())]


def test_the_first_step_of_erm_is_transformers_own_loss(train):
    for ours, theirs in zip(*first_step(train), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_loop_without_the_shift_would_be_caught(train, monkeypatch):
    """Position i tells token i + 1; of a loop that told token i instead the comparison above says so."""
    monkeypatch.setattr(losses, "shifted", lambda hidden, ids, _: (hidden[:, :-1].flatten(0, 1), ids[:, :-1].flatten()))
    ours, theirs = first_step(train)
    assert (ours[0] / theirs[0] - 1).abs() > 1e-3


def test_targets_of_the_wrong_position_are_caught(train, teacher):
    """Student = teacher has KL 0 in either alignment; with the teacher's laws rolled by one it has not."""
    ids = torch.from_numpy(train.ids[:4].astype(np.int64))
    learned = losses.Objective(alpha=1.0)
    hidden, labels = losses.shifted(teacher.hidden(ids), ids)
    laws = teacher.head(hidden)
    for roll, zero in ((0, True), (1, False)):
        taught = laws.roll(roll, 0)
        loss = losses.from_hidden(
            learned, hidden, losses.Head(teacher.head.weight), labels, lambda rows, t=taught: t[rows]
        )
        assert (loss.abs().item() < 1e-3) == zero


def test_micro_batches_of_unequal_counts_are_one_batch(train, teacher):
    """One count divides all: a sequence of which 1 token is told weighs a 1 / 100 beside one of 99."""
    one, two = student(), student()
    ids = torch.from_numpy(SOURCE.blocks(2, 100, 3).ids.astype(np.int64))
    told = torch.ones_like(ids, dtype=torch.bool)
    told[0, 2:] = False
    settings = config(train, batch_size=2, micro_batch=1, length=100, alpha=1.0, targets="online", teacher_weights="x")
    online = Online(teacher, "fp32", 64)
    data = (ids, np.arange(2), told)
    apart = training._step(settings, one, online, data)
    whole = training._step(dataclasses.replace(settings, micro_batch=0), two, online, data)
    assert apart == pytest.approx(whole, rel=1e-6)
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)


def test_what_is_not_told_changes_nothing(train, teacher):
    ids = torch.from_numpy(train.ids[:2].astype(np.int64))
    told = torch.ones_like(ids, dtype=torch.bool)
    told[:, 10:] = False
    setting = config(train, batch_size=2, alpha=0.5, targets="online", teacher_weights="x")
    found = []
    for padding in (0, 63):
        one = student()
        padded = torch.where(told, ids, padding)
        found.append(training._step(setting, one, Online(teacher, "fp32", 64), (padded, np.arange(2), told)))
        found.append(torch.cat([p.grad.flatten() for n, p in one.model.named_parameters() if "layers" in n]))
    assert found[0] == found[2]
    torch.testing.assert_close(found[1], found[3], rtol=0, atol=0)


def test_a_teacher_that_says_nothing_sensible_of_padding_changes_nothing(train, teacher):
    ids = torch.from_numpy(train.ids[:2].astype(np.int64))
    told = torch.ones_like(ids, dtype=torch.bool)
    told[1, 10:] = False
    states, found = teacher.hidden(ids).detach(), []
    for filled in (0.0, float("nan")):
        one, broken = student(), states.clone()
        broken[1, 9:] = filled  # position 9 would tell token 10
        hidden, labels = losses.shifted(one.hidden(ids), ids, told)
        taught, _ = losses.shifted(broken, ids, told)
        soft = losses.FromStates(teacher.head, taught, "fp32", 64)
        loss = losses.from_hidden(losses.Objective(alpha=0.5), hidden, losses.Head(one.head.weight), labels, soft)
        loss.backward()
        found += [loss.detach(), one.head.weight.grad]
    assert found[0].isfinite()
    assert found[0] == found[2]
    torch.testing.assert_close(found[1], found[3], rtol=0, atol=0)


def test_nothing_told_moves_nothing(train):
    one = student()
    ids = torch.from_numpy(train.ids[:2].astype(np.int64))
    told = torch.zeros_like(ids, dtype=torch.bool)
    setting = config(train, batch_size=2)
    loss = training._step(setting, one, NoTargets(), (ids, np.arange(2), told))
    assert loss == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in one.model.parameters())


def test_each_sequence_comes_once_before_any_comes_again(train):
    setting = config(train, tokens=40 * 15 * 2)
    drawn = np.concatenate([training.order(setting, 40, step) for step in range(10)])
    assert sorted(drawn[:40]) == sorted(drawn[40:]) == list(range(40))
    assert (drawn[:40] != drawn[40:]).any()
    assert (training.order(config(train, order_seed=1), 40, 0) != drawn[:8]).any()


def test_a_teacher_stays_as_it_was_and_in_no_optimizer(train, teacher):
    teacher.model.eval()
    before = models.weights_hash(teacher.model)
    fit(train, Online(teacher, "fp32", 64), alpha=1.0, targets="online", teacher_weights="x")
    assert models.weights_hash(teacher.model) == before
    assert all(p.grad is None for p in teacher.model.parameters())
    assert not teacher.model.training


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"alpha": 0.2, "divergence": "uniform"}, {"alpha": 0.9, "targets": "online"}])
def test_training_lowers_its_loss_and_is_the_same_twice(train, teacher, changes):
    targets = None
    if "targets" in changes:
        changes, targets = {**changes, "teacher_weights": "x"}, Online(teacher, "fp32", 64)
    one, two = (fit(train, targets, tokens=3000, **changes) for _ in range(2))
    assert (weights(one) == weights(two)).all()
    setting = config(train, tokens=3000, **changes)
    history = training.fit(setting, student(), train, targets or NoTargets())
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.slow
def test_from_a_cache_of_hidden_states_it_is_the_online_student(train, held, teacher, outputs):
    material = Material(train, held, teacher)
    base = {"tokens": 600, "lr": 1e-2, "alpha": 1.0, "precision": "fp32"}
    online = runs.ensure(material, Arm(student="llama-1x32", changes={**base, "targets": "online"}))[1]
    cached = {**base, "targets": "cache"}
    whole = Wanted(storage="hidden", precision="fp32")
    hidden = runs.ensure(material, Arm(student="llama-1x32", changes=cached, cache=whole))[1]
    assert hidden.metrics["nll"] == pytest.approx(online.metrics["nll"], abs=2e-4)  # states are kept in half precision
    most = runs.ensure(material, Arm(student="llama-1x32", changes=cached, cache=Wanted(kept=63, precision="fp32")))[1]
    assert most.metrics["nll"] == pytest.approx(online.metrics["nll"], abs=5e-3)
    assert (hidden.metrics["storage"], most.metrics["kept"]) == ("hidden", 63)


def test_a_run_is_loaded_the_second_time(train, held, outputs, monkeypatch):
    arm = Arm(student="llama-1x32", changes={"tokens": 400, "precision": "fp32"})
    first = runs.ensure(Material(train, held), arm, keep=True)
    monkeypatch.setattr(training, "fit", None)
    again = runs.ensure(Material(train, held), arm, keep=True)
    assert first[0] == again[0]
    assert first[1].metrics == again[1].metrics
    loaded = models.load(str(runs.model_folder(first[0])))
    judged = evaluation.summary(evaluation.judge(loaded, held))
    assert judged.nll == pytest.approx(first[1].metrics["nll"], abs=1e-6)


def test_killed_while_it_is_judged_a_training_goes_on_from_its_last_state(train, held, outputs, monkeypatch):
    arm, begun = Arm(student="llama-1x32", changes={"tokens": 600, "lr": 1e-2, "precision": "fp32"}), []

    def stopped(*_):
        raise KeyboardInterrupt

    def ensure():
        steps = []
        try:
            runs.ensure(Material(train, held), arm, save_every=0.0, on_step=lambda step, *_: steps.append(step))
        finally:
            begun.append(steps[0])

    with monkeypatch.context() as patch:
        patch.setattr(runs, "judge", stopped)
        with pytest.raises(KeyboardInterrupt):
            ensure()
    ensure()
    assert begun == [1, 5]  # of five steps the state after the fourth is the last that is kept
    assert not list(runs.MODELS.glob("*/state.safetensors"))


@pytest.mark.slow
def test_on_policy_learns_on_its_own_words_up_to_the_end(train, teacher):
    setting = config(train, alpha=1.0, targets="on_policy", divergence="reverse_kl", prompt=4, teacher_weights="x")
    one = student()
    ids, rows, told = training.batch(setting, one, train, 3)
    assert (ids[:, :4].numpy() == train.ids[rows, :4]).all()
    assert not told[:, :4].any()
    assert told[:, 4].all()
    again = training.batch(setting, one, train, 3)
    assert (again[0] == ids).all()  # from seed and step alone
    ends = dataclasses.replace(train, separator=int(ids[0, 6]))
    _, _, told = training.batch(setting, one, ends, 3)
    first_end = int((ids[0, 4:] == ids[0, 6]).float().argmax()) + 4
    assert told[0, : first_end + 1].sum() == first_end - 3
    assert not told[0, first_end + 1 :].any()
    fit(train, Online(teacher, "fp32", 64), alpha=1.0, targets="on_policy", prompt=4, teacher_weights="x")


TRAINER = """
import sys, torch
from pathlib import Path
from kdnb.studies.language_models import models, training
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.source import MarkovSource
torch.set_num_threads(1)
train = MarkovSource().blocks(64, 16, 0)
student = models.student("llama-1x32", None, 64, 0)
config = LMConfig(data=train.fingerprint, held_out="", length=16, student="s", student_weights="", vocabulary=64,
                  tokens=120 * 40, batch_size=8, lr=1e-2, precision="fp32")
watch = training.Watch(Path(sys.argv[1]), 0.0, lambda step, steps, loss: print(step, flush=True))
training.fit(config, student, train, training.NoTargets(), watch)
print(models.weights_hash(student.model), flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_ten_times_it_ends_with_the_same_weights(tmp_path):
    def start(name):
        command = [sys.executable, "-c", TRAINER, str(tmp_path / name)]
        return forked.Popen(command, stdout=subprocess.PIPE)

    undisturbed = start("a").communicate()[0].splitlines()
    assert undisturbed[0] == "1"
    rng, kills, begun = np.random.default_rng(), 0, []
    while True:
        process = start("b")
        begun.append(process.stdout.readline().strip())
        if kills < 10:
            for _ in range(rng.integers(3)):  # a step is told once the state of the one before it lies on the disk
                process.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        last = process.communicate()[0].splitlines()
        if last and len(last[-1]) == 64:
            break
    assert kills >= 5
    assert len(begun[-1]) == 64 or int(begun[-1]) > 1  # it went on, it did not begin anew
    assert last[-1] == undisturbed[-1]


@pytest.mark.slow
def test_a_student_with_dropout_resumes_exactly_and_leaves_torchs_draws_alone(train, tmp_path):
    def gpt2():
        values = {"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "resid_pdrop": 0.5}
        return models.from_config(values, 64, 0)

    def stop(step, *_):
        if step == 2:
            raise KeyboardInterrupt

    torch.manual_seed(1)
    before = torch.get_rng_state()
    undisturbed = fit(train, one=gpt2())
    assert (torch.get_rng_state() == before).all()
    with pytest.raises(KeyboardInterrupt):
        training.fit(config(train), gpt2(), train, NoTargets(), Watch(tmp_path / "state", 0.0, stop))
    torch.manual_seed(2)
    resumed = gpt2()
    training.fit(config(train), resumed, train, NoTargets(), Watch(tmp_path / "state"))
    assert (weights(resumed) == weights(undisturbed)).all()
    assert (weights(fit(train, one=gpt2(), seed=1)) != weights(undisturbed)).any()


def test_a_record_tells_the_precision_it_was_trained_in(train, held, outputs):
    arm = Arm(student="llama-1x32", changes={"tokens": 240, "precision": "bf16"})
    assert runs.ensure(Material(train, held), arm)[1].metrics["cost"]["precision"] == "bf16"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": 0.5}, "alpha > 0 and a divergence"),
        ({"targets": "online", "alpha": 0.5}, "teacher must be given"),
        ({"targets": "online", "teacher_weights": "x"}, "alpha > 0 and a divergence"),
        ({"targets": "cache", "teacher_weights": "x", "alpha": 1.0}, "cache must name a cache"),
        ({"tokens": 10}, "tokens must be at least"),
        ({"micro_batch": 3}, "micro_batch must divide"),
        ({"divergence": "kl"}, "divergence must be one of"),
        ({"targets": "on_policy", "teacher_weights": "x", "alpha": 1.0, "prompt": 16}, "prompt must be below"),
        ({"lr": 0.0}, "lr must be"),
    ],
)
def test_mistakes_are_named(train, changes, words):
    with pytest.raises(ValueError, match=words):
        config(train, **changes)


def test_a_state_of_another_run_and_other_data_are_refused(train, tmp_path):
    state = tmp_path / "state"

    def stop(step, steps, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(config(train), student(), train, NoTargets(), Watch(state, 0.0, stop))
    with pytest.raises(ValueError, match="is the state of"):
        training.fit(config(train, lr=2e-2), student(), train, NoTargets(), Watch(state))
    with pytest.raises(ValueError, match="data: the sequences are"):
        training.fit(config(train), student(), SOURCE.blocks(40, 16, 9), NoTargets())


@pytest.mark.parametrize("how", ["cut", "empty", "a bit", "another file"])
def test_a_state_that_is_not_as_written_is_set_aside_and_not_gone_on_from(train, outputs, tmp_path, capsys, how):
    state, whole = tmp_path / "state.safetensors", fit(train)
    setting, steps = config(train), []
    training.fit(setting, student(), train, NoTargets(), Watch(state, 0.0))
    written = state.read_bytes()
    flipped = written[:-99] + bytes([written[-99] ^ 64]) + written[-98:]
    other = save({"a": np.zeros(2)})
    spoiled = {"cut": written[:-100], "empty": b"", "a bit": flipped, "another file": other}[how]
    state.write_bytes(spoiled)
    one = student()
    training.fit(setting, one, train, NoTargets(), Watch(state, 1e9, lambda step, *_: steps.append(step)))
    assert steps[0] == 1
    assert torch.equal(weights(one), weights(whole))
    assert "the training begins anew" in capsys.readouterr().err
    (aside,) = paths.DAMAGED.iterdir()
    assert aside.read_bytes() == spoiled


def test_a_state_that_is_a_pipe_is_set_aside_and_not_waited_for(train, outputs, tmp_path, capsys):
    state, steps = tmp_path / "state.safetensors", []
    os.mkfifo(state)
    training.fit(config(train), student(), train, NoTargets(), Watch(state, 1e9, lambda step, *_: steps.append(step)))
    assert steps[0] == 1
    assert "no ordinary file" in capsys.readouterr().err


def test_a_student_that_is_not_as_written_is_made_again(train, held, outputs, capsys):
    arm = Arm(student="llama-1x32", changes={"tokens": 240, "lr": 1e-2, "precision": "fp32"})
    found, _ = runs.ensure(Material(train, held), arm, keep=True)
    path = runs.model_folder(found) / "model.safetensors"
    written = path.read_bytes()
    path.write_bytes(written[:-9] + bytes([written[-9] ^ 64]) + written[-8:])
    runs.ensure(Material(train, held), arm, keep=True)
    assert path.read_bytes() == written
    assert "model.safetensors is not what was written" in capsys.readouterr().err
