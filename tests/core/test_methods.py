"""Methods as objects: one class adds a method, with its settings, checks, name, loss and axis of a grid."""

import json
from dataclasses import dataclass, fields, replace

import pytest
import torch
from batches import random_batch

from kdnb.core import methods
from kdnb.core.config import LATER, METHOD_FIELDS, RunConfig, axes, flat
from kdnb.core.losses import erm_loss, kd_loss, ls_loss
from kdnb.core.methods import KD, LS, METHODS, Method, Setting, TeacherFree, batch_loss, used_settings
from kdnb.experiment.training import train

ERM = RunConfig(task="rt", profile="toy", data="0" * 16, method="erm", student="small")


@pytest.fixture
def focal():
    """A method that nobody in the package knows: focal loss (Lin et al. 2017, Eq. 4) with a field of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Focal(Method):
        """-(1 - p_y)^gamma log p_y."""

        name, title = "focal", "Focal loss"
        gamma: float = Setting(low=0, high=10, unit="-", axis=True, help="focus on hard examples").field(2.0)

        def loss(self, logits, labels, soft_targets=None):
            log_p = logits.log_softmax(dim=-1).gather(1, labels[:, None])[:, 0]
            return (-((1 - log_p.exp()) ** self.gamma) * log_p).mean()

    yield Focal
    del METHODS["focal"]


@pytest.mark.slow
def test_a_new_method_is_one_class(focal, toy):
    """Checked, named, read back and trained, with no edit anywhere else."""
    config = RunConfig.of({**flat(ERM), "data": toy.fingerprint, "method": "focal", "gamma": 1.0, "epochs": 1})
    assert config.run_id().startswith("rt-focal-small-s0-")
    assert json.loads(config.to_json())["gamma"] == 1.0
    assert RunConfig.from_dict(json.loads(config.to_json())) == config
    assert config.changed(gamma=3.0).run_id() != config.run_id()
    assert config.gamma == 1.0
    assert "gamma" in methods.all_settings()
    assert methods.all_settings()["gamma"].axis
    run = train(config.changed(precision="fp32"), toy)
    assert run.logits["test"].shape == (32, 2)


def test_a_new_methods_settings_are_checked(focal):
    with pytest.raises(ValueError, match=r"^gamma must be in 0..10|^gamma must be in \[0, 10\], got 11"):
        RunConfig.of({**flat(ERM), "method": "focal", "gamma": 11})
    with pytest.raises(ValueError, match="gamma is no setting of erm, got 1"):
        RunConfig.of({**flat(ERM), "gamma": 1})
    with pytest.raises(TypeError, match="unknown config field 'gama'"):
        RunConfig.of({**flat(ERM), "method": "focal", "gama": 1})


def test_a_new_method_at_gamma_0_is_erm(focal):
    logits, labels = random_batch(3)
    torch.testing.assert_close(focal(gamma=0.0).loss(logits, labels), erm_loss(logits, labels))
    config = RunConfig.of({**flat(ERM), "method": "focal"})
    assert config.gamma == 2.0  # the method's own default
    torch.testing.assert_close(batch_loss(config, logits, labels), focal().loss(logits, labels))


def test_its_axis_is_an_axis_and_its_default_stands_in_tables(focal):
    config = RunConfig.of({**flat(ERM), "method": "focal"})
    assert axes()["gamma"] is float
    assert flat(config)["gamma"] == 2.0
    assert "gamma" not in config.to_json()
    assert "gamma" not in flat(ERM)


def test_a_method_of_the_core_may_be_a_side_of_a_switch_with_its_own_setting(focal, monkeypatch):
    monkeypatch.setattr(focal, "__module__", methods.__name__)
    sides = {**flat(ERM), "method": "switch", "before": "focal", "after": "ls", "alpha": 0.1, "switch_at": 0.5}
    plain = RunConfig.of(sides)
    assert plain.gamma == 2.0
    config = plain.changed(gamma=1)
    assert config.gamma == 1.0
    assert RunConfig.from_dict(json.loads(config.to_json())) == config
    with pytest.raises(ValueError, match=r"gamma must be .*got 11"):
        plain.changed(gamma=11)
    logits, labels = random_batch(3)
    torch.testing.assert_close(batch_loss(config, logits, labels, total=2), focal(gamma=1.0).loss(logits, labels))


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_method_from_elsewhere_is_no_side_of_a_switch(focal, side):
    sides = {"before": "erm", "after": "ls", side: "focal"}
    with pytest.raises(ValueError, match=f"^{side} must be one of erm, ls, kd, tfkd, got 'focal'$"):
        RunConfig.of({**flat(ERM), "method": "switch", **sides})


def test_a_study_s_method_is_no_side_of_a_switch():
    assert methods.known("dkpp")
    with pytest.raises(ValueError, match=r"^after must be one of erm, ls, kd, tfkd, got 'dkpp'$"):
        RunConfig.of({**flat(ERM), "method": "switch", "before": "erm", "after": "dkpp", "teacher_run": "x"})


def test_a_method_is_gone_when_it_is_not_registered():
    with pytest.raises(ValueError, match=r"method must be one of erm, ls, kd, tfkd, switch.* got 'focal'"):
        replace(ERM, method="focal")


@pytest.mark.parametrize("num_classes", [2, 5])
def test_the_objects_have_the_losses_of_the_functions(num_classes):
    logits, labels = random_batch(num_classes)
    teacher, _ = random_batch(num_classes, seed=1)
    torch.testing.assert_close(LS(alpha=0.3).loss(logits, labels), ls_loss(logits, labels, 0.3))
    kd = KD(teacher_run="x", alpha=0.7, tau=4.0, tau2_scaling=False)
    torch.testing.assert_close(
        kd.loss(logits, labels, lambda: teacher), kd_loss(logits, labels, teacher, 0.7, 4.0, tau2_scaling=False)
    )
    assert TeacherFree().loss(logits, labels).isfinite()


def test_every_field_of_a_method_is_a_field_of_a_config_and_has_a_help_text():
    assert set(METHOD_FIELDS) <= {field.name for field in fields(RunConfig)}
    assert all(one.help for one in methods.all_settings().values())
    assert set(LATER) - set(METHOD_FIELDS) == {"optimizer", "momentum", "augment", "model"}
    assert {"alpha", "tau", "lr", "epochs"} <= set(axes())


def test_what_a_method_uses():
    kd = replace(ERM, method="kd", teacher_run="rt-erm-large-s0-abc")
    assert used_settings(ERM) == {}
    assert set(used_settings(kd)) == {"teacher_run", "alpha", "tau", "tau2_scaling"}
    switch = replace(kd, method="switch", before="ls", after="kd", switch_at=0.5)
    assert set(used_settings(switch)) == {*used_settings(kd), "before", "after", "switch_at", "ramp"}
    assert switch.plain() == ERM


@pytest.mark.parametrize(
    ("one", "inside", "outside", "words"),
    [
        (Setting(help="", low=0, high=1), (0, 0.5, 1), (-0.1, 1.1, float("nan")), "in [0, 1]"),
        (
            Setting(help="", low=0, without_low=True, without_high=True),
            (1e-9, 1e9),
            (0, float("inf")),
            "> 0 and finite",
        ),
        (Setting(help="", low=1), (1, 10**9), (0,), ">= 1"),
        (Setting(help="", low=8, high=512, unit="tokens"), (8, 512), (7, 513), "in 8..512 tokens"),
        (Setting(help="", choices=("a", "b")), ("a", "b"), ("c", ""), "one of a, b"),
    ],
)
def test_a_setting_says_what_it_allows(one, inside, outside, words):
    assert all(map(one.allows, inside))
    assert not any(map(one.allows, outside))
    assert one.expected == words
